"""The benchmark at the shape of a 7B model that ships with the package, and how to repeat it."""

import json
from pathlib import Path
from typing import Any

from fastav_plugin.lab.bench.shapes import find_shape

#: What `fastav bench --output` wrote: in a checkout a link to deploy/benchmarks/results, so that
#: this file and the pages there state the same figures.
RECORD = Path(__file__).parent / "cpu-qwen2-7b.json"


def read_record() -> dict[str, Any]:
    """The only point of the benchmark, with the facts about the run and the command behind it."""
    found: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    (point,) = found.pop("points")
    return {**found, **point, "command": _command(found, point)}


def _command(found: dict[str, Any], point: dict[str, Any]) -> str:
    methods = [case["case"] for case in point["cases"] if case["bit_identical"] is None]
    own = find_shape(found["shape"]).overrides
    given = {name: value for name, value in found["overrides"].items() if own.get(name) != value}
    ratios = {"visual_keep_ratio": "--keep-ratio", "audio_keep_ratio": "--audio-keep-ratio"}
    options = [f"{ratios[name]} {value:g}" for name, value in given.items()]
    return " ".join(
        [
            f"fastav bench --shape {found['shape']} --methods {','.join(methods)}",
            *options,
            f"--repeats {found['repeats']} --new-tokens {found['new_tokens']}",
            f"--no-idle --threads {found['machine']['threads']}",
        ]
    )
