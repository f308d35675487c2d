import copy
import json
import pickle
import re
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
from torch import Tensor

from fastav_plugin import Modality, StateError, TokenMap
from fastav_plugin.flops import LayerCost, prefill_macs
from fastav_plugin.report import PruningReport, make_report

COST = LayerCost(hidden_size=8, intermediate_size=16, kv_size=4, query_size=8)


def batch() -> tuple[TokenMap, list[Tensor]]:
    """Two prompts of 8 and 5 positions, three layers, one decoded token."""
    tokens = TokenMap.batch(
        [TokenMap.from_spans(8, video=[(1, 4)], audio=[(4, 6)]), TokenMap.from_spans(5)]
    )
    full = torch.arange(9).expand(2, -1).clone()
    full[1, :3] = -1
    cut = torch.tensor([[0, 1, 4, 6, 7, 8], [3, 4, 5, 6, 7, 8]])
    fine = torch.tensor([[0, 4, 6, 7, 8, -1], [3, 4, 5, 6, 7, 8]])
    fine[0] = torch.tensor([-1, 0, 4, 6, 7, 8])
    return tokens, [full, cut, fine]


def report(row: int | None, **changes: Any) -> PruningReport[Any]:
    tokens, positions = batch()
    values: dict[str, Any] = {
        "method": "fastav",
        "token_map": tokens,
        "positions": positions,
        "cost": COST,
        "kv_bytes": 100,
        "dense_kv_bytes": 200,
        "reason": None,
        "row": row,
    }
    return make_report(**{**values, **changes})


def test_one_row() -> None:
    found = report(0)
    assert found.tokens_per_layer == [8, 5, 4]
    assert found.modality_per_layer == {"text": [3, 3, 3], "video": [3, 1, 0], "audio": [2, 1, 1]}
    assert found.kept_positions(1) == [0, 1, 4, 6, 7]
    assert found.kept_positions(-1, "audio") == [4]
    assert found.kept_positions(0, Modality.VIDEO) == [1, 2, 3]
    assert found.kept_positions(2, "video") == []
    sizes = {"hidden_size": 8, "intermediate_size": 16, "kv_size": 4, "query_size": 8}
    pruned, dense = prefill_macs([8, 5, 4], **sizes), prefill_macs([8, 8, 8], **sizes)
    assert found.flops_ratio == pytest.approx(pruned / dense)
    assert found.token_map.rows == 1


def test_what_choosing_costs_is_counted() -> None:
    plain, dense = report(0), COST.macs([8] * 3)
    assert plain.overhead_ratio == 0
    found = report(0, overhead=torch.tensor([500, 0]))
    assert found.overhead_ratio == 500 / dense
    assert found.flops_ratio == pytest.approx(plain.flops_ratio + 500 / dense)
    assert f"FLOPs {100 * found.flops_ratio:.1f} % of dense" in str(found)
    both = report(None, overhead=torch.tensor([500, 0]))
    assert both.overhead_ratio == pytest.approx(found.overhead_ratio / 2)
    assert both.flops_ratio == pytest.approx((found.flops_ratio + 1) / 2)
    assert found.to_dict()["overhead_ratio"] == found.overhead_ratio


def test_padding_does_not_count() -> None:
    found = report(1)
    assert found.tokens_per_layer == [5, 5, 5]
    assert found.modality_per_layer == {"text": [5, 5, 5]}
    assert found.flops_ratio == 1
    assert found.kept_positions(0) == [3, 4, 5, 6, 7]
    assert report(-1).tokens_per_layer == [5, 5, 5]


def test_all_rows() -> None:
    found = report(None)
    assert found.tokens_per_layer == [[8, 5, 4], [5, 5, 5]]
    assert found.modality_per_layer["video"] == [[3, 1, 0], [0, 0, 0]]
    assert found.flops_ratio == pytest.approx((report(0).flops_ratio + 1) / 2)
    assert found.kept_positions(1, row=1) == [3, 4, 5, 6, 7]
    assert found.kept_positions(1, "audio", row=0) == [4]


@pytest.mark.parametrize("row", [2, -3])
def test_a_row_that_is_not_there(row: int) -> None:
    with pytest.raises(StateError, match=f"2 rows.*row={row}"):
        report(row)


def test_to_dict_is_json() -> None:
    for row in (0, None):
        found = report(row, reason="the prompt holds no media tokens")
        data = json.loads(json.dumps(found.to_dict()))
        assert data["tokens_per_layer"] == found.tokens_per_layer
        assert data["reason"] == "the prompt holds no media tokens"
        assert (data["kv_bytes"], data["dense_kv_bytes"]) == (100, 200)
        assert data["method"] == "fastav"


