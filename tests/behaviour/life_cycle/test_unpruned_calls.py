"""Whatever an attached model runs unpruned, it says so, and gives the stock model's bits.

What the caller could change is a warning, once per attached model and cause.
"""

import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache, StaticCache

from fastav_plugin import FastAVCache, FastAVConfig, attach, detach
from fastav_plugin.upstream.arguments import cache_in
from tests.support.cache_names import CACHE, passing
from tests.support.family_copies import omni, run
from tests.support.small_models import config, generate, prompt, qwen2

Use = Callable[[Any, dict[str, Any]], Any]
DIRECT = "this direct call of Qwen2_5OmniThinkerForConditionalGeneration runs unpruned"
NO_MEDIA = "unpruned, because the prompt holds no media tokens"
EMBEDDED = "ran unpruned: the prompt came as embeddings"


Said = Callable[[], list[str]]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    """What the log says since it was last asked, warnings with "WARNING " before them."""
    caplog.set_level(logging.INFO, logger="fastav_plugin")

    def lines() -> list[str]:
        ours = [record for record in caplog.records if record.name.startswith("fastav_plugin")]
        caplog.clear()
        marks = {logging.WARNING: "WARNING ", logging.INFO: ""}
        found = [f"{marks[record.levelno]}{record.getMessage()}" for record in ours]
        return [line for line in found if not line.startswith("fastav: attached ")]

    return lines


def media_among(settings: dict[str, Any], inputs: Any) -> dict[str, Any]:
    """The media that generate() hands to a loop."""
    names = inputs.keys() - {"input_ids", "attention_mask"}
    return {name: settings[name] for name in names & settings.keys()}


def with_labels(model: Any, inputs: Any) -> Any:
    """What evaluators of log-likelihoods call."""
    return model(**inputs, labels=inputs["input_ids"]).logits


def plain(model: Any, inputs: Any) -> Any:
    return model(**inputs).logits


def by_forward(model: Any, inputs: Any) -> Any:
    return model.forward(**inputs).logits


def without_cache(model: Any, inputs: Any) -> Any:
    return model(**inputs, use_cache=False).logits


def dynamic(model: Any, inputs: Any) -> Any:
    return model(**inputs, **passing(DynamicCache())).logits


def static(model: Any, inputs: Any) -> Any:
    past = StaticCache(config=model.config.text_config, max_cache_len=128)
    return model(**inputs, **passing(past)).logits


def loop_by_hand(model: Any, inputs: Any) -> Any:
    """Decoded tokens after the prompt are of the same call."""
    output = model(**inputs)
    past, found = cache_in(output), [output.logits[:, -1]]
    for _ in range(3):
        output = model(input_ids=found[-1].argmax(-1)[:, None], **passing(past))
        found.append(output.logits[:, -1])
    return torch.cat(found)


def inner_model(model: Any, inputs: Any) -> Any:
    """What makes embeddings of a prompt, without the LM head."""
    ids = inputs["input_ids"]
    return model.model(input_ids=ids, inputs_embeds=None).last_hidden_state


def decoder(model: Any, inputs: Any) -> Any:
    return model.get_decoder()(inputs_embeds=model.get_input_embeddings()(inputs["input_ids"]))[0]


@pytest.mark.parametrize(
    "use",
    [
        *(with_labels, plain, by_forward, without_cache, dynamic, static, loop_by_hand),
        *(inner_model, decoder),
    ],
)
def test_a_direct_call(use: Use, pruning: FastAVConfig, said: Said) -> None:
    model, inputs = omni()
    reports: list[Any] = []
    with torch.no_grad():
        stock = use(model, inputs)
        attach(model, pruning, on_report=reports.append)
        for number in range(3):
            assert torch.equal(use(model, inputs), stock)
            (line,) = said()
            assert DIRECT in line
            assert "FastAVCache" in line
            assert line.startswith("WARNING") == (number == 0)
        attach(model, pruning)
        use(model, inputs)
        assert said()[0].startswith("WARNING"), "it is attached anew"
        attach(model, FastAVConfig(method="none"))
        assert torch.equal(use(model, inputs), stock)
        detach(model)
        assert torch.equal(use(model, inputs), stock)
    assert said() == reports == []


def users_cache(model: Any, inputs: Any) -> Any:
    return run(model, inputs, DynamicCache()).sequences


def users_cache_with_drafts(model: Any, inputs: Any) -> Any:
    """Drafts are checked several tokens at a time; it is one generate() all the same."""
    return run(model, inputs, DynamicCache(), prompt_lookup_num_tokens=3).sequences


