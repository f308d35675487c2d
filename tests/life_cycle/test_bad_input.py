"""Bad input: one clear error before any token, and the model works afterwards."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import transformers
from torch import Tensor

from fastav_plugin import (
    ConfigError,
    FastAVCache,
    FastAVConfig,
    FastAVError,
    HookError,
    LayerHook,
    LayerHookList,
    LayerView,
    StateError,
    TokenMap,
    TokenMapError,
    UnsupportedError,
    attach,
    detach,
)
from fastav_plugin.config import CONFIG_NAME
from tests.life_cycle.models import (
    COUNTS,
    LENGTH,
    cache,
    config,
    generate,
    global_hooks,
    prompt,
    qwen2,
    same,
    tokens,
)

IDS = prompt()


class Witness:
    """A model, what it made before, and whether a bad call made any token of its own."""

    def __init__(self, model: Any, ids: Tensor = IDS) -> None:
        self.model, self.ids = model, ids
        self.stock = generate(model, ids)
        self.layers_run = 0
        last = model.model.layers[-1]
        last.register_forward_hook(lambda *_: setattr(self, "layers_run", self.layers_run + 1))

    def usable(self, *, before_any_token: bool = True) -> None:
        """The model makes what it made before, dense and pruned."""
        assert self.layers_run == 0 or not before_any_token, "the error came after a whole forward"
        assert same(generate(self.model, self.ids), self.stock)
        past = cache()
        generate(self.model, self.ids, past)
        assert past.report().tokens_per_layer == COUNTS


@pytest.fixture
def witness() -> Iterator[Witness]:
    found = Witness(qwen2())
    yield found
    found.usable()
    detach(found.model)
    assert not any(global_hooks().values())


@pytest.mark.parametrize("length", [1, LENGTH - 1, LENGTH + 1, 4 * LENGTH])
def test_a_token_map_of_another_length(witness: Witness, length: int) -> None:
    past = FastAVCache(config(), TokenMap.from_spans(length))
    with pytest.raises(TokenMapError, match=f"{length} positions.*{LENGTH}"):
        generate(witness.model, IDS, past)


def test_a_token_map_of_another_batch(witness: Witness) -> None:
    past = FastAVCache(config(), TokenMap.batch([tokens(), tokens()]))
    with pytest.raises(TokenMapError, match="2 rows.*1"):
        generate(witness.model, IDS, past)


def test_a_ratio_beyond_one(witness: Witness) -> None:
    with pytest.raises(ConfigError, match=r"fine_drop_ratio.*\[0, 1\).*1\.2"):
        FastAVConfig.for_model(witness.model, fine_drop_ratio=1.2)


def test_an_unknown_method(witness: Witness) -> None:
    for use in (
        lambda: FastAVConfig.for_model(witness.model, method="fastva"),
        lambda: FastAVCache(FastAVConfig(method="fastva")),
        lambda: attach(witness.model, FastAVConfig(method="fastva")),
    ):
        with pytest.raises(ConfigError, match="'fastva'.*divprune.*fastav"):
            use()


def test_an_unknown_setting(witness: Witness) -> None:
    with pytest.raises(ConfigError, match="fine_drop_ratio"):
        FastAVConfig.for_model(witness.model, fine_drop_rate=0.5)


def test_a_global_layer_the_model_does_not_have(witness: Witness) -> None:
    for layer in (4, 28):
        with pytest.raises(ConfigError, match=rf"global_layer.*{layer}"):
            generate(witness.model, IDS, cache(global_layer=layer))
        with pytest.raises(ConfigError, match=rf"global_layer.*{layer}"):
            FastAVConfig.for_model(witness.model, global_layer=layer)


def test_no_cache_at_all(witness: Witness) -> None:
    with pytest.raises(FastAVError, match="use_cache"):
        generate(witness.model, IDS, cache(), use_cache=False)
    with pytest.raises(FastAVError, match="use_cache"):
        witness.model(input_ids=IDS, past_key_values=cache(), use_cache=False)


def test_no_cache_on_an_attached_model_is_not_dense_in_silence(
    witness: Witness, caplog: pytest.LogCaptureFixture
) -> None:
    attach(witness.model, config())
    try:
        with caplog.at_level(logging.INFO, logger="fastav_plugin"):
            out = generate(witness.model, IDS, use_cache=False)
    except FastAVError as error:
        assert "use_cache" in str(error)
    else:
        assert torch.equal(out.sequences, witness.stock.sequences)
        assert any("unpruned" in record.message for record in caplog.records)
        witness.layers_run = 0
    detach(witness.model)


@pytest.mark.parametrize("size", [8, 29, 30, 64])
def test_chunked_prefill(witness: Witness, size: int) -> None:
    """29 leaves a last chunk of one row, which looks like a decoded token."""
    with pytest.raises(UnsupportedError, match=f"prefill_chunk_size={size}"):
        generate(witness.model, IDS, cache(), prefill_chunk_size=size)


@pytest.mark.parametrize("size", [8, 29])
def test_chunked_prefill_on_an_attached_model(witness: Witness, size: int) -> None:
    attach(witness.model, config())
    with pytest.raises(UnsupportedError, match="prefill_chunk_size"):
        generate(witness.model, IDS, prefill_chunk_size=size)
    detach(witness.model)


@pytest.mark.parametrize("bound", [False, True])
def test_a_used_cache_given_to_another_model(witness: Witness, bound: bool) -> None:
    if bound:
        attach(witness.model, config())
    past = cache()
    expected = generate(qwen2(seed=4), IDS, cache())
    owner = qwen2(seed=4)
    assert same(generate(owner, IDS, past), expected)
    held = past.get_seq_length()
    with pytest.raises(StateError, match="another"):
        generate(witness.model, torch.cat([IDS, IDS], dim=1), past)
    assert past.get_seq_length() == held
    longer = torch.cat([expected.sequences, prompt(7, length=4)], dim=1)
    generate(owner, longer, past)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\x00\xff", b'{"fine_drop_ratio": 1.2}'])
def test_a_corrupt_config_file(witness: Witness, tmp_path: Path, content: bytes) -> None:
    (tmp_path / CONFIG_NAME).write_bytes(content)
    with pytest.raises(ConfigError):
        attach(witness.model, FastAVConfig.from_pretrained(tmp_path))


def test_labels(witness: Witness) -> None:
    with pytest.raises(UnsupportedError, match="labels"):
        witness.model(input_ids=IDS, labels=IDS, past_key_values=cache())


def test_training(witness: Witness) -> None:
    witness.model.train()
    with pytest.raises(UnsupportedError, match=r"eval\(\)"):
        witness.model(input_ids=IDS, past_key_values=cache())
    witness.model.eval()


def test_logits_to_keep_as_an_index(witness: Witness) -> None:
    with pytest.raises(UnsupportedError, match="logits_to_keep"):
        witness.model(input_ids=IDS, past_key_values=cache(), logits_to_keep=torch.tensor([3, 29]))


@pytest.mark.parametrize("given", ["mask", "map"])
def test_right_padding(witness: Witness, given: str) -> None:
    ids = prompt(batch=2)
    mask = torch.ones_like(ids)
    mask[1, -5:] = 0
    maps = TokenMap.batch([tokens(), TokenMap.from_spans(LENGTH - 5, video=[(3, 17)])], "right")
    if given == "mask":
        maps = TokenMap.batch([tokens(), tokens()])
    with pytest.raises(FastAVError, match="padd"):
        witness.model.generate(
            ids,
            attention_mask=mask,
            past_key_values=FastAVCache(config(), maps),
            max_new_tokens=2,
        )


def test_a_token_map_whose_padding_is_not_the_masks(witness: Witness) -> None:
    """Left padding that the map calls text (or media) would be attended to."""
    ids = prompt(batch=2)
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    with pytest.raises(TokenMapError, match="padd"):
        witness.model.generate(
            ids,
            attention_mask=mask,
            past_key_values=FastAVCache(config(), TokenMap.batch([tokens(), tokens()])),
            max_new_tokens=2,
        )


class Custom(LayerHook):
    """Answers whatever it is told to."""

    name: ClassVar[str] = "custom"

    def __init__(self, answer: Any, places: frozenset[int] = frozenset({1})) -> None:
        self.answer, self.places = answer, places

    def layers(self, num_layers: int) -> frozenset[int]:
        return self.places

    def __call__(self, view: LayerView) -> Tensor | None:
        answer: Tensor | None = self.answer(view) if callable(self.answer) else self.answer
        return answer


def hooked(*hooks: LayerHook) -> FastAVCache:
    return FastAVCache(FastAVConfig(hooks=LayerHookList(hooks), min_media_tokens=1), tokens())


@pytest.mark.parametrize(
    "answer",
    [
        torch.ones(1, LENGTH - 1, dtype=torch.bool),
        torch.ones(2, LENGTH, dtype=torch.bool),
        torch.ones(LENGTH, dtype=torch.bool),
        torch.ones(1, LENGTH, 1, dtype=torch.bool),
        torch.ones(1, LENGTH),
        torch.ones(1, LENGTH, dtype=torch.int64),
        torch.arange(LENGTH),
        True,
        [True] * LENGTH,
        "all",
    ],
)
def test_a_hook_that_answers_nonsense(witness: Witness, answer: Any) -> None:
    with pytest.raises(HookError, match=rf"Custom must return bool \(1, {LENGTH}\)"):
        generate(witness.model, IDS, hooked(Custom(answer)))


def test_a_hook_that_raises(witness: Witness) -> None:
    def answer(view: LayerView) -> Tensor:
        raise KeyError("mine")

    past = hooked(Custom(answer))
    with pytest.raises(KeyError, match="mine"):
        generate(witness.model, IDS, past)


@pytest.mark.parametrize("place", [-2, 4, 99])
def test_a_hook_that_asks_for_a_layer_that_is_not_there(witness: Witness, place: int) -> None:
    with pytest.raises(HookError, match=rf"\[{place}\].*0\.\.3"):
        generate(witness.model, IDS, hooked(Custom(None, frozenset({0, place}))))


@pytest.mark.parametrize("place", [-1, 0, 1, 3])
def test_a_hook_that_drops_everything_keeps_a_usable_model(witness: Witness, place: int) -> None:
    """Text, the last token and one media token are protected by the engine."""
    past = hooked(Custom(lambda view: torch.zeros_like(view.alive), frozenset({place})))
    out = generate(witness.model, IDS, past)
    witness.layers_run = 0
    assert torch.isfinite(out.logits[0]).all()
    report = past.report()
    assert report.modality_per_layer["text"] == [7] * 4
    kinds = report.modality_per_layer
    media = [a + v for a, v in zip(kinds["audio"], kinds["video"], strict=True)]
    assert media[max(place, 0) :] == [1] * (4 - max(place, 0))


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
@pytest.mark.parametrize("step", ["prefill", "decode"])
def test_an_interrupted_forward_is_noticed(witness: Witness, layer: int, step: str) -> None:
    class Stop(Exception):
        pass

    past = cache()
    if step == "decode":
        witness.model(input_ids=IDS, past_key_values=past)

    def stop(*_: Any) -> None:
        raise Stop

    handle = witness.model.model.layers[layer].mlp.register_forward_pre_hook(stop)
    again = torch.tensor([[5]]) if step == "decode" else IDS
    with pytest.raises(Stop):
        witness.model(input_ids=again, past_key_values=past)
    handle.remove()
    with pytest.raises(StateError, match=r"interrupted.*reset\(\)"):
        witness.model(input_ids=torch.tensor([[5]]), past_key_values=past)
    past.reset()
    expected = generate(witness.model, IDS, cache())
    assert same(generate(witness.model, IDS, past), expected)
    witness.layers_run = 0


def test_an_interrupted_vision_tower_leaves_a_usable_cache() -> None:
    from tests.life_cycle.test_attach import omni, run

    model, inputs = omni()
    settings = config(global_rule="below 20")
    expected = run(model, inputs, FastAVCache(settings))
    past = FastAVCache(settings)
    tower = next(module for name, module in model.named_modules() if name.endswith("audio_tower"))

    def stop(*_: Any) -> None:
        raise RuntimeError("out of memory")

    handle = tower.register_forward_pre_hook(stop)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(model, inputs, past)
    handle.remove()
    assert same(run(model, inputs, past), expected)


def tiny(kind: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    settings = {"vocab_size": 80, "pad_token_id": 0, "eos_token_id": None, **settings}
    return getattr(transformers, f"{kind}ForCausalLM")(
        getattr(transformers, f"{kind}Config")(**settings)
    ).eval()


def encoder_decoder() -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 80,
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 16,
        "num_layers": 1,
        "num_heads": 2,
        "decoder_start_token_id": 0,
        "eos_token_id": None,
    }
    model: Any = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes))
    return model.eval()


def linear_attention() -> Any:
    return tiny(
        "Lfm2",
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        layer_types=["conv", "full_attention"],
        bos_token_id=None,
    )


@pytest.mark.parametrize(
    ("make", "why"),
    [(encoder_decoder, "encoder-decoder"), (linear_attention, "conv|without `self_attn`")],
)
def test_models_that_cannot_be_pruned(make: Any, why: str) -> None:
    model = make()
    stock = generate(model, IDS)
    with pytest.raises(UnsupportedError, match=why):
        generate(model, IDS, cache())
    with pytest.raises(UnsupportedError, match=why):
        attach(model, config())
    with pytest.raises(UnsupportedError, match=why):
        FastAVConfig.for_model(model)
    with pytest.raises(UnsupportedError, match=why):
        FastAVConfig.for_model(model.config)
    assert same(generate(model, IDS), stock)


def family(name: str) -> tuple[Any, dict[str, Any]]:
    import copy

    from tests.families import FAMILIES

    found = FAMILIES[name]
    return copy.deepcopy(found.model("sdpa")), found.batch(found.single())


@pytest.mark.parametrize("place", [1, 2])
def test_deepstack_layers_cannot_be_cut(place: int) -> None:
    from tests.life_cycle.test_attach import run

    model, inputs = family("qwen3_vl")
    deep = len(model.config.vision_config.deepstack_visual_indexes)
    stock = run(model, inputs)
    if place < deep:
        with pytest.raises(ConfigError, match=f"first {deep} layers.*layer {place}"):
            run(model, inputs, FastAVCache(config(global_rule="below 20", global_layer=place)))
        with pytest.raises(ConfigError, match="layer"):
            attach(model, config(global_rule="below 20", global_layer=place))
    else:
        past = FastAVCache(config(global_rule="below 20", global_layer=place))
        run(model, inputs, past)
        assert past.report().flops_ratio < 1
    assert same(run(model, inputs), stock)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "omni_video"])
def test_renumbered_positions_with_multi_dimensional_rotary(name: str) -> None:
    from tests.life_cycle.test_attach import run

    model, inputs = family(name)
    stock = run(model, inputs)
    wrong = config(method="divprune", positions="renumbered")
    with pytest.raises(ConfigError, match="renumbered.*original"):
        run(model, inputs, FastAVCache(wrong))
    with pytest.raises(ConfigError, match="renumbered"):
        attach(model, wrong)
    with pytest.raises(ConfigError, match="renumbered"):
        FastAVConfig.for_model(model, method="divprune", positions="renumbered")
    assert same(run(model, inputs), stock)


def test_frames_that_are_unknown(witness: Witness) -> None:
    with pytest.raises(TokenMapError, match="first 2 frames"):
        generate(witness.model, IDS, cache(global_rule="first 2 frames"))
    witness.layers_run = 0


def test_a_calibration_file_that_is_not_there(witness: Witness, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.safetensors")
    with pytest.raises(FastAVError, match="none.safetensors"):
        attach(witness.model, FastAVConfig(calibration=missing))
    with pytest.raises(FastAVError, match="none.safetensors"):
        generate(witness.model, IDS, cache(calibration=missing))


@pytest.mark.parametrize("implementation", ["static", "dynamic", "offloaded"])
def test_a_cache_and_a_cache_implementation(witness: Witness, implementation: str) -> None:
    """transformers' own refusal."""
    with pytest.raises(ValueError, match="cache_implementation"):
        generate(witness.model, IDS, cache(), cache_implementation=implementation)


def test_not_a_transformers_model() -> None:
    model = torch.nn.Linear(2, 2)
    with pytest.raises(UnsupportedError, match="Linear"):
        attach(model, config())
    with pytest.raises(FastAVError):
        FastAVConfig.for_model(model)
    with pytest.raises(FastAVError):
        FastAVConfig.for_model(None)
    with pytest.raises(FastAVError):
        FastAVConfig.for_model("some/checkpoint")
