"""The pruner's arithmetic, timed against plain versions.

Run it with `python -m fastav_plugin.lab.bench.parts`.

Selection of diverse tokens, attention rollout and last-query scores, each compared with the same
result written directly from its formula; and the selectors of other papers, each compared with
DivPrune's. The versions take turns; wall time and CPU time are
reported, the latter because a busy machine disturbs it less.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fastav_plugin.functional.diversity import max_min_diversity, pick_in_groups
from fastav_plugin.functional.rollout import rollout_row
from fastav_plugin.functional.scores import query_scores
from fastav_plugin.lab.bench.clock import forget_peak_memory, machine, peak_memory
from fastav_plugin.lab.bench.peers import published_selection
from fastav_plugin.lab.bench.selectors import QUESTION, clip_view, selector_calls
from fastav_plugin.lab.bench.shapes import DTYPES

PARTS = ("selection", "selectors", "rollout", "scoring")


@dataclass(frozen=True)
class Sizes:
    """What is timed. The defaults are a 7B model's.

    Attributes:
        rows: candidates of the selection, M.
        width: their features, d.
        keep: picks, k.
        window: candidates per window of the windowed selection, video tokens per frame.
        tokens: prompt tokens of rollout and scores, video tokens of the selectors.
        heads: query heads.
        groups: key/value heads.
        size: head size.
        layers: layers of the rollout.
        repeats: rounds, after two calls that warm up.
        dtype: of queries, keys and features as the model holds them.
    """

    rows: int = 6272
    width: int = 4096
    keep: int = 627
    window: int = 196
    tokens: int = 2222
    heads: int = 28
    groups: int = 4
    size: int = 128
    layers: int = 14
    repeats: int = 3
    dtype: str = "bfloat16"


@dataclass
class Timing:
    """One version of one part: seconds of each round, memory of one call, remarks."""

    part: str
    version: str
    call: Callable[[], Tensor]
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    remarks: dict[str, float] = field(default_factory=dict)

    def run(self) -> Tensor:
        """Call once, on the clock."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = self.call()
        self.cpu_seconds.append(time.process_time() - cpu)
        self.seconds.append(time.perf_counter() - wall)
        return result

    def to_dict(self, reference: Timing) -> dict[str, Any]:
        """Plain JSON data; the first version of a part is the reference."""
        return {
            "part": self.part,
            "version": self.version,
            "median_seconds": statistics.median(self.seconds),
            "least_seconds": min(self.seconds),
            "least_cpu_seconds": min(self.cpu_seconds),
            "times_faster": min(reference.seconds) / min(self.seconds),
            "times_less_cpu": min(reference.cpu_seconds) / min(self.cpu_seconds),
            "peak_bytes": self.peak_bytes,
            **self.remarks,
        }


def run_parts(sizes: Sizes, parts: Sequence[str] = PARTS) -> dict[str, Any]:
    """Time the parts; plain JSON data with one entry per version, the reference first."""
    found = []
    for part in parts:
        versions = _VERSIONS[part](sizes)
        for version in versions:
            # The second call: the first also holds what libraries set up once.
            version.call()
            forget_peak_memory()
            before = peak_memory()
            result = version.call()
            peak = peak_memory()
            if peak is not None and before is not None:
                version.peak_bytes = peak - before
            if part == "selection":
                version.remarks = spread_of(_features(sizes), result)
        for _ in range(sizes.repeats):
            for version in versions:
                version.run()
        found += [version.to_dict(versions[0]) for version in versions]
    return dataclasses.asdict(sizes) | {"machine": machine(), "versions": found}


def explicit_rollout(row: Tensor, queries: Sequence[Tensor], keys: Sequence[Tensor]) -> Tensor:
    """`row @ R` by the n x n attention of each layer: float32 [n] of [n], [H, n, D], [G, n, D]."""
    length = len(row)
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    result = row
    for query, key in zip(reversed(queries), reversed(keys), strict=True):
        key = key.float().repeat_interleave(len(query) // len(key), dim=0)
        logits = query.float() @ key.transpose(1, 2) * query.shape[-1] ** -0.5
        attention = logits.masked_fill(hidden, float("-inf")).softmax(dim=-1).mean(dim=0)
        result = 0.5 * (result @ attention) + 0.5 * result
    return result


def upcast_scores(query: Tensor, keys: Tensor) -> Tensor:
    """Last-query scores through a float32 copy of all keys: float32 [B, T]."""
    batch, groups, _, size = keys.shape
    grouped = query.float().view(batch, groups, -1, size)
    logits = (grouped @ keys.float().transpose(2, 3)).flatten(1, 2) * size**-0.5
    scores: Tensor = logits.softmax(dim=-1).mean(dim=1)
    return scores


def spread_of(features: Tensor, picks: Tensor) -> dict[str, float]:
    """Least and mean distance between picks, `1 - cosine` in float64."""
    units = torch.nn.functional.normalize(features[picks].double(), dim=1)
    distances = 1 - units @ units.T
    others = ~torch.eye(len(picks), dtype=torch.bool)
    if len(picks) < 2:
        return {}
    return {
        "least_distance": float(distances[others].min()),
        "mean_distance": float(distances[others].mean()),
    }


def _random(*shape: int, dtype: str) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=draw).to(DTYPES[dtype])


