"""A FastAVCache that is saved, copied or iterated over, as a DynamicCache may be."""

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoProcessor, DynamicCache
from transformers import Qwen2_5OmniThinkerForConditionalGeneration as Omni

from fastav_plugin import (
    FastAVCache,
    FastAVConfig,
    LayerHookList,
    StateError,
    TokenMap,
    attach,
    detach,
)
from fastav_plugin.hooks import DivPrune, GlobalPruning
from fastav_plugin.hooks.registry import METHODS
from fastav_plugin.lab.testbed.model import MODEL_PATH, prepare_inputs
from fastav_plugin.lab.testbed.samples import SAMPLES
from fastav_plugin.media.clips import read_clip
from tests.support.cache_names import passing
from tests.support.cases import config_of
from tests.support.families import FAMILIES, build
from tests.support.oracle import Run, run
from tests.support.small_models import (
    COUNTS,
    LENGTH,
    cache,
    config,
    generate,
    global_hooks,
    prompt,
    qwen2,
    same,
)
from tests.support.small_models import tokens as prompt_map
from tests.support.turns import later_inputs, turns_of

Save = Callable[[Any], Any]
#: Where a fresh process finds `continue_from`.
MODULE = __name__
ROOT = Path(__file__).parents[3]


def pickled(past: Any) -> Any:
    return pickle.loads(pickle.dumps(past))


def by_torch(past: Any) -> Any:
    file = io.BytesIO()
    torch.save(past, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


each_way = pytest.mark.parametrize("save", [pickled, by_torch])


def filled(model: Any, **changes: Any) -> tuple[Any, Tensor]:
    """A cache that generate() filled, and the ids so far with a second question."""
    past = cache(**changes)
    first = generate(model, prompt(), past)
    return past, torch.cat([first.sequences, prompt(5, length=7)], dim=1)


def assert_holds_the_same(one: Any, other: Any) -> None:
    assert len(one) == len(other)
    assert one.get_seq_length() == other.get_seq_length()
    # A copy begins without room for more tokens.
    mine, theirs = (replace(each.report(None), kv_reserve_bytes=0) for each in (one, other))
    assert mine == theirs
    assert one.config == other.config
    for mine, theirs in zip(one.layers, other.layers, strict=True):
        assert torch.equal(mine.keys, theirs.keys)
        assert torch.equal(mine.values, theirs.values)
        assert torch.equal(mine.positions, theirs.positions)
        assert (mine.seen_tokens, mine.compacted) == (theirs.seen_tokens, theirs.compacted)


@pytest.mark.parametrize(
    "use",
    [list, len, repr, pickled, by_torch, copy.copy, copy.deepcopy],
    ids=["iterate", "len", "repr", "pickle", "torch.save", "copy", "deepcopy"],
)
def test_what_works_with_a_dynamic_cache(use: Save) -> None:
    model = qwen2()
    for past in (DynamicCache(config=model.config), cache()):
        use(past)
        generate(model, prompt(), past)
        use(past)
        assert past.get_seq_length() == LENGTH + 4


def test_it_iterates_as_a_dynamic_cache() -> None:
    model = qwen2()
    mine, stock = cache(method="none"), DynamicCache(config=model.config)
    for past in (mine, stock):
        assert list(past) == [(None, None, None)] * len(past)
        generate(model, prompt(), past)
    for found, expected in zip(mine, stock, strict=True):
        assert found[2] is expected[2] is None
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
    assert [keys.shape[2] for keys, _, _ in filled(model)[0]] == [n + 4 for n in COUNTS]


@each_way
def test_a_loaded_cache_holds_what_was_saved(save: Save) -> None:
    model = qwen2()
    past, _ = filled(model)
    loaded = save(past)
    assert_holds_the_same(loaded, past)
    assert_holds_the_same(save(loaded), past)
    assert loaded.token_map is not None
    assert torch.equal(loaded.token_map.modality, past.token_map.modality)
    loaded.batch_repeat_interleave(2)
    assert (loaded.batch_size, past.batch_size) == (2, 1)


def test_keys_and_values_are_written_once() -> None:
    model = qwen2(hidden_size=256)
    past, _ = filled(model)
    held = past.report().kv_bytes
    assert held > 100_000
    assert past.report().kv_reserve_bytes > 50_000
    assert held < len(pickle.dumps(past)) < held + 20_000


@each_way
@pytest.mark.parametrize("used", ["fresh", "bound", "attached", "detached"])
def test_the_next_call_binds_a_loaded_cache_again(save: Save, used: str) -> None:
    model = qwen2()
    past, longer = filled(model)
    loaded = save(past)
    expected = generate(model, longer, past)
    if used == "fresh":
        model = qwen2()
    elif used == "attached":
        attach(model, config(method="none"))
    elif used == "detached":
        detach(model)
    assert same(generate(model, longer, loaded), expected)
    assert_holds_the_same(loaded, past)
    detach(model)
    assert not any(global_hooks().values())


@each_way
def test_a_direct_call_binds_it_too(save: Save) -> None:
    model = qwen2()
    past, longer = filled(model)
    loaded, later = save(past), longer[:, LENGTH + 4 :]
    with torch.inference_mode():
        expected = model(input_ids=later, **passing(past)).logits
        assert torch.equal(qwen2()(input_ids=later, **passing(loaded)).logits, expected)


def test_an_unused_cache_is_loaded_as_an_unused_cache() -> None:
    model = qwen2()
    expected = generate(model, prompt(), cache())
    loaded = pickled(cache())
    detach(model)
    assert same(generate(model, prompt(), loaded), expected)
    assert loaded.report().tokens_per_layer == COUNTS


def test_a_loaded_cache_can_be_reset() -> None:
    loaded = pickled(filled(qwen2())[0])
    other = qwen2(seed=1, num_hidden_layers=6)
    loaded.reset()
    assert same(generate(other, prompt(), loaded), generate(other, prompt(), cache()))
    assert len(loaded) == 6


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"seed": 1}, "weights of layer 0"),
        ({"hidden_size": 64}, "hidden_size is 32, this model's 64"),
        ({"num_hidden_layers": 6}, "num_hidden_layers is 4, this model's 6"),
    ],
)
@pytest.mark.parametrize("attached", [False, True])
def test_another_model_is_refused(other: Any, reason: str, attached: bool) -> None:
    model, stranger = qwen2(), qwen2(**other)
    past, longer = filled(model)
    loaded = pickled(past)
    if attached:
        attach(stranger, config())
    with pytest.raises(StateError, match=f"filled by another model.*{reason}"):
        generate(stranger, longer, loaded)
    with pytest.raises(StateError, match=f"filled by another model.*{reason}"):
        stranger(input_ids=longer[:, LENGTH + 4 :], **passing(loaded))
    detach(stranger)
    assert same(generate(model, longer, loaded), generate(model, longer, past))


