"""One rank of a tensor-parallel run, started by torchrun: `worker.py FOLDER`.

FOLDER holds cases.json and a checkpoint of each family; each rank writes what it saw beside them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers.distributed.configuration_utils import DistributedConfig

from fastav_plugin import FastAVCache, FastAVError, LayerHook, LayerView, attach, detach
from fastav_plugin.upstream.arguments import cache_in
from tests.behaviour.devices.case import Case, Seen
from tests.support.cases import config_of, rows_of
from tests.support.families import KNOWN
from tests.support.family_configs import hub
from tests.support.oracle import run
from tests.support.prompts import PAD

Models = dict[tuple[str, str], Any]


class Dice(LayerHook):
    """Keeps tokens at random, on every rank other ones."""

    name = "test_dice"

    def layers(self, num_layers: int) -> frozenset[int]:
        return frozenset({-1, 2, 4})

    def __call__(self, view: LayerView) -> torch.Tensor:
        return torch.rand(view.alive.shape) < 0.6


def load(folder: Path, case: Case) -> Any:
    """The family's model, this rank's part of it."""
    kind = getattr(hub, KNOWN[case.family].model_class)
    model = kind.from_pretrained(
        folder / case.family,
        attn_implementation=case.attention,
        distributed_config=DistributedConfig(**case.spread),
        **case.load,
    )
    model.generation_config = hub.GenerationConfig(pad_token_id=PAD)
    return model


def play(model: Any, case: Case) -> Seen:
    """Generate as a case says, with random numbers that differ from rank to rank."""
    family = KNOWN[case.family]
    rows = rows_of(case.family, case.shape)
    if case.method == "dice":
        config = config_of(case.family, "none", hooks=[Dice()])
    else:
        config = config_of(case.family, case.method)
    torch.manual_seed(0 if "do_sample" in case.options else 100 + dist.get_rank())
    cache = None
    try:
        if case.how == "attached":
            attach(model, config)
        else:
            cache = FastAVCache(config, family.token_map(rows))
        result = run(model, family.batch(rows), cache, **case.options)
    finally:
        detach(model)
    held = cache_in(result.output)
    return Seen(
        tokens=result.tokens,
        logits=result.logits,
        positions=[layer.positions for layer in held.layers],
        ratio=held.report(row=None).flops_ratio,
        heads=held.layers[0].keys.shape[1],
    )


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    seen: list[Any] = []
    models: Models = {}
    for data in json.loads((folder / "cases.json").read_text()):
        case = Case(**data)
        key = (case.family, case.attention + str(case.spread) + str(case.load))
        if key not in models:
            models[key] = load(folder, case)
        try:
            seen.append(play(models[key], case))
        except FastAVError as error:
            seen.append(str(error))
    torch.save(seen, folder / f"rank{os.environ['RANK']}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
