"""Groups of checks, each against servers of its own."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fastav_plugin import FastAVConfig
from tests.tgi_real.cases import CASES, Reference
from tests.tgi_real.checkpoints import Files, checkpoint, write_files
from tests.tgi_real.report import Report
from tests.tgi_real.requests import MAX_INPUT_TOKENS, MAX_TOTAL_TOKENS, Ask, Medium
from tests.tgi_real.router import Answer, Arrival, Router
from tests.tgi_real.shards import Shards

ROOT = Path(__file__).parents[2]
SHIMS = ROOT / "deploy" / "tgi" / "shims"
METHODS = ("fastav", "divprune", "fastav+divprune", "none")
#: What the launcher always sets; TGI fails without.
ALWAYS = {"ATTENTION": "paged", "PREFIX_CACHING": "0"}


@dataclass(frozen=True)
class Setting:
    """What the groups share.

    Attributes:
        report: of the checks.
        folder: for models and media files.
        seed: of the load.
    """

    report: Report
    folder: Path
    seed: int

    @functools.cached_property
    def files(self) -> Files:
        return write_files(self.folder / "media")

    def checkpoint(self, name: str) -> Path:
        return checkpoint(name, self.folder)

    @functools.cache  # noqa: B019  one object for the whole run
    def reference(self, name: str) -> Reference:
        return Reference(CASES[name], self.checkpoint(name))

    def config_file(self, name: str, method: str) -> Path:
        """A fastav_config.json for a server, and for the reference."""
        place = self.folder / "configs" / f"{name}-{method}"
        self.reference(name).config(method).save_pretrained(place)
        return place

    @contextmanager
    def server(
        self, name: str, method: str | None, count: int = 1, **more: str
    ) -> Iterator[Shards]:
        """A running server of a model, warmed up as the router does."""
        environment = {**ALWAYS, **more}
        if method is not None:
            environment |= {
                "PATH": f"{SHIMS}{os.pathsep}{os.environ['PATH']}",
                "FASTAV_MODEL_OVERRIDE": method,
                "FASTAV_CONFIG": str(self.config_file(name, method)),
                "FASTAV_MEDIA_DIR": str(self.files.folder),
            }
        command = ["text-generation-server", "serve", str(self.checkpoint(name))]
        with Shards(command, count, environment) as shards:
            self.greet(shards)
            yield shards
            self.report.check("is healthy at the end", shards.healthy())

    def greet(self, shards: Shards) -> None:
        """The router's first calls."""
        info = shards.info()
        seen = f"{info.dtype}, {info.device_type}, padding {info.requires_padding}"
        self.report.check("Info", info.requires_padding and not info.support_chunking, seen)
        warm = shards.warm_up()
        seen = f"input {warm.max_input_tokens}, total {warm.max_total_tokens}"
        if warm.HasField("max_supported_total_tokens"):
            seen += f", supports {warm.max_supported_total_tokens}"
        asked = (MAX_INPUT_TOKENS, MAX_TOTAL_TOKENS)
        answered = (warm.max_input_tokens, warm.max_total_tokens)
        self.report.check("Warmup keeps the launcher's limits", answered == asked, seen)


def differences(answers: Sequence[Answer], wanted: Sequence[list[int]]) -> str:
    """The requests whose tokens are not the wanted ones."""
    return "; ".join(
        f"request {number}: {answer.error or answer.tokens} instead of {tokens}"
        for number, (answer, tokens) in enumerate(zip(answers, wanted, strict=True))
        if answer.tokens != tokens
    )


def ask_all(setting: Setting, shards: Shards, asks: list[Ask], wanted: list[list[int]]) -> None:
    """Ask one at a time, then all overlapping, then all with one that leaves."""
    check = setting.report.check
    tokens = sum(map(len, wanted))
    alone = [Router(shards).run([Arrival(ask)])[0] for ask in asks]
    found = differences(alone, wanted)
    check(
        "one at a time equals generate()",
        not found,
        found or f"{len(asks)} requests, {tokens} tokens",
    )
    router = Router(shards, prefill_size=3)
    together = router.run([Arrival(ask, number // 2) for number, ask in enumerate(asks)])
    found = differences(together, wanted)
    check(
        "overlapping equals generate()",
        not found,
        found or f"{router.calls}, {router.joined} joined",
    )
    used = all(router.calls.get(name) for name in ("Prefill", "Decode", "FilterBatch"))
    check("batches were joined and filtered", used and router.joined > 0)
    longest = max(range(len(asks)), key=lambda number: asks[number].new_tokens)
    arrivals = [Arrival(ask, 0, 2 if n == longest else None) for n, ask in enumerate(asks)]
    left = Router(shards).run(arrivals)
    expected = [t[:2] if n == longest else t for n, t in enumerate(wanted)]
    found = differences(left, expected)
    check("one that leaves changes no other", not found and left[longest].cancelled, found)


def control(setting: Setting) -> None:
    """A text model of TGI's own on the stock server: proves the driver."""
    asks = CASES["opt"].asked(setting.files)
    reference = setting.reference("opt")
    wanted = [reference.tokens(ask, None) for ask in asks]
    with setting.server("opt", None) as shards:
        ask_all(setting, shards, asks, wanted)


def served(setting: Setting, name: str, method: str, count: int = 1, **more: str) -> None:
    """One model under one override."""
    reference, asks = setting.reference(name), CASES[name].asked(setting.files)
    config = FastAVConfig.from_pretrained(setting.config_file(name, method))
    wanted = [reference.tokens(ask, config) for ask in asks]
    if method != "none":
        dense = [reference.tokens(ask, None) for ask in asks]
        changed = sum(one != other for one, other in zip(wanted, dense, strict=True))
        setting.report.check(
            "pruning is seen in the tokens", changed > 0, f"{changed} of {len(asks)}"
        )
    with setting.server(name, method, count, **more) as shards:
        ask_all(setting, shards, asks, wanted)
        faults(setting, shards, asks[0], wanted[0])


def faults(setting: Setting, shards: Shards, good: Ask, wanted: list[int]) -> None:
    """What is wrong with a request is its error alone; the shard answers the next."""
    files = setting.files
    bad = {
        "a damaged picture": Medium("image", files.corrupt),
        "a file that is not there": Medium("image", files.folder / "absent.png"),
    }
    for name, medium in bad.items():
        answer = Router(shards).run([Arrival(Ask((medium, *good.pieces), 4))])[0]
        message = (answer.error or "").partition("INTERNAL: ")[2]
        setting.report.check(f"{name} is a request's error", bool(message), message[:160])
    outside = replace(good, pieces=("![](../configs/secret.png)", "what"), chunks=False)
    answer = Router(shards).run([Arrival(outside)])[0]
    setting.report.check(
        "a path out of the media folder is refused",
        answer.error is not None,
        (answer.error or "")[:160],
    )
    answer = Router(shards).run([Arrival(good)])[0]
    setting.report.check("the next request is answered", answer.tokens == wanted)


GROUPS: dict[str, Callable[[Setting], None]] = {"control": control}


def _model(name: str, method: str) -> Callable[[Setting], None]:
    def group(setting: Setting) -> None:
        served(setting, name, method)

    group.__doc__ = f"The {name} checkpoint with --model-override {method}."
    return group


GROUPS |= {name: _model(name, "fastav") for name in CASES if name != "opt"}
GROUPS |= {f"llava {method}": _model("llava", method) for method in METHODS[1:]}
