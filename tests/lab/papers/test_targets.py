"""The choice of the targets' settings, and that what is shipped follows from what it says."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from fastav_plugin.lab.papers.targets import CHOSEN, TARGETS, GridPoint, choose, grid, targets
from tests.lab.papers.test_settings import BASE

RECORDED = json.loads(CHOSEN.read_text())


def row(low: float, agreement: float, flops: float) -> dict[str, Any]:
    return {
        "accuracy": {"mean": low + 0.01, "low": low},
        "agreement": {"mean": agreement},
        "flops_ratio": flops,
    }


def test_the_cheapest_that_reaches_a_target_is_chosen() -> None:
    candidates = grid(BASE)
    rows = {candidate: row(0.9, 0.9, 0.1) for candidate in candidates}
    alone, half, quarter = (
        [candidate for candidate in candidates if candidate.keep == keep]
        for keep in (None, 0.5, 0.25)
    )
    rows[alone[0]] = row(0.984, 1.0, 0.2)
    rows[alone[1]] = row(1.0, 0.96, 0.2)
    rows[alone[2]] = row(0.986, 0.97, 0.4)
    rows[alone[3]] = row(1.0, 1.0, 0.5)
    rows[half[0]] = row(1.0, 1.0, 0.36)
    rows[quarter[0]] = row(0.976, 0.0, 0.35)
    chosen = choose(BASE, [{"accuracy": {"mean": 1.0}}, *rows.values()])
    assert chosen == {
        "fastav": asdict(alone[2]),
        "divprune 50 % + fastav": None,
        "divprune + fastav": asdict(quarter[0]),
    }


def test_what_is_shipped_follows_from_its_own_rows() -> None:
    assert RECORDED["targets"] == json.loads(json.dumps({k: asdict(t) for k, t in TARGETS.items()}))
    assert RECORDED["first_clip"] == 100_000
    assert [row["setting"] for row in RECORDED["rows"]] == [
        "dense",
        *(candidate.name(BASE) for candidate in grid(BASE)),
    ]
    assert RECORDED["chosen"] == choose(BASE, RECORDED["rows"])


def test_the_table_holds_what_was_chosen_and_the_published_layer() -> None:
    settings, table = targets(BASE)
    made = {setting.name: setting.make(0) for setting in settings}
    assert [name for _, name in table.rows] == list(made)
    for fields in filter(None, RECORDED["chosen"].values()):
        candidate = GridPoint(**fields)
        assert made[candidate.name(BASE)] == candidate.hooks(BASE)
    kept, cut, fine = made["divprune 50 % + fastav, cut at layer 4"]
    assert kept["visual_keep_ratio"] == kept["audio_keep_ratio"] == 0.5
    assert cut["layer"] == fine["after_layer"] == 4
    assert cut["rule"] == BASE.rules


def test_a_candidate_scales_the_models_own_rule() -> None:
    kept, cut, fine = GridPoint(0.75, 0.25, 0.25).hooks(BASE)
    assert kept["audio_keep_ratio"] == 0.25
    assert cut["rule"] == {"video": "first 4 tokens", "audio": "first 2 tokens"}
    assert cut["layer"] == fine["after_layer"] == 6
    assert fine["drop_ratio"] == 0.2
    assert len(GridPoint(0.5, 4.0, None).hooks(BASE)) == 2