def test_the_same_weights_in_another_precision_are_the_same_model() -> None:
    past, longer = filled(qwen2())
    loaded = pickled(past)
    # Keys of one precision do not go with queries of another: torch says so, and we do not before.
    with pytest.raises(RuntimeError, match="dtype"):
        generate(qwen2().bfloat16(), longer, loaded)


def test_an_interrupted_cache_stays_interrupted() -> None:
    model = qwen2()
    past, longer = filled(model)
    handle = model.model.layers[2].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        generate(model, longer, past)
    handle.remove()
    loaded = pickled(past)
    with pytest.raises(StateError, match="interrupted"):
        generate(model, longer, loaded)


def test_loaded_caches_are_stacked_after_a_call() -> None:
    model = qwen2()
    pasts = [filled(model)[0] for _ in range(2)]
    loaded = [pickled(past) for past in pasts]
    with pytest.raises(StateError, match="loaded"):
        FastAVCache.stack(loaded)
    with torch.inference_mode():
        for past in (*pasts, *loaded):
            model(input_ids=torch.tensor([[7]]), **passing(past))
    joined, again = FastAVCache.stack(pasts), FastAVCache.stack(loaded)
    assert_holds_the_same(again, joined)
    assert_holds_the_same(pickled(joined), joined)


def test_beams_are_loaded() -> None:
    model = qwen2()
    past = cache()
    out = generate(model, prompt(), past, num_beams=2)
    assert_holds_the_same(pickled(past), past)
    assert torch.equal(pickled(out).sequences, out.sequences)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_saved(method: str) -> None:
    model = qwen2()
    past = FastAVCache(FastAVConfig(method=method, min_media_tokens=1), prompt_map())
    first = generate(model, prompt(), past)
    longer = torch.cat([first.sequences, prompt(5)], dim=1)
    loaded = pickled(past)
    for one in (past, loaded):  # a later turn, in which the hooks are asked again
        one.tokens = TokenMap.from_spans(
            longer.shape[1], video=[(3, 17), (LENGTH + 8, LENGTH + 20)], audio=[(17, 26)]
        )
    assert same(generate(model, longer, loaded), generate(model, longer, past))
    assert_holds_the_same(loaded, past)


