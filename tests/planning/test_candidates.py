"""The values that a budget tries."""

import pytest

from fastav_plugin import FastAVConfig
from fastav_plugin.planning.candidates import candidates
from fastav_plugin.planning.dry_run import PromptSize

SOUND = {"video": "all", "audio": "first 10 tokens"}
TOKENS = PromptSize(20, 0, 400, 100).token_map()


@pytest.mark.parametrize(("given", "start"), [(None, 14), (9, 9)])
def test_the_layer_of_the_global_cut_moves_down_only(given: int | None, start: int) -> None:
    found = candidates("global_layer", FastAVConfig(global_layer=given), TOKENS, range(3, 28))
    assert found.values == [given, *range(start - 1, 2, -1)]
    assert found.default == 0
    assert found.values[found.soft_bound] == start // 2


def test_a_rule_of_several_modalities_grows_in_proportion() -> None:
    found = candidates("global_rule", FastAVConfig(global_rule=SOUND), TOKENS, range(1, 28))
    assert found.values[0] == {"image": "all", "video": "all", "audio": "all"}
    assert found.values[found.default] == SOUND
    nothing = {"image": "all", "video": "first 0 tokens", "audio": "first 0 tokens"}
    assert found.values[-1] == nothing
    half = found.values[found.default + 200]
    assert half == {"image": "all", "video": "first 200 tokens", "audio": "first 5 tokens"}


def test_one_rule_for_all_media_stays_one() -> None:
    config = FastAVConfig(global_rule="below 200")
    found = candidates("global_rule", config, TOKENS, range(1, 28))
    assert found.values[0] == "all"
    assert found.values[found.default] == "below 200"
    assert found.values[-1] == "below 0"
    assert found.values[found.soft_bound] == "below 50"


@pytest.mark.parametrize(
    ("field", "given", "loosest", "bound", "strictest"),
    [
        ("visual_keep_ratio", 0.5, 1.0, 0.25, 0.01),
        ("visual_keep_ratio", 0.1234, 1.0, 0.1234, 0.01),
        ("audio_keep_ratio", None, None, 0.25, 0.01),
        ("fine_drop_ratio", 0.2, 0.0, 0.5, 0.95),
        ("fine_drop_ratio", 0.99, 0.0, 0.99, 0.99),
    ],
)
def test_ratios_go_from_the_loosest_to_the_strictest(
    field: str, given: float | None, loosest: float | None, bound: float, strictest: float
) -> None:
    config = FastAVConfig.from_dict({field: given})
    found = candidates(field, config, TOKENS, range(1, 28))
    assert found.values[found.default] == given
    assert (found.values[0], found.values[found.last]) == (loosest, strictest)
    assert found.values[found.soft_bound] == bound