def test_str_is_one_line() -> None:
    cost = "of dense; KV of all 2 rows 100 of 200 B"
    one = f"8 -> 5 (layer 1) -> 4 (layer 2); FLOPs {100 * report(0).flops_ratio:.1f} % {cost}"
    assert str(report(0)) == f"row 0 of 2: 3 text, 3 video, 2 audio tokens; {one}"
    assert str(report(-1)).startswith("row 1 of 2: ")
    cost = "of dense; KV 100 of 200 B"
    both = f"13 -> 10 (layer 1) -> 9 (layer 2); FLOPs {100 * report(None).flops_ratio:.1f} % {cost}"
    assert str(report(None)) == f"2 rows: 8 text, 3 video, 2 audio tokens; {both}"
    why = "the prompt holds no media tokens"
    assert str(report(1, reason=why)) == f"row 1 of 2: 5 text tokens; unpruned, because {why}"
    assert repr(report(0)) == f"PruningReport(fastav: {report(0)})"


@pytest.mark.parametrize(
    "held, dense, text",
    [
        (999, 2000, "0.999 of 2 kB"),
        (233_200, 1_424_000, "0.233 of 1.42 MB"),
        (5_250_000_000, 7_000_000_000, "5.25 of 7 GB"),
    ],
)
def test_str_gives_bytes_in_one_unit(held: int, dense: int, text: str) -> None:
    assert str(report(0, kv_bytes=held, dense_kv_bytes=dense)).endswith(
        f"; KV of all 2 rows {text}"
    )


def test_reports_are_compared_by_what_they_count() -> None:
    assert report(0) == report(0)
    assert hash(report(0)) == hash(report(0))
    assert report(None) == report(None)
    assert report(0) != report(1)
    assert report(0) != report(0, kv_bytes=99)
    assert report(0) != report(0, reason="no hooks")
    assert report(0) in [report(1), report(0)]
    assert len({report(0), report(0), report(1)}) == 2
    other = report(0, token_map=batch()[0].map_rows(lambda rows: rows.clone()))
    assert other == report(0), "tensors take no part"


def test_reports_are_copied_and_pickled() -> None:
    found = report(None, kv_reserve_bytes=7)
    for twin in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert twin == found
        assert str(twin) == str(found)
        assert twin.kept_positions(1, "audio") == found.kept_positions(1, "audio")
        assert twin.to_dict() == found.to_dict()
        assert twin.kv_reserve_bytes == 7


class _Table(HTMLParser):
    """The text of each line of an HTML table, and the widths of its bar."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.lines: list[list[str]] = []
        self.widths: list[list[float]] = []
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.lines.append([])
            self.widths.append([])
        style = dict(attrs).get("style") or ""
        if self.widths and (width := re.search(r"^width:([\d.]+)%", style)):
            self.widths[-1].append(float(width[1]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.lines:
            self.lines[-1].append(data)


def test_a_notebook_shows_bars() -> None:
    table = _Table(report(0)._repr_html_())
    assert table.lines == [
        [
            "layer",
            "\N{BLACK SQUARE}",
            " text",
            "\N{BLACK SQUARE}",
            " video",
            "\N{BLACK SQUARE}",
            " audio",
            "tokens",
        ],
        ["prompt", "3", "3", "2", "8"],
        ["0", "3", "3", "2", "8"],
        ["1", "3", "1", "1", "5"],
        ["2", "3", "0", "1", "4"],
    ]
    assert table.widths[1] == [37.5, 37.5, 25]
    assert table.widths[4] == [37.5, 0, 12.5]
    both = _Table(report(None)._repr_html_())
    assert both.lines[1] == ["prompt", "8", "3", "2", "13"]
    text = report(1)._repr_html_()
    assert _Table(text).lines[2:] == [["0\N{EN DASH}2", "5", "5"]]
    for page in (text, report(0, method="a<b>")._repr_html_()):
        assert "src=" not in page
        assert "href" not in page
        assert "<b>:" not in page


@pytest.mark.parametrize("name", ["speech", "VIDEOS", ""])
def test_an_unknown_modality_is_a_clear_error(name: str) -> None:
    with pytest.raises((StateError, ValueError), match="video"):
        report(0).kept_positions(0, name)


def test_no_tokens_at_all_does_not_divide_by_zero() -> None:
    tokens = TokenMap.batch([TokenMap.from_spans(3)])
    tokens = tokens.map_rows(torch.zeros_like)
    nothing = torch.full((1, 3), -1)
    assert report(0, token_map=tokens, positions=[nothing]).tokens_per_layer == [0]


def test_cost_counts_grouped_heads() -> None:
    assert COST.macs([3]) == 2 * 3 * 8 * (8 + 4) + 2 * 9 * 8 + 3 * 3 * 8 * 16