def users_cache_over_two_turns(model: Any, inputs: Any) -> Any:
    """The second generate() gets a cache that holds the first turn."""
    past = DynamicCache()
    run(model, inputs, past)
    for_text = inputs["input_ids"][:, -5:].clamp(max=60)
    ids = torch.cat([inputs["input_ids"], torch.ones_like(for_text[:, :4]), for_text], dim=1)
    return run(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, past).sequences


def bare_loop(model: Any, inputs: Any) -> Any:
    """A loop of the hub that passes all tokens at every step."""

    def loop(model: Any, input_ids: Any, **settings: Any) -> Any:
        media = media_among(settings, inputs)
        for _ in range(3):
            logits = model(input_ids=input_ids, **media, use_cache=False).logits
            input_ids = torch.cat([input_ids, logits[:, -1:].argmax(-1)], dim=1)
        return input_ids

    return model.generate(**inputs, custom_generate=loop, max_new_tokens=3)


def loop_with_a_cache_of_its_own(model: Any, inputs: Any) -> Any:
    def loop(model: Any, input_ids: Any, **settings: Any) -> Any:
        media = media_among(settings, inputs)
        past = DynamicCache()
        logits = model(input_ids=input_ids, **media, **passing(past)).logits
        for _ in range(3):
            new = logits[:, -1:].argmax(-1)
            input_ids = torch.cat([input_ids, new], dim=1)
            logits = model(input_ids=new, **passing(past)).logits
        return input_ids

    return model.generate(**inputs, custom_generate=loop, max_new_tokens=3)


@pytest.mark.parametrize(
    ("use", "calls", "line"),
    [
        (users_cache, 1, "got a DynamicCache of the caller's and runs unpruned"),
        (users_cache_with_drafts, 1, "got a DynamicCache of the caller's and runs unpruned"),
        (users_cache_over_two_turns, 2, "got a DynamicCache of the caller's and runs unpruned"),
        (bare_loop, 1, "calls the model without a cache and runs unpruned"),
        (loop_with_a_cache_of_its_own, 1, "got a DynamicCache of the caller's and runs unpruned"),
    ],
)
def test_a_generate_with_a_cache_or_a_loop_of_the_callers(
    use: Use, calls: int, line: str, pruning: FastAVConfig, said: Said
) -> None:
    model, inputs = omni()
    reports: list[Any] = []
    stock = use(model, inputs)
    attach(model, pruning, on_report=reports.append)
    for number in range(2):
        assert torch.equal(use(model, inputs), stock)
        lines = said()
        assert len(lines) == calls
        assert all(f"this generate() {line}" in one for one in lines)
        assert [one.startswith("WARNING") for one in lines] == (
            [not number] + [False] * (calls - 1)
        )
    assert reports == [None] * calls * 2
    attach(model, FastAVConfig(method="none"))
    assert torch.equal(use(model, inputs), stock)
    lines = said()
    assert len(lines) == calls
    assert all("this generate() ran unpruned, because the method is 'none'" in one for one in lines)


def text_only(model: Any, inputs: Any) -> Any:
    ids = inputs["input_ids"][:, -8:].clamp(max=60)
    return run(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}).sequences


def ids_and_embeddings(model: Any, inputs: Any) -> Any:
    whole = model.get_input_embeddings()(inputs["input_ids"])
    return run(model, {**inputs, "inputs_embeds": whole}).sequences


def embeddings_alone(model: Any, inputs: Any) -> Any:
    whole = model.get_input_embeddings()(inputs["input_ids"])
    mask = inputs["attention_mask"]
    return run(model, {"inputs_embeds": whole, "attention_mask": mask}).sequences


@pytest.mark.parametrize(
    ("use", "line"),
    [(text_only, NO_MEDIA), (ids_and_embeddings, EMBEDDED), (embeddings_alone, EMBEDDED)],
)
def test_a_generate_with_nothing_to_prune(
    use: Use, line: str, pruning: FastAVConfig, said: Said
) -> None:
    model, inputs = omni()
    reports: list[Any] = []
    stock = use(model, inputs)
    attach(model, pruning, on_report=reports.append)
    for number in range(2):
        assert torch.equal(use(model, inputs), stock)
        (found,) = said()
        assert line in found
        assert reports[0].reason in found
        assert found.startswith("WARNING") == (line is EMBEDDED and number == 0)


def loop_with_the_cache_it_is_given(model: Any, inputs: Any) -> Any:
    def loop(model: Any, input_ids: Any, **settings: Any) -> Any:
        media = media_among(settings, inputs)
        model(input_ids=input_ids, **media, **passing(settings[CACHE]))
        return input_ids

    return model.generate(**inputs, custom_generate=loop, max_new_tokens=3)