def _features(sizes: Sizes) -> Tensor:
    return _random(sizes.rows, sizes.width, dtype=sizes.dtype)


def _selections(sizes: Sizes) -> list[Timing]:
    features = _features(sizes)
    number = -(-sizes.rows // sizes.window)
    places = torch.arange(number * sizes.window).view(number, sizes.window)
    valid = places < sizes.rows
    groups = places.clamp(max=sizes.rows - 1)
    # The picks are shared so that the first n windows keep their share of all picks.
    ends = [min(sizes.window * end, sizes.rows) for end in range(number + 1)]
    quotas = torch.tensor([round(sizes.keep * end / sizes.rows) for end in ends]).diff()
    most = int(quotas.max())

    def windowed() -> Tensor:
        picks = pick_in_groups(features, groups, valid, most)
        return groups.gather(1, picks)[torch.arange(most) < quotas[:, None]]

    upcast = features.float()
    return [
        Timing("selection", "published", lambda: published_selection(upcast, sizes.keep)),
        Timing("selection", "joint", lambda: max_min_diversity(features, sizes.keep)),
        Timing("selection", f"windows of {sizes.window}", windowed),
    ]


def _rollouts(sizes: Sizes) -> list[Timing]:
    row = torch.full((sizes.tokens,), 1 / sizes.tokens)
    # One layer's tensors serve all: what they hold costs no time.
    queries = [_random(sizes.heads, sizes.tokens, sizes.size, dtype=sizes.dtype)] * sizes.layers
    keys = [_random(sizes.groups, sizes.tokens, sizes.size, dtype=sizes.dtype)] * sizes.layers
    return [
        Timing("rollout", "explicit", lambda: explicit_rollout(row, queries, keys)),
        Timing("rollout", "row by row", lambda: rollout_row(row, queries, keys)),
    ]


def _scores(sizes: Sizes) -> list[Timing]:
    query = _random(1, sizes.heads, sizes.size, dtype=sizes.dtype)
    keys = _random(1, sizes.groups, sizes.tokens, sizes.size, dtype=sizes.dtype)
    scaling = sizes.size**-0.5
    return [
        Timing("scoring", "upcast", lambda: upcast_scores(query, keys)),
        Timing("scoring", "by blocks", lambda: query_scores(query, keys, scaling=scaling)),
    ]


def _selectors(sizes: Sizes) -> list[Timing]:
    features = _random(sizes.tokens + QUESTION, sizes.width, dtype=sizes.dtype)
    view = clip_view(features, sizes.window)
    calls = selector_calls(view, sizes.keep)
    return [Timing("selectors", name, call) for name, call in calls.items()]


_VERSIONS = {
    "selection": _selections,
    "selectors": _selectors,
    "rollout": _rollouts,
    "scoring": _scores,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: sizes, parts, `--threads` and `--json`."""
    parser = argparse.ArgumentParser("python -m fastav_plugin.lab.bench.parts", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    for entry in dataclasses.fields(Sizes):
        kind = str if entry.name == "dtype" else int
        parser.add_argument(f"--{entry.name}", type=kind, default=entry.default)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    given = vars(parser.parse_args(arguments))
    parts, threads, as_json = given.pop("parts"), given.pop("threads"), given.pop("json")
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; known: {', '.join(PARTS)}")
    if given["dtype"] not in DTYPES:
        parser.error(f"unknown dtype {given['dtype']!r}; known: {', '.join(DTYPES)}")
    wrong = [name for name, value in given.items() if isinstance(value, int) and value < 1]
    if wrong:
        parser.error(f"--{wrong[0]} must be at least 1, got {given[wrong[0]]}")
    for name, part in (("rows", "selection"), ("tokens", "selectors")):
        if part in (parts or PARTS) and given["keep"] > given[name]:
            parser.error(f"--keep must be at most --{name}, {given[name]}, got {given['keep']}")
    if given["heads"] % given["groups"]:
        parser.error(f"--heads must be a multiple of --groups, {given['groups']}")
    if threads is not None:
        torch.set_num_threads(threads)
    found = run_parts(Sizes(**given), parts or PARTS)
    if as_json:
        print(json.dumps(found))
        return
    for entry in found["versions"]:
        peak = "" if entry["peak_bytes"] is None else f"{entry['peak_bytes'] / 1e6:8.1f} MB"
        spread = [f"{name} {entry[name]:.4f}" for name in entry if name.endswith("distance")]
        print(
            f"{entry['part']:10}{entry['version']:18}{entry['least_seconds'] * 1e3:10.2f} ms"
            f"{entry['least_cpu_seconds'] * 1e3:10.2f} ms cpu{entry['times_less_cpu']:8.1f} x"
            f"{peak}  {', '.join(spread)}"
        )


if __name__ == "__main__":
    main()