def test_hooks_of_the_callers_are_saved() -> None:
    model = qwen2()
    hooks = LayerHookList([DivPrune(0.5), GlobalPruning("below 10", layer=1)])
    past = FastAVCache(FastAVConfig(hooks=hooks, min_media_tokens=1), prompt_map())
    generate(model, prompt(), past)
    loaded = pickled(past)
    assert str(loaded.report()) == str(past.report())
    assert [type(hook) for hook in loaded.config.hooks] == [DivPrune, GlobalPruning]


def test_a_shallow_copy_shares_the_layers() -> None:
    """As of a DynamicCache: what one appends, the other holds."""
    model = qwen2()
    for past in (DynamicCache(config=model.config), cache()):
        twin = copy.copy(past)
        first = generate(model, prompt(), twin)
        assert past.get_seq_length() == twin.get_seq_length() == LENGTH + 4
        longer = torch.cat([first.sequences, prompt(5, length=7)], dim=1)
        generate(model, longer, past)
        assert twin.get_seq_length() == past.get_seq_length() == LENGTH + 16
        assert all(one[0] is other[0] for one, other in zip(past, twin, strict=True))
    del past, twin
    assert not any(global_hooks().values())


@pytest.mark.parametrize(
    ("name", "shape", "attached"),
    [
        *((name, "ragged", False) for name in FAMILIES),
        ("omni_all", "single", False),
        ("omni_all", "ragged", True),
        ("qwen3_vl", "ragged", True),
    ],
)
def test_a_conversation_goes_on_where_nothing_is_remembered(
    name: str, shape: str, attached: bool
) -> None:
    """A model of the same weights that saw nothing of the first turn, as in a fresh process."""
    family, (first, second) = FAMILIES[name], turns_of(name, shape)
    model, inputs = build(name), family.batch(first)
    past = FastAVCache(config_of(name, "fastav+divprune"), family.token_map(first))
    said = run(model, inputs, past)
    loaded = pickled(past)

    def go_on(model: Any, one: Any) -> Run:
        later = later_inputs(name, inputs, said.tokens, second)
        mapped = family.token_map(second)
        if mapped is not None:
            known = one.tokens
            width = later["input_ids"].shape[1] - mapped.length
            one.tokens = known.extend(width - known.length).followed_by(mapped)
        return run(model, later, one)

    expected, fresh = go_on(model, past), build(name)
    if attached:
        attach(fresh, config_of(name, "none"))
    found = go_on(fresh, loaded)
    assert torch.equal(found.logits, expected.logits)
    assert_holds_the_same(loaded, past)


def second_question(model: Any, saved: dict[str, Any]) -> Any:
    """Continue a conversation whose clip is in the cache alone."""
    words = processor().tokenizer("Which sound is heard?")["input_ids"]
    ids = torch.cat([saved["sequences"], torch.tensor([words])], dim=1)
    return generate(model, ids, saved["cache"])


def bundled() -> Any:
    model: Any = Omni.from_pretrained(MODEL_PATH, dtype=torch.float32)
    return model.eval()


def processor() -> Any:
    return AutoProcessor.from_pretrained(MODEL_PATH)  # type: ignore[no-untyped-call]


def continue_from(path: str) -> None:
    """What a fresh process does: nothing but load the file, and generate."""
    torch.set_num_threads(1)  # as the first process, for the same bits
    saved = torch.load(path, weights_only=False)
    assert str(saved["cache"].report()) == saved["report"]
    assert saved["cache"].get_seq_length() == saved["length"]
    out = second_question(bundled(), saved)
    assert torch.equal(out.sequences, saved["expected"].sequences)
    for one, other in zip(out.logits, saved["expected"].logits, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_a_conversation_goes_on_in_another_process(tmp_path: Path) -> None:
    """The bundled model counts rotary positions on from what the first process saw of the clip."""
    model, clip = bundled(), read_clip(SAMPLES[0].path, 2.0)
    inputs = prepare_inputs(processor(), *clip, "Which colour is the circle?")
    past = FastAVCache(FastAVConfig.for_model(model))
    out = model.generate(**inputs, **passing(past), return_dict_in_generate=True)
    assert past.report().flops_ratio < 1
    saved = {"cache": past, "sequences": out.sequences, "report": str(past.report())}
    saved["length"] = past.get_seq_length()
    saved["expected"] = second_question(model, {**saved, "cache": copy.deepcopy(past)})
    torch.save(saved, tmp_path / "conversation.pt")
    program = f"from {MODULE} import continue_from as go; go({str(tmp_path / 'conversation.pt')!r})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
