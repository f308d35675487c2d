"""The load against a server, and what it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from text_generation_server.pb import generate_pb2 as pb

from tests.tgi_real.load import Load, draw, wrong
from tests.tgi_real.requests import Ask
from tests.tgi_real.router import Answer, Router
from tests.tgi_real.setting import ROOT, Setting
from tests.tgi_real.shards import ShardError, Shards

MIB = 2**20
#: What a process may be larger by after the load: pools of the allocator, not requests.
SLACK = 32 * MIB


def abandon(shards: Shards, ask: Ask, batch_id: int) -> bool:
    """Send a request and be gone before its answer; the router then clears its batch.

    Returns:
        whether the shard was at work on it.
    """
    with shards.another() as stub:
        message = pb.Batch(id=batch_id, requests=[ask.message(batch_id)], size=1)
        call = stub.Prefill.future(pb.PrefillRequest(batch=message))
        time.sleep(0.01)
        call.cancel()
    try:
        kept = pb.FilterBatchRequest(batch_id=batch_id, request_ids=[batch_id])
        shards.call("FilterBatch", kept)
        begun = True
    except ShardError:
        begun = False
    shards.call("ClearCache", pb.ClearCacheRequest(id=batch_id))
    return begun


def alone_of(setting: Setting, drawn: Load, name: str, method: str) -> list[list[int]]:
    """What each request gets alone; nothing for those that name a damaged picture."""
    return [
        [] if number in drawn.corrupt else setting.alone(name, method, arrival.ask)
        for number, arrival in enumerate(drawn.arrivals)
    ]


def load(setting: Setting) -> None:
    """64 staggered requests with cancels, damaged pictures and disconnects."""
    name, method, check = "llava", "fastav+divprune", setting.report.check
    files = setting.files
    drawn = draw(files, setting.seed)
    alone = alone_of(setting, drawn, name, method)
    most = 0
    with setting.server(name, method) as shards:
        Router(shards).run(draw(files, setting.seed + 1, count=24).arrivals)
        before, gone, begun = shards.resident(), 0, 0

        def watch(running: int) -> None:
            nonlocal most, gone, begun
            most = max(most, running)
            if router.steps % 9 == 4:
                gone += 1
                begun += abandon(shards, drawn.arrivals[0].ask, 10**6 + gone)

        for turn in ("first", "second"):
            most = gone = begun = 0
            router = Router(shards, watch=watch)
            answers = router.run(drawn.arrivals)
            found = wrong(drawn, answers, alone)
            tokens = sum(len(answer.tokens) for answer in answers)
            seen = (
                f"{len(answers)} requests, {tokens} tokens, up to {most} at once, "
                f"{len(drawn.corrupt)} damaged, {len(drawn.leaving())} left, {gone} disconnected "
                f"({begun} in the middle of a prefill), "
                f"{router.again} sent again, "
                + ", ".join(f"{count} {call}" for call, count in router.calls.items())
            )
            check(
                f"{turn} time: all others get what they get alone",
                not found,
                "; ".join(found) or seen,
            )
            after = shards.resident()
            seen = f"{before / MIB:.1f} MiB before, {after / MIB:.1f} MiB after"
            check(f"{turn} time: the process is as large as before", after < before + SLACK, seen)
        check("is healthy at the end", shards.healthy())


def load_memory(setting: Setting) -> None:
    """The same load in one process with TGI's service: what stays alive is counted."""
    name, method, check = "llava", "fastav+divprune", setting.report.check
    files = setting.files
    command = [sys.executable, "-m", "tests.tgi_real.in_process", str(setting.checkpoint(name))]
    ended = subprocess.run(
        [*command, str(files.folder), str(setting.seed)],
        cwd=ROOT,
        env={**os.environ, **setting.environment(name, method)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if not check("ran", ended.returncode == 0, ended.stderr[-2000:] if ended.returncode else ""):
        return
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    bytes_seen = f"{found['before']} before, {found['peak']} at most, {found['after']} after"
    check("no keys or values stay", found["after"] == found["before"] < found["peak"], bytes_seen)
    check("no batch stays in TGI's cache", found["batches"] == 0, str(found["batches"]))
    check("nothing would have ended the shard", not found["fatal"], str(found["fatal"]))
    drawn = draw(files, setting.seed)
    answers = [Answer(**answer) for answer in found["answers"]]
    alone = alone_of(setting, drawn, name, method)
    mistakes = wrong(drawn, answers, alone)
    check("all others get what they get alone", not mistakes, "; ".join(mistakes))


GROUPS: dict[str, Callable[[Setting], None]] = {"load": load, "load memory": load_memory}
