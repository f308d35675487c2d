"""max_min_diversity by THE RULE of the golden picks, and the DivPrune hook around it."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from fastav_plugin import ConfigError, Modality
from fastav_plugin.functional import diversity
from fastav_plugin.hooks import ENTRANCE, DivPrune, LayerView
from fastav_plugin.hooks.div_prune import max_min_diversity

GOLDEN = load_file(Path(__file__).parents[1] / "data" / "divprune.safetensors")
CASES = sorted(name for name in GOLDEN if "/keep@" in name)
SLACK = 2e-6  # float32 against float64
TIE = 1e-6  # margins below this are decided by rounding


def margins(features: Tensor, picks: Tensor) -> list[tuple[float, float]]:
    """Replay picks in float64: per pick (how far below the best it is, margin best to second)."""
    wide = features.double()
    norms = wide.norm(dim=1, keepdim=True)
    units = wide / norms.masked_fill(norms == 0, 1)
    distance = 1 - units @ units.T
    distance.fill_diagonal_(float("inf"))
    nearest = distance.amin(dim=1)
    replay = []
    last = -1
    for step, pick in enumerate(picks.tolist()):
        if step == 1:
            nearest = torch.full_like(nearest, float("inf"))
        if step:
            nearest = torch.minimum(nearest, distance[:, last])
            nearest[last] = float("-inf")
        best = nearest.topk(min(2, len(nearest))).values
        second = float(best[1]) if len(best) > 1 else float("-inf")
        short = 0.0 if nearest[pick] == best[0] else float(best[0] - nearest[pick])
        replay.append((short, float(best[0]) - second))
        last = pick
    return replay


def check_rule(features: Tensor, picks: Tensor, golden: Tensor | None = None) -> None:
    assert picks.dtype == torch.int64
    assert len(set(picks.tolist())) == len(picks)
    replay = margins(features, picks)
    for step, (short, _) in enumerate(replay):
        assert short <= SLACK, f"pick {step} is {short} below the best"
    if golden is None:
        return
    assert len(picks) == len(golden)
    for step, (_, margin) in enumerate(replay):
        if margin < TIE:
            return
        assert picks[step] == golden[step], f"pick {step} differs before the first tie"


@pytest.mark.parametrize("case", CASES)
def test_golden_picks(case: str) -> None:
    features = GOLDEN[case.split("/")[0] + "/features"].float()
    golden = GOLDEN[case]
    check_rule(features, max_min_diversity(features, len(golden)), golden)


@pytest.mark.parametrize("case", CASES)
def test_the_counts_are_the_golden_ones(case: str) -> None:
    total = len(GOLDEN[case.split("/")[0] + "/features"])
    ratio = float(case.split("@")[1])
    assert max(1, round(ratio * total)) == len(GOLDEN[case])


@pytest.mark.parametrize("name", ["gauss_576x256", "clustered_1152x128", "smooth_576x192"])
def test_low_precision_is_upcast_first(name: str) -> None:
    features = GOLDEN[f"{name}/features"]
    for dtype in (torch.bfloat16, torch.float16):
        low = features.to(dtype)
        picks = max_min_diversity(low, 100)
        assert torch.equal(picks, max_min_diversity(low.float(), 100))
        check_rule(low.float(), picks)


@pytest.mark.parametrize("name", ["gauss_576x256", "smooth_576x192", "clustered_1152x128"])
def test_above_the_matrix_limit(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    features = GOLDEN[f"{name}/features"].float()
    golden = GOLDEN[f"{name}/keep@0.25"]
    monkeypatch.setattr(diversity, "MATRIX_LIMIT", 100)
    check_rule(features, max_min_diversity(features, len(golden)), golden)


@pytest.mark.parametrize("limit", [0, 16384])
def test_degenerate_counts(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(diversity, "MATRIX_LIMIT", limit)
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    assert max_min_diversity(features, 0).tolist() == []
    assert max_min_diversity(features, 0).dtype == torch.int64
    assert sorted(max_min_diversity(features, 6).tolist()) == list(range(6))
    assert max_min_diversity(features[:1], 1).tolist() == [0]
    assert max_min_diversity(features[:0], 0).tolist() == []
    check_rule(features[:2], max_min_diversity(features[:2], 2))


@pytest.mark.parametrize("count", [-1, 7])
def test_count_out_of_range(count: int) -> None:
    with pytest.raises(ConfigError, match=rf"\[0, 6\], got {count}"):
        max_min_diversity(torch.ones(6, 4), count)


@pytest.mark.parametrize("shape", [(6,), (1, 6, 4)])
def test_features_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="shape"):
        max_min_diversity(torch.ones(shape), 1)


@pytest.mark.parametrize("limit", [0, 16384])
def test_ties_go_to_the_lowest_index(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(diversity, "MATRIX_LIMIT", limit)
    # Exactly representable, so every distance is exactly 0 or 1.
    axes = torch.eye(4)
    assert max_min_diversity(axes, 4).tolist() == [0, 1, 2, 3]
    assert max_min_diversity(axes.repeat(2, 1), 8).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert max_min_diversity(torch.ones(5, 4), 5).tolist() == [0, 1, 2, 3, 4]
    assert max_min_diversity(torch.zeros(3, 4), 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("limit", [0, 16384])
def test_a_zero_row_is_at_distance_one_from_all(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(diversity, "MATRIX_LIMIT", limit)
    near = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 0.0], [1.0, -0.1]])
    assert max_min_diversity(near, 1).tolist() == [2]


def test_length_does_not_matter() -> None:
    draw = torch.Generator().manual_seed(3)
    features = torch.randn(12, 6, generator=draw)
    for scale in (1e-15, 1e15):
        check_rule(features * scale, max_min_diversity(features * scale, 6))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), total=st.integers(1, 24), size=st.integers(1, 6))
def test_property_unique_and_greedy(data: st.DataObject, total: int, size: int) -> None:
    seed = data.draw(st.integers(0, 2**16))
    features = torch.randn(total, size, generator=torch.Generator().manual_seed(seed))
    zeros = data.draw(st.lists(st.integers(0, total - 1), max_size=4))
    features[zeros] = 0
    for source, target in data.draw(
        st.lists(st.tuples(st.integers(0, total - 1), st.integers(0, total - 1)), max_size=6)
    ):
        features[target] = features[source]
    picks = max_min_diversity(features, data.draw(st.integers(0, total)))
    check_rule(features, picks)
    assert ((picks >= 0) & (picks < total)).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), bad=st.sampled_from([float("nan"), float("inf")]))
def test_property_no_duplicate_even_with_broken_features(seed: int, bad: float) -> None:
    features = torch.randn(10, 4, generator=torch.Generator().manual_seed(seed))
    features[seed % 10, seed % 4] = bad
    for count in (3, 10):
        picks = max_min_diversity(features, count).tolist()
        assert len(set(picks)) == count
        assert all(0 <= pick < 10 for pick in picks)


def view(modality: Tensor, features: Tensor) -> LayerView:
    alive = modality > 0
    start = alive.long().argmax(dim=1)
    positions = torch.arange(modality.shape[1]).expand_as(modality).masked_fill(~alive, -1)
    unknown = torch.full_like(positions, -1)
    return LayerView(
        layer=ENTRANCE,
        num_layers=4,
        hidden_states=features,
        positions=positions,
        start=start,
        modality=modality,
        segment=unknown,
        frame=unknown,
        alive=alive,
    )


PAD, TEXT, IMAGE, VIDEO, AUDIO = (int(kind) for kind in Modality)


def test_every_sample_has_its_own_tokens_and_count() -> None:
    rows = [
        [TEXT, IMAGE, VIDEO, AUDIO, VIDEO, IMAGE, AUDIO, TEXT, VIDEO, TEXT],
        [PAD, PAD, PAD, TEXT, VIDEO, AUDIO, VIDEO, AUDIO, TEXT, TEXT],
        [PAD, TEXT, TEXT, TEXT, TEXT, AUDIO, TEXT, TEXT, TEXT, TEXT],
    ]
    modality = torch.tensor(rows, dtype=torch.uint8)
    features = torch.randn(3, 10, 8, generator=torch.Generator().manual_seed(0))
    keep = DivPrune(0.4)(view(modality, features))
    assert keep is not None
    visual = (modality == IMAGE) | (modality == VIDEO)
    assert (keep & visual).sum(dim=1).tolist() == [2, 1, 0]
    assert (keep | visual).all()
    for sample in range(2):
        index = visual[sample].nonzero()[:, 0]
        picks = index[max_min_diversity(features[sample, index], int(keep[sample, index].sum()))]
        assert keep[sample, index].nonzero()[:, 0].tolist() == sorted(
            (index == pick).nonzero().item() for pick in picks
        )


def test_audio_has_a_ratio_of_its_own() -> None:
    modality = torch.tensor([[TEXT, *[VIDEO] * 6, *[AUDIO] * 8, TEXT]], dtype=torch.uint8)
    features = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(0))
    keep = DivPrune(1.0, audio_keep_ratio=0.25)(view(modality, features))
    assert keep is not None
    assert (keep & (modality == VIDEO)).sum() == 6
    assert (keep & (modality == AUDIO)).sum() == 2


@pytest.mark.parametrize(
    ("total", "ratio", "kept"),
    [(576, 0.098, 56), (1152, 0.1, 115), (5, 0.5, 2), (7, 0.5, 4), (3, 0.1, 1)],
)
def test_the_count_is_rounded_as_python_rounds(total: int, ratio: float, kept: int) -> None:
    modality = torch.full((1, total), VIDEO, dtype=torch.uint8)
    features = torch.randn(1, total, 4, generator=torch.Generator().manual_seed(0))
    keep = DivPrune(ratio)(view(modality, features))
    assert keep is not None
    assert keep.sum() == kept


@pytest.mark.parametrize("ratio", [0, 1.2, -1])
def test_ratios_out_of_range(ratio: float) -> None:
    with pytest.raises(ConfigError, match="ratio"):
        DivPrune(ratio)
    with pytest.raises(ConfigError, match="ratio"):
        DivPrune(0.5, audio_keep_ratio=ratio)
