"""Several questions about one sound in one row: the sound is computed once for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.lab.real_audio.prompts import END, START


@dataclass(frozen=True)
class Branch:
    """A question that sees the sound and itself.

    Args:
        prompt: token ids of the question.
        answer: token ids of the answer.
        kind: what it is counted as.
        weight: of its tokens in the loss.
    """

    prompt: list[int]
    answer: list[int]
    kind: str
    weight: float = 1.0


@dataclass(frozen=True)
class Prefix:
    """What stands before the questions, some of it perhaps dropped.

    Args:
        embeddings: float [n, C].
        positions: int64 [n], ascending, from 0.
        length: positions that the whole would take.
    """

    embeddings: Tensor
    positions: Tensor
    length: int

    @classmethod
    def whole(cls, embeddings: Tensor) -> "Prefix":
        """One of which nothing is dropped."""
        return cls(embeddings, torch.arange(len(embeddings)), len(embeddings))

    def drop(self, share: float) -> "Prefix":
        """Without a random share of its tokens; the others keep their positions."""
        kept = torch.rand(len(self.embeddings)) >= share
        return Prefix(self.embeddings[kept], self.positions[kept], self.length)


@dataclass(frozen=True)
class Predictions:
    """What the model predicts at the answers' tokens.

    Args:
        logits: float [N, vocabulary].
        targets: int64 [N].
        owners: row and branch of each.
        branches: of each row.
    """

    logits: Tensor
    targets: Tensor
    owners: list[tuple[int, int]]
    branches: list[list[Branch]]

    def loss(self) -> Tensor:
        """Weighted mean of the cross-entropy over all answer tokens."""
        weights = torch.tensor([self.branches[row][i].weight for row, i in self.owners])
        losses = self.losses()
        return (losses * weights).sum() / weights.sum()

    def losses(self) -> Tensor:
        """Cross-entropy of each answer token, float [N]."""
        return torch.nn.functional.cross_entropy(self.logits, self.targets, reduction="none")

    def by_kind(self) -> dict[str, list[float]]:
        """Cross-entropies of the answers' tokens by kind."""
        found: dict[str, list[float]] = {}
        for (row, index), loss in zip(self.owners, self.losses().tolist(), strict=True):
            found.setdefault(self.branches[row][index].kind, []).append(loss)
        return found

    def right(self) -> dict[tuple[int, int], bool]:
        """Whether every token of an answer is the likeliest, by row and branch."""
        hits = (self.logits.argmax(-1) == self.targets).tolist()
        found: dict[tuple[int, int], bool] = {}
        for owner, hit in zip(self.owners, hits, strict=True):
            found[owner] = found.get(owner, True) and hit
        return found


def predict(
    model: Any, prefixes: Sequence[Prefix], branches: Sequence[list[Branch]]
) -> Predictions:
    """Run the language model over rows of prefix and branches.

    Row layout: the start token, the prefix, padding to the longest prefix, the branches, padding.
    A branch sees the start, the prefix and itself, at the positions after the prefix.
    """
    table: Tensor = model.get_input_embeddings().weight
    first = max(len(each.embeddings) for each in prefixes) + 1
    length = first + max(sum(map(_size, row)) for row in branches)
    mask = torch.eye(length, dtype=torch.bool).repeat(len(prefixes), 1, 1)
    positions = torch.zeros(len(prefixes), length, dtype=torch.long)
    rows, places, targets, owners = [], [], [], []
    for row, (prefix, asked) in enumerate(zip(prefixes, branches, strict=True)):
        count = len(prefix.embeddings) + 1
        mask[row, :count, :count] = torch.ones(count, count, dtype=torch.bool).tril()
        positions[row, 1:count] = prefix.positions + 1
        start, ids = first, []
        for index, branch in enumerate(asked):
            stop = start + _size(branch)
            span = slice(start, stop)
            ids += [*branch.prompt, *branch.answer[:-1]]
            mask[row, span, :count] = True
            mask[row, span, span] = torch.ones(stop - start, stop - start, dtype=torch.bool).tril()
            positions[row, span] = torch.arange(stop - start) + prefix.length + 1
            places += [(row, place) for place in range(stop - len(branch.answer), stop)]
            targets += branch.answer
            owners += [(row, index)] * len(branch.answer)
            start = stop
        ids += [END] * (length - first - len(ids))
        padding = table.new_zeros(first - count, table.shape[1])
        parts = [table[[START]], prefix.embeddings, padding, table[torch.tensor(ids)]]
        rows.append(torch.cat(parts))
    hidden = model.model(
        inputs_embeds=torch.stack(rows),
        attention_mask=_additive(mask),
        position_ids=positions,
        use_cache=False,
    ).last_hidden_state
    at = torch.tensor(places)
    logits = model.lm_head(hidden[at[:, 0], at[:, 1]])
    return Predictions(logits, torch.tensor(targets), owners, list(branches))


def _size(branch: Branch) -> int:
    return len(branch.prompt) + len(branch.answer) - 1


def _additive(mask: Tensor) -> Tensor:
    low = torch.finfo(torch.float32).min
    return torch.zeros(mask.shape).masked_fill(~mask, low)[:, None]  # [B, 1, T, T]
