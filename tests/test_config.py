import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import Tensor

from fastav_plugin import ConfigError, FastAVConfig, HookError, LayerHook, LayerHookList, LayerView
from fastav_plugin.config import CONFIG_NAME
from fastav_plugin.hooks import DivPrune, FinePruning, GlobalPruning, method_hooks


class Nameless(LayerHook):
    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset({1})

    def __call__(self, view: LayerView) -> Tensor | None:
        return None


class TakenName(Nameless):
    name: ClassVar[str] = "div_prune"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fine_drop_ratio", 1.2),
        ("fine_drop_ratio", 1),
        ("fine_drop_ratio", -0.1),
        ("fine_drop_ratio", float("nan")),
        ("fine_drop_ratio", "0.2"),
        ("fine_drop_ratio", True),
        ("visual_keep_ratio", 1.2),
        ("visual_keep_ratio", 0),
        ("visual_keep_ratio", None),
        ("audio_keep_ratio", 1.2),
        ("audio_keep_ratio", 0.0),
        ("audio_keep_ratio", [0.5]),
        ("global_layer", 0),
        ("global_layer", -1),
        ("global_layer", 2.0),
        ("global_layer", True),
        ("min_media_tokens", -1),
        ("min_media_tokens", None),
        ("min_media_tokens", "64"),
        ("positions", "renumber"),
        ("positions", None),
        ("method", ""),
        ("method", None),
        ("method", 3),
        ("global_rule", "first ten tokens"),
        ("global_rule", "below 750 "),
        ("global_rule", "first 4 frame"),
        ("global_rule", {"speech": "all"}),
        ("global_rule", {"video": "none"}),
        ("global_rule", {"video": 10}),
        ("global_rule", 750),
        ("global_rule", ["all"]),
        ("calibration", 7),
    ],
)
def test_out_of_range_is_one_error_that_names_field_and_value(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        FastAVConfig(**{field: value})
    assert f"`{field}`" in str(caught.value)
    shown = next(iter(value.items())) if isinstance(value, dict) else (value,)
    assert any(repr(part) in str(caught.value) for part in shown)


@pytest.mark.parametrize("hooks", ["div_prune", 5, [object()], DivPrune()])
def test_hooks_of_a_wrong_type_are_one_clear_error(hooks: Any) -> None:
    with pytest.raises((ConfigError, HookError)):
        method_hooks(FastAVConfig(hooks=hooks))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fine_drop_ratio", 0),
        ("fine_drop_ratio", 0.999),
        ("visual_keep_ratio", 1),
        ("audio_keep_ratio", 1.0),
        ("global_layer", 1),
        ("min_media_tokens", 0),
        ("positions", "renumbered"),
        ("global_rule", "all"),
        ("global_rule", {"audio": "first 10 tokens", "video": "first 4 frames"}),
    ],
)
def test_the_edges_of_the_ranges_are_allowed(field: str, value: Any) -> None:
    assert getattr(FastAVConfig(**{field: value}), field) == value


def test_defaults_are_the_ones_of_the_design() -> None:
    assert FastAVConfig().to_dict() == {
        "method": "fastav",
        "global_layer": None,
        "global_rule": None,
        "fine_drop_ratio": None,
        "visual_keep_ratio": 0.5,
        "audio_keep_ratio": None,
        "positions": "original",
        "min_media_tokens": 64,
        "calibration": None,
        "hooks": None,
    }


def test_frozen_and_keyword_only() -> None:
    config = FastAVConfig()
    with pytest.raises(AttributeError):
        config.method = "none"  # type: ignore[misc]
    with pytest.raises(TypeError):
        FastAVConfig("none")  # type: ignore[call-arg]


def test_a_rule_mapping_given_by_the_caller_is_not_shared() -> None:
    rule = {"audio": "first 10 tokens"}
    config = FastAVConfig(global_rule=rule)
    rule["audio"] = "all"
    assert config.rules() == {"image": "all", "video": "all", "audio": "first 10 tokens"}


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("fine_drop_rate", "fine_drop_ratio"),
        ("visual_keep", "visual_keep_ratio"),
        ("global_layers", "global_layer"),
        ("min_media_token", "min_media_tokens"),
        ("position", "positions"),
        ("hook", "hooks"),
    ],
)
def test_an_unknown_key_names_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"{wrong!r}.*Did you mean {near!r}"):
        FastAVConfig.from_dict({wrong: 1})
    with pytest.raises(ConfigError, match=near):
        FastAVConfig().replace(**{wrong: 1})


def test_replace_keeps_the_rest_and_checks() -> None:
    hooks = LayerHookList([DivPrune(0.25)])
    config = FastAVConfig(global_layer=3, hooks=hooks).replace(fine_drop_ratio=0.5)
    assert (config.global_layer, config.fine_drop_ratio) == (3, 0.5)
    assert config.hooks is hooks
    with pytest.raises(ConfigError):
        config.replace(fine_drop_ratio=1.2)


def test_json_round_trip(tmp_path: Path) -> None:
    config = FastAVConfig(
        method="fastav+divprune",
        global_layer=7,
        global_rule={"video": "first 4 frames", "audio": "below 750"},
        audio_keep_ratio=0.25,
        min_media_tokens=0,
    )
    config.save_pretrained(tmp_path / "made" / "here")
    path = tmp_path / "made" / "here" / CONFIG_NAME
    assert FastAVConfig.from_pretrained(path.parent) == config
    assert FastAVConfig.from_pretrained(str(path)) == config
    assert FastAVConfig.from_dict(json.loads(path.read_text())) == config


