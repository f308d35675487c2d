"""One rank of a server of several, started as TGI starts it.

`python -m tests.model_overrides.tgi.rank FOLDER`.

FOLDER holds a checkpoint; each rank writes what it said, and which rows its layers kept, into it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from fastav_plugin import FastAVError
from fastav_plugin.model_overrides.tgi.models import get_model
from tests.model_overrides.tgi import double
from tests.model_overrides.tgi.served import Served, Shard, ask, picture
from tests.support.checkpoints import word

WORDS = " ".join(word(token) for token in range(10, 19)) + " "


def play(model: object) -> dict[str, object]:
    """Two requests that overlap."""
    served = Served(model, model.loaded.config)  # type: ignore[attr-defined]
    shard = Shard(served)
    more: dict[str, object] = {}
    shard.prefill(0, ask(0, WORDS, picture(1, 40, 24), WORDS, new=6))
    shard.decode(0)
    shard.prefill(1, ask(1, picture(2, 20, 20), WORDS, new=4))
    shard.decode(0, 1)
    cache = shard.batches[0].past_key_values.cache
    kept = [layer.positions.tolist() for layer in cache.layers]
    heads = cache.layers[0].keys.shape[1]
    shard.finish()
    if "FASTAV_MEDIA_DIR" in os.environ:
        refused = []
        for number, name in ((2, "here.png"), (3, "there.png"), (4, "both.png")):
            try:
                shard.prefill(number, ask(number, f"{WORDS}![]({name})", new=3))
            except ValueError as error:
                refused.append(f"{number}: {error}")
        shard.finish()
        more = {"refused": refused}
    said = {number: said.tokens for number, said in shard.said.items()}
    return {"said": said, "kept": kept, "heads": heads, **more}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        double.install(patch)
        try:
            seen = play(get_model(str(folder), [], None, True, None, None, None, None, False, 4000))
        except FastAVError as error:
            seen = {"error": f"{type(error).__name__}: {error}"}
    (folder / f"rank{os.environ['RANK']}.json").write_text(json.dumps(seen))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
