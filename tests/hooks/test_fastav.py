"""FastAV's global and fine cuts."""

import math

import pytest
import torch

from fastav_plugin import ConfigError, FastAVConfig, TokenMapError
from fastav_plugin.hooks import FinePruning, GlobalPruning
from tests.support.views import VIDEO, make_view, modalities, shown


def test_first_tokens_counts_each_modality_apart() -> None:
    modality = modalities("tvavavavat")
    keep = GlobalPruning({"audio": "first 2 tokens"})(make_view(modality))
    assert shown(keep, modality) == ["tvavav-v-t"]
    keep = GlobalPruning("first 1 tokens")(make_view(modality))
    assert shown(keep, modality) == ["tva------t"]


def test_first_tokens_under_left_padding_and_without_media() -> None:
    modality = modalities("tiavaiavat", "....tvavat", "......tttt")
    keep = GlobalPruning({"video": "first 1 tokens", "audio": "first 1 tokens"})(
        make_view(modality)
    )
    assert shown(keep, modality) == ["tiav-i---t", "....tva--t", "......tttt"]


def test_zero_of_a_modality_is_none_of_it() -> None:
    modality = modalities("tvvaat")
    keep = GlobalPruning({"audio": "first 0 tokens"})(make_view(modality))
    assert shown(keep, modality) == ["tvv--t"]


def test_first_counts_survivors_of_an_entrance_cut() -> None:
    # Of audio at 1..6 DivPrune left 2, 4 and 6.
    modality = modalities("taaat")
    view = make_view(modality, positions=torch.tensor([[0, 2, 4, 6, 7]]))
    keep = GlobalPruning({"audio": "first 2 tokens"})(view)
    assert shown(keep, modality) == ["taa-t"]


def test_below_counts_from_the_first_real_token() -> None:
    modality = modalities("tvvvvvvt", "...tvvvt")
    keep = GlobalPruning("below 3")(make_view(modality))
    assert shown(keep, modality) == ["tvv----t", "...tvv-t"]


def test_below_uses_original_positions_after_a_cut() -> None:
    modality = modalities("tvvvt", "tvvvt")
    positions = torch.tensor([[0, 2, 4, 6, 9], [3, 5, 7, 8, 9]])
    view = make_view(modality, positions=positions, start=torch.tensor([0, 3]))
    keep = GlobalPruning("below 5")(view)
    assert shown(keep, modality) == ["tvv-t", "tvv-t"]


def test_below_keeps_text_everywhere() -> None:
    modality = modalities("tvtttttv")
    keep = GlobalPruning("below 1")(make_view(modality))
    assert shown(keep, modality) == ["t-ttttt-"]


def test_first_frames_with_interleaved_audio() -> None:
    modality = modalities("tvvavvavvat", "..tvvavvatt")
    frame = [
        [-1, 0, 0, 0, 1, 1, 1, 2, 2, 2, -1],
        [-1, -1, -1, 0, 0, 0, 1, 1, 1, -1, -1],
    ]
    keep = GlobalPruning("first 2 frames")(make_view(modality, frame=frame))
    assert shown(keep, modality) == ["tvvavva---t", "..tvvavvatt"]
    keep = GlobalPruning({"video": "first 1 frames"})(make_view(modality, frame=frame))
    assert shown(keep, modality) == ["tvva--a--at", "..tvva--att"]


def test_a_frame_goes_with_its_sound_where_both_have_one_rule() -> None:
    """Sound that only some frames have is not counted in frames of its own."""
    modality = modalities("tvvavvavt")
    frame = [[-1, 0, 1, 1, 2, 3, 3, 4, -1]]
    for rule in ("first 2 frames", {"video": "first 2 frames", "audio": "first 2 frames"}):
        keep = GlobalPruning(rule)(make_view(modality, frame=frame))
        assert shown(keep, modality) == ["tvva----t"]
    keep = GlobalPruning({"video": "first 3 frames", "audio": "first 2 frames"})(
        make_view(modality, frame=frame)
    )
    assert shown(keep, modality) == ["tvvav-a-t"]


def test_first_frames_counts_surviving_frames() -> None:
    modality = modalities("tvvvt")
    view = make_view(modality, frame=[[-1, 3, 3, 5, -1]])
    # Frames 0..2 and 4 lost all their tokens at the entrance; two frames survive.
    assert shown(GlobalPruning("first 1 frames")(view), modality) == ["tvv-t"]
    assert shown(GlobalPruning("first 2 frames")(view), modality) == ["tvvvt"]