def test_json_round_trip_of_registered_hooks(tmp_path: Path) -> None:
    hooks = LayerHookList(
        [
            DivPrune(0.25, audio_keep_ratio=0.5),
            GlobalPruning({"audio": "first 10 tokens"}, layer=3),
            FinePruning(0.1, after_layer=3),
        ]
    )
    config = FastAVConfig(hooks=hooks)
    config.save_pretrained(tmp_path)
    again = FastAVConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    read = method_hooks(again)
    assert [type(hook) for hook in read] == [DivPrune, GlobalPruning, FinePruning]
    assert [hook.to_dict() for hook in read] == [hook.to_dict() for hook in hooks]


def test_what_was_read_can_be_saved_again(tmp_path: Path) -> None:
    config = FastAVConfig(hooks=LayerHookList([DivPrune(0.25)]))
    config.save_pretrained(tmp_path)
    again = FastAVConfig.from_pretrained(tmp_path)
    again.save_pretrained(tmp_path)
    assert FastAVConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize("hook", [Nameless(), TakenName()])
def test_an_unregistered_hook_refuses_saving_and_writes_nothing(
    tmp_path: Path, hook: LayerHook
) -> None:
    config = FastAVConfig(hooks=LayerHookList([DivPrune(), hook]))
    with pytest.raises(HookError, match="not registered.*register_hook"):
        config.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new" / CONFIG_NAME).exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b'"fastav"',
        b"\xff\xfe\x00",
        b'{"fine_drop_ratio": 1.2}',
        b'{"fine_drop_ratio": "0.2"}',
        b'{"method": 3}',
        b'{"global_rule": 750}',
        b'{"global_rule": {"video": null}}',
        b'{"min_media_tokens": 1.5}',
        b'{"nonsense": 1}',
        b'{"calibration": {}}',
        b'{"hooks": 3}',
        b'{"hooks": [3]}',
        b'{"hooks": [{"name": "nonsense"}]}',
        b'{"hooks": [{"name": "div_prune", "ratio": 2}]}',
        b'{"hooks": [{"name": "div_prune", "visual_keep_ratio": 2}]}',
        b'{"hooks": [{"name": "div_prune", "visual_keep_ratio": "x"}]}',
    ],
)
def test_a_corrupt_file_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / CONFIG_NAME
    path.write_bytes(content)
    with pytest.raises((ConfigError, HookError)):
        # Names are resolved where the registries are known: at the latest when a cache is made.
        method_hooks(FastAVConfig.from_pretrained(tmp_path))


def test_a_file_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=CONFIG_NAME):
        FastAVConfig.from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="nowhere"):
        FastAVConfig.from_pretrained(tmp_path / "nowhere")


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / CONFIG_NAME
    path.write_text("{'method': 'fastav'}")
    with pytest.raises(ConfigError) as caught:
        FastAVConfig.from_pretrained(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "method", ["fastavv", "fastav+", "+", "fastav+nothing", "FastAV", " fastav"]
)
def test_an_unknown_method_names_the_known_ones(method: str) -> None:
    with pytest.raises(ConfigError, match="Unknown method.*divprune.*fastav"):
        method_hooks(FastAVConfig(method=method))


def test_methods_are_made_of_the_hooks_of_the_design() -> None:
    def kinds(method: str) -> list[type[LayerHook]]:
        return [type(hook) for hook in method_hooks(FastAVConfig(method=method))]

    assert kinds("none") == []
    assert kinds("fastav") == [GlobalPruning, FinePruning]
    assert kinds("divprune") == [DivPrune]
    assert kinds("fastav+divprune") == [GlobalPruning, FinePruning, DivPrune]


def test_a_method_is_not_applied_twice() -> None:
    with pytest.raises(ConfigError, match=r"twice: 'fastav\+fastav'"):
        method_hooks(FastAVConfig(method="fastav+fastav"))


def test_the_constructor_names_the_nearest_setting() -> None:
    with pytest.raises(ConfigError, match="'fine_dropp'.*'fine_drop_ratio'"):
        FastAVConfig(fine_dropp=0.2)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (FastAVConfig(), "FastAVConfig(method='fastav')"),
        (FastAVConfig(method="none", min_media_tokens=64), "FastAVConfig(method='none')"),
        (
            FastAVConfig(global_rule={"video": "all"}, audio_keep_ratio=0.5),
            "FastAVConfig(method='fastav', global_rule={'video': 'all'}, audio_keep_ratio=0.5)",
        ),
        (
            FastAVConfig(hooks=LayerHookList([GlobalPruning("below 9", layer=2)])),
            "FastAVConfig(method='fastav', "
            "hooks=LayerHookList([GlobalPruning(rule='below 9', layer=2)]))",
        ),
    ],
)
def test_repr_is_the_short_call_that_makes_it(config: FastAVConfig, text: str) -> None:
    assert repr(config) == text
    again = eval(text)
    assert again.to_dict() == config.to_dict()
