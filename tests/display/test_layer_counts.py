import pytest

from fastav_plugin.display.layer_counts import steps


@pytest.mark.parametrize(
    ("per_layer", "text"),
    [
        ([341] * 8, "341 in every layer"),
        ([341, 341, 39, 39], "341 -> 39 (layer 2)"),
        ([277, 277, 60, 50, 42, 36], "341 -> 277 (entrance) -> 60 (layer 2) -> 36 (layer 5)"),
        ([277, 100, 80, 60], "341 -> 277 (entrance) -> 100 (layer 1) -> 60 (layer 3)"),
        ([341, 300, 300, 200, 200, 9], "341 -> 300 (layer 1) -> 200 (layer 3) -> 9 (layer 5)"),
        (
            [9, 9, 8, 8, 7, 7, 6, 6, 5, 5, 4],
            "341 -> 9 (entrance) -> 8 (layer 2) -> 7 (layer 4) -> 4 (layer 10)",
        ),
        ([0], "341 -> 0 (entrance)"),
        ([], "341 in every layer"),
    ],
)
def test_steps(per_layer: list[int], text: str) -> None:
    assert steps(341, per_layer) == text


def test_the_papers_schedule() -> None:
    fine = [736, 598, 488, 400, 330, 274, 229, 193, 164, 141, 122, 107, 95, 86]
    assert steps(2222, [2222] * 14 + fine) == "2222 -> 736 (layer 14) -> 86 (layer 27)"
