"""Several shards: copies of a model, and its weights split, say what one shard says."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from fastav_plugin.layers.tensor_parallel import ALONE, Ranks
from fastav_plugin.serving.media.policy import MediaError
from tests.model_overrides.tgi.processors import PROCESSORS
from tests.model_overrides.tgi.served import picture
from tests.support.cases import config_of
from tests.support.families import KNOWN

pytestmark = pytest.mark.double

ROOT = Path(__file__).parents[3]


def launch(
    folder: Path, name: str, ranks: int, media: list[dict[str, str]] | None = None, **more: str
) -> list[dict[str, Any]]:
    """Start ranks as the launcher does, `media` for each; what each of them saw."""
    KNOWN[name].model().save_pretrained(folder)
    PROCESSORS[name]().save_pretrained(folder)
    config_of(name, "fastav+divprune").save_pretrained(str(folder / "pruning"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
        "FASTAV_MODEL_OVERRIDE": "fastav+divprune",
        "FASTAV_CONFIG": str(folder / "pruning"),
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        **more,
    }
    command = [sys.executable, "-m", "tests.model_overrides.tgi.rank", str(folder)]
    started = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environment, "RANK": str(rank), **(media[rank] if media else {})},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    try:
        for process in started:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in started:
            process.kill()
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(ranks)]


def merged(seen: list[dict[str, Any]]) -> dict[str, list[int]]:
    """What the router gets: each request is answered by one of the ranks at each step."""
    found: dict[str, list[int]] = {}
    for rank in seen:
        for number, tokens in rank["said"].items():
            found[number] = found.get(number, []) + tokens
    return {number: sorted(tokens) for number, tokens in found.items()}


def test_what_the_first_makes_is_every_ranks(tmp_path: Path) -> None:
    """Errors as well; over a group of one here, over two processes below."""

    def fail() -> None:
        raise MediaError("gone")

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/met", rank=0, world_size=1)
    try:
        for ranks in (ALONE, Ranks(dist.group.WORLD)):
            assert ranks.first(lambda: {"ids": [1, 2]}) == {"ids": [1, 2]}
            with pytest.raises(MediaError, match="gone"):
                ranks.first(fail)
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_shards_say_what_one_says(tmp_path: Path) -> None:
    alone = launch(tmp_path / "one", "llava", 1)
    copies = launch(tmp_path / "copies", "llava", 2, FASTAV_TGI_SHARDING="replicate")
    split = launch(tmp_path / "split", "llava", 2)
    assert alone[0]["heads"] == copies[0]["heads"] == 2 * split[0]["heads"]
    for seen in (copies, split):
        assert merged(seen) == merged(alone)
        # The same rows on every rank.
        assert [rank["kept"] for rank in seen] == [alone[0]["kept"]] * 2


@pytest.mark.slow
def test_a_model_that_cannot_be_split_says_so(tmp_path: Path) -> None:
    for rank in launch(tmp_path, "qwen2_5_vl", 3):
        assert "shared evenly" in rank["error"] and "SHARDING=replicate" in rank["error"]


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["tensor", "replicate"])
def test_media_that_only_one_shard_can_read(sharding: str, tmp_path: Path) -> None:
    """What is read once holds for all: no shard waits for one that refused, none sees another."""
    media = []
    for rank, names in enumerate((("here", "both"), ("there", "both"))):
        place = tmp_path / f"media{rank}"
        place.mkdir()
        for name in names:
            (place / f"{name}.png").write_bytes(picture(rank, 40, 24))
        media.append({"FASTAV_MEDIA_DIR": str(place)})
    alone = launch(tmp_path / "one", "llava", 1, media[:1])
    # Copies of a model share what they read where they may download.
    more = {"FASTAV_TGI_SHARDING": sharding, "FASTAV_MEDIA_HOSTS": "media.test"}
    both = launch(tmp_path / "both", "llava", 2, media, **more)
    assert merged(both) == merged(alone)
    for seen in both:
        assert seen["refused"] == alone[0]["refused"]
        assert [line[:2] for line in seen["refused"]] == ["3:"]