def test_unknown_frames_are_an_error_that_says_what_to_do() -> None:
    modality = modalities("tvvat")
    view = make_view(modality, frame=[[-1, 0, 0, -1, -1]])
    with pytest.raises(TokenMapError, match="first 2 frames.*frame of every token.*TokenMap"):
        GlobalPruning("first 2 frames")(view)
    # Only the modalities with a frame rule need frames.
    keep = GlobalPruning({"video": "first 2 frames", "audio": "first 1 tokens"})(view)
    assert shown(keep, modality) == ["tvvat"]


def test_places_of_the_global_cut() -> None:
    assert GlobalPruning().layers(28) == frozenset({14})
    assert GlobalPruning().layers(5) == frozenset({2})
    assert GlobalPruning(layer=3).layers(4) == frozenset({3})


@pytest.mark.parametrize("layer", [4, 9])
def test_a_layer_the_model_does_not_have(layer: int) -> None:
    with pytest.raises(ConfigError, match=rf"global_layer.*\[1, 3\].*{layer}"):
        GlobalPruning(layer=layer).layers(4)


def test_a_wrong_rule_or_layer() -> None:
    with pytest.raises(ConfigError, match="global_rule"):
        GlobalPruning("first ten tokens")
    with pytest.raises(ConfigError, match="`layer`.*got 0"):
        GlobalPruning(layer=0)


def test_global_cut_from_config_and_back() -> None:
    rule = {"audio": "first 10 tokens"}
    hook = GlobalPruning.from_config(FastAVConfig(global_rule=rule, global_layer=4))
    assert hook.to_dict() == {"name": "global_pruning", "rule": rule, "layer": 4}
    assert GlobalPruning.from_config(FastAVConfig()).rule == "all"
    assert FinePruning.from_config(FastAVConfig()).drop_ratio == 0.1


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.3, 0.9])
@pytest.mark.parametrize("total", [1, 2, 3, 5, 7, 10, 20, 30, 100, 736, 1000])
def test_the_count_is_the_floor_that_python_computes(ratio: float, total: int) -> None:
    modality = torch.full((1, total), VIDEO, dtype=torch.uint8)
    view = make_view(modality, scores=torch.rand(1, total))
    keep = FinePruning(ratio)(view)
    assert keep is not None
    # One media token is left to every row: here, and not the lowest, the best one.
    assert int(keep.sum()) == max(1, math.floor((1 - ratio) * total))


def test_only_media_compete_in_each_batch_row_apart() -> None:
    modality = modalities("tvatvatvat", "..tttvvvvt", "...ttttttt")
    scores = torch.tensor([[0.9, 0.1, 0.2, 0.9, 0.3, 0.1, 0.9, 0.2, 0.5, 0.9]] * 3)
    keep = FinePruning(0.5)(make_view(modality, scores=scores))
    # Row 0: floor(3.0) of v1 a2 v4 a5 v7 a8; row 1: floor(2.0) of v5 .1, v6 .9, v7 .2, v8 .5.
    assert shown(keep, modality) == ["t-atv-t-at", "..ttt-v-vt", "...ttttttt"]


def test_what_another_hook_dropped_does_not_count() -> None:
    modality = modalities("tvvvvvvvvt")
    view = make_view(modality, scores=torch.linspace(0, 1, 10)[None])
    alive = view.alive.clone()
    alive[0, 5:9] = False
    view = type(view)(**{**vars(view), "alive": alive})
    keep = FinePruning(0.5)(view)
    assert keep is not None
    assert (keep & alive)[0].nonzero()[:, 0].tolist() == [0, 3, 4, 9]


def test_places_of_the_fine_cut() -> None:
    assert FinePruning(0.2).layers(28) == frozenset(range(15, 28))
    assert FinePruning(0.2, after_layer=3).layers(6) == frozenset({4, 5})
    assert FinePruning(0.2, after_layer=5).layers(6) == frozenset()
    assert FinePruning(0).layers(28) == frozenset()
    assert FinePruning.needs_scores


def test_fine_cut_from_config_and_back() -> None:
    hook = FinePruning.from_config(FastAVConfig(fine_drop_ratio=0.3, global_layer=4))
    assert (hook.drop_ratio, hook.after_layer) == (0.3, 4)
    assert hook.to_dict() == {"name": "fine_pruning", "drop_ratio": 0.3, "after_layer": 4}


@pytest.mark.parametrize("ratio", [1, 1.2, -0.1])
def test_ratio_out_of_range(ratio: float) -> None:
    with pytest.raises(ConfigError, match=f"drop_ratio.*{ratio}"):
        FinePruning(ratio)
