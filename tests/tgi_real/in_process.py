"""The load inside one process that has the shard's objects: what stays in memory is counted.

Started by the driver in a process of its own, with the environment of a shard. Prints one JSON
object: answers, batches left in TGI's cache, and bytes of keys and values that are alive.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch

from fastav_plugin.layers.kv_layer import FastAVLayer
from fastav_plugin.model_overrides.tgi import startup
from tests.tgi_real.requests import warmup_message
from tests.tgi_real.router import Router
from tests.tgi_real.shards import ShardError


class InProcess:
    """TGI's service without the wire.

    Args:
        folder: of the checkpoint.

    Attributes:
        service: TGI's own, with the model that a shard would serve.
        fatal: errors after which a shard would shut down.
    """

    def __init__(self, folder: Path) -> None:
        from text_generation_server import models

        startup.replace_get_model(models)
        from text_generation_server.cache import Cache
        from text_generation_server.server import TextGenerationService

        model = models.get_model(str(folder), [], None, False, None, None, None, None, False, None)
        self.service = TextGenerationService(model, Cache(), [])
        self.fatal: list[str] = []

    def call(self, name: str, message: Any) -> list[Any]:
        """As Shards.call, with one shard."""
        try:
            return [asyncio.run(getattr(self.service, name)(message, None))]
        except Exception as error:
            if isinstance(error, RuntimeError):
                self.fatal.append(f"{name}: {error}")
            raise ShardError(f"{name}: INTERNAL: {error}") from error


def live_bytes() -> int:
    """Bytes of all keys and values of this package that anything still refers to."""
    gc.collect()
    layers = [item for item in gc.get_objects() if isinstance(item, FastAVLayer)]
    tensors = [t for layer in layers for t in (layer.keys, layer.values) if t is not None]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def main() -> None:
    folder, media, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    from tests.tgi_real.checkpoints import write_files
    from tests.tgi_real.load import draw

    server = InProcess(folder)
    server.call("Warmup", warmup_message())
    before, peak = live_bytes(), 0

    def watch(running: int) -> None:
        nonlocal peak
        # Looking at every object of the process takes longer than a step.
        if router.steps % 8 == 0:
            peak = max(peak, live_bytes())

    load = draw(write_files(media), seed)
    router = Router(server, watch=watch)
    answers = router.run(load.arrivals)
    found = {
        "before": before,
        "peak": peak,
        "after": live_bytes(),
        "batches": len(server.service.cache),
        "fatal": server.fatal,
        "answers": [dataclasses.asdict(answer) for answer in answers],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
