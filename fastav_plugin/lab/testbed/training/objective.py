"""The training loss: answers, and dense targets for the encoders tied to the words' embeddings."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from fastav_plugin.lab.testbed.tasks import TASKS
from fastav_plugin.lab.testbed.training import packing
from fastav_plugin.lab.testbed.training.batches import IGNORED, Batch
from fastav_plugin.lab.testbed.words import TURN_END, vocabulary
from fastav_plugin.lab.testbed.world import COLOURS, SHAPES, SOUNDS

Scores = dict[str, tuple[float, int]]


class DenseTargets(nn.Module):
    """Name what each media token shows, by cosine with the embeddings of the words for it.

    Perception is learned in minutes this way, and in the language that the questions use. The
    few parameters are of use in training only.
    """

    def __init__(self) -> None:
        """Start with a scale at which a cosine of one half is already a clear answer."""
        super().__init__()
        self.scale = nn.Parameter(torch.full((3,), 12.0))
        self.threshold = nn.Parameter(torch.full((3,), 4.0))
        ids = vocabulary()
        names = {"shapes": SHAPES, "colours": COLOURS, "sounds": SOUNDS}
        self.words = {name: [ids[word] for word in words] for name, words in names.items()}

    def forward(
        self, embedding: Tensor, video: Tensor, audio: Tensor, batch: Batch
    ) -> tuple[Tensor, Scores]:
        """Compute the loss of all tokens, and how many shapes, colours and sounds are right."""
        losses, scores = [], Scores()
        for index, name in enumerate(("shapes", "colours")):
            labels: Tensor = getattr(batch, name)
            logits = self._logits(index, embedding[self.words[name]], video)
            # The extra logit stands for "nothing here".
            logits = F.pad(logits, (0, 1))
            losses.append(
                F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
            )
            shown = (labels != IGNORED) & (labels != len(SHAPES))
            right = (logits.argmax(-1) == labels)[shown]
            scores[name] = (float(right.sum()), right.numel())
        logits = self._logits(2, embedding[self.words["sounds"]], audio)
        losses.append(len(SOUNDS) / 2 * F.binary_cross_entropy_with_logits(logits, batch.sounds))
        heard = batch.sounds > 0.5
        right = (logits > 0)[heard]
        scores["sounds"] = (float(right.sum()), right.numel())
        return torch.stack(losses).sum(), scores

    def _logits(self, index: int, words: Tensor, rows: Tensor) -> Tensor:
        cosine = F.normalize(rows.float(), dim=-1) @ F.normalize(words.float(), dim=-1).T
        return self.scale[index] * cosine - self.threshold[index]


def compute_loss(
    model: Qwen2_5OmniThinkerForConditionalGeneration,
    dense: DenseTargets,
    batch: Batch,
    *,
    dense_weight: float,
    towers_only: bool,
) -> tuple[Tensor, Scores]:
    """Compute the loss of a batch and what was right in it.

    Args:
        model: the thinker.
        dense: the dense targets.
        batch: clips and questions.
        dense_weight: weight of the dense targets relative to the answers.
        towers_only: leave the language model out.

    Returns:
        The loss, and per task and dense target the number of right answers and of answers.
    """
    embedding: Any = model.get_input_embeddings().weight
    if towers_only:
        video, audio = packing.encode_media(model, batch)
        return dense(embedding, video, audio, batch)  # type: ignore[no-any-return]
    packed = packing.forward(model, batch)
    loss, scores = dense(embedding, packed.video, packed.audio, batch)
    asked = batch.targets != IGNORED
    targets = batch.targets[asked]
    logits = model.lm_head(packed.hidden[asked]).float()
    answers = F.cross_entropy(logits, targets)
    is_answer = targets != vocabulary()[TURN_END]
    right = (logits.argmax(-1) == targets)[is_answer]
    for index, task in enumerate(TASKS):
        of_task = right[batch.tasks.flatten() == index]
        scores[task] = (float(of_task.sum()), of_task.numel())
    return answers + dense_weight * loss, scores
