"""Packed questions get the logits that each gets alone."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fastav_plugin.lab.real_audio.prompts import END, START
from fastav_plugin.lab.real_audio.training.packing import Branch, Prefix, predict

SIZES = ((7, 0.0), (4, 0.0), (9, 0.4))
BRANCHES = [
    [Branch([5, 6], [7, 8, END], "lookup"), Branch([9], [10, END], "claim", 0.5)],
    [Branch([11, 12, 13], [14, END], "lookup")],
    [Branch([15], [16, END], "lookup"), Branch([5], [17, 18, END], "transcript", 0.3)],
]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    model = LlamaForCausalLM(config)
    model.train(False)
    return model


@pytest.fixture(scope="module")
def prefixes() -> list[Prefix]:
    torch.manual_seed(1)
    found = [Prefix.whole(torch.randn(size, 16)).drop(share) for size, share in SIZES]
    assert len(found[2].embeddings) < 9 == found[2].length
    return found


def alone(model: LlamaForCausalLM, prefix: Prefix, branch: Branch) -> torch.Tensor:
    """Logits at the answer's tokens of one question after one prefix, without packing."""
    table: torch.Tensor = model.model.embed_tokens.weight
    ids = torch.tensor([*branch.prompt, *branch.answer[:-1]])
    embeddings = torch.cat([table[[START]], prefix.embeddings, table[ids]])
    after = torch.arange(len(ids)) + prefix.length + 1
    positions = torch.cat([torch.tensor([0]), prefix.positions + 1, after])
    logits: torch.Tensor = model(
        inputs_embeds=embeddings[None], position_ids=positions[None]
    ).logits[0]
    return logits[-len(branch.answer) :]


@torch.no_grad()
def test_a_packed_question_is_as_if_alone(model: LlamaForCausalLM, prefixes: list[Prefix]) -> None:
    found = predict(model, prefixes, BRANCHES)
    expected, targets = [], []
    for prefix, row in zip(prefixes, BRANCHES, strict=True):
        for branch in row:
            expected.append(alone(model, prefix, branch))
            targets += branch.answer
    torch.testing.assert_close(found.logits, torch.cat(expected), rtol=1e-4, atol=1e-5)
    assert found.targets.tolist() == targets


@torch.no_grad()
def test_the_loss_is_the_weighted_mean(model: LlamaForCausalLM, prefixes: list[Prefix]) -> None:
    found = predict(model, prefixes, BRANCHES)
    losses = -found.logits.log_softmax(-1)[torch.arange(len(found.targets)), found.targets]
    weights = torch.tensor([1.0] * 3 + [0.5] * 2 + [1.0] * 2 + [1.0] * 2 + [0.3] * 3)
    torch.testing.assert_close(found.loss(), (losses * weights).sum() / weights.sum())
    assert {kind: len(each) for kind, each in found.by_kind().items()} == {
        "lookup": 7,
        "claim": 2,
        "transcript": 3,
    }


@torch.no_grad()
def test_an_answer_is_right_where_all_its_tokens_are(
    model: LlamaForCausalLM, prefixes: list[Prefix]
) -> None:
    likeliest = predict(model, prefixes[:1], BRANCHES[:1]).logits.argmax(-1).tolist()
    first = BRANCHES[0][0]
    # Only the first token of an answer does not depend on the answer before it.
    one = Branch(first.prompt, likeliest[:1], "lookup")
    other = Branch(first.prompt, [likeliest[0] + 1 & 31], "lookup")
    found = predict(model, prefixes[:1], [[one, other]]).right()
    assert found == {(0, 0): True, (0, 1): False}
    two = Branch(first.prompt, [likeliest[0], 39 - likeliest[0]], "lookup")
    after = int(predict(model, prefixes[:1], [[two]]).logits[1].argmax())
    both = Branch(first.prompt, [likeliest[0], after], "lookup")
    wrong = Branch(first.prompt, [likeliest[0], (after + 1) % 40], "lookup")
    assert predict(model, prefixes[:1], [[both, wrong]]).right() == {(0, 0): True, (0, 1): False}