@pytest.mark.parametrize(
    "use",
    [
        lambda model, inputs: run(model, inputs),
        lambda model, inputs: run(model, inputs, num_beams=2),
        lambda model, inputs: run(model, inputs, prompt_lookup_num_tokens=3),
        loop_with_the_cache_it_is_given,
    ],
    ids=["greedy", "beams", "drafts", "loop"],
)
def test_what_is_pruned_says_what_was_dropped(use: Use, pruning: FastAVConfig, said: Said) -> None:
    model, inputs = omni()
    reports: list[Any] = []
    attach(model, pruning, on_report=reports.append)
    use(model, inputs)
    (line,) = said()
    assert re.fullmatch(r"fastav: .* tokens; \d+ -> .*; FLOPs .* % of dense; KV .* kB", line)
    assert [report.reason for report in reports] == [None]


@pytest.mark.parametrize("attached", [False, True])
def test_a_generate_with_a_fastav_cache(attached: bool, pruning: FastAVConfig, said: Said) -> None:
    """It says what its prompt left; a direct call is a loop of the caller, who asks the cache."""
    model, inputs = omni()
    if attached:
        attach(model, pruning)
    with torch.no_grad():
        model(**inputs, **passing(FastAVCache(pruning)))
    assert said() == []
    past = FastAVCache(pruning)
    run(model, inputs, past)
    (line,) = said()
    assert line.startswith("fastav: ")
    assert line.split("; KV")[0] in f"fastav: {past.report()}"
    run(model, inputs, FastAVCache(FastAVConfig(method="none")))
    assert "unpruned, because the method is 'none'" in said()[0]


def test_a_loop_that_leaves_the_pruned_cache_says_so(pruning: FastAVConfig, said: Said) -> None:
    """Loops that look at the prompt a second time, as contrastive ones do."""
    model, inputs = omni()

    def loop(model: Any, input_ids: Any, **settings: Any) -> Any:
        media = media_among(settings, inputs)
        model(input_ids=input_ids, **media, **passing(settings[CACHE]))
        model(input_ids=input_ids, **media)
        return input_ids

    reports: list[Any] = []
    attach(model, pruning, on_report=reports.append)
    model.generate(**inputs, custom_generate=loop, max_new_tokens=3)
    line, report = said()
    assert "calls the model again, without the cache that is pruned" in line
    assert line.startswith("WARNING ")
    assert "FLOPs" in report
    assert reports[0].flops_ratio < 1


def test_an_attached_assistant_speaks_for_itself(said: Said) -> None:
    """Its own generate() hands it a cache again and again, which it did not make."""
    model, assistant = qwen2(), qwen2(seed=1)
    stock = generate(model, prompt(), assistant_model=assistant)
    reports: list[Any] = []
    attach(assistant, config(), on_report=reports.append)
    out = generate(model, prompt(), assistant_model=assistant)
    assert torch.equal(out.sequences, stock.sequences)
    assert NO_MEDIA in said()[0]
    assert reports[0].reason is not None


@pytest.mark.parametrize("fullgraph", [False, True])
def test_a_compiled_direct_call_says_so_when_it_is_compiled(fullgraph: bool, said: Said) -> None:
    model = attach(qwen2(), config())
    torch._dynamo.reset()
    model.compile(backend="eager", fullgraph=fullgraph)
    with torch.no_grad():
        for _ in range(2):
            model(input_ids=prompt())
    torch._dynamo.reset()
    (line,) = said()
    assert "this direct call of Qwen2ForCausalLM runs unpruned" in line


PLAIN = """
import torch
from fastav_plugin import attach
from tests.support.small_models import config, generate, prompt, qwen2

model = attach(qwen2(), config())
with torch.no_grad():
    for _ in range(3):
        model(input_ids=prompt())
generate(model, prompt(), inputs_embeds=model.get_input_embeddings()(prompt()))
"""


def test_a_script_that_sets_up_no_log_shows_the_warnings_alone() -> None:
    """By Python's handler of last resort; the library installs none."""
    done = subprocess.run(
        [sys.executable, "-c", PLAIN],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    ours = [line for line in done.stderr.splitlines() if "fastav" in line]
    assert ours == [
        "fastav: this direct call of Qwen2ForCausalLM runs unpruned, for only generate() is "
        "pruned. Pass a FastAVCache to prune it. Later ones are logged at INFO.",
        "fastav: this generate() ran unpruned: the prompt came as embeddings: pass a TokenMap to "
        "FastAVCache. Later ones are logged at INFO.",
    ]
    assert not done.stdout
    assert logging.getLogger("fastav_plugin").handlers == []
