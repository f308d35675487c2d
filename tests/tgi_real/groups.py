"""Groups of checks, each against servers of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.tgi_real import signatures
from tests.tgi_real.cases import CASES
from tests.tgi_real.launching import GROUPS as LAUNCHING
from tests.tgi_real.requests import Ask, Medium
from tests.tgi_real.router import Answer, Arrival, Router
from tests.tgi_real.setting import Setting
from tests.tgi_real.shards import Shards
from tests.tgi_real.under_load import GROUPS as UNDER_LOAD
from tests.tgi_real.unsteady import GROUPS as UNSTEADY

METHODS = ("fastav", "divprune", "fastav+divprune", "none")

#: Whether one rank answers a request that the others were not sent.
SHARING = {True: "each rank has a model of its own", False: "the ranks work on one model"}


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
    alone = [Router(shards).run([Arrival(ask)])[0] for ask in asks]
    found = differences(alone, wanted)
    seen = f"{len(asks)} requests, {sum(map(len, wanted))} tokens"
    check("one at a time equals generate()", not found, found or seen)
    router = Router(shards, prefill_size=3)
    together = router.run([Arrival(ask, number // 2) for number, ask in enumerate(asks)])
    found = differences(together, wanted)
    seen = ", ".join(f"{count} {name}" for name, count in router.calls.items())
    check("overlapping equals generate()", not found, found or f"{seen}, {router.joined} joined")
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
    wanted = [setting.alone("opt", None, ask) for ask in asks]
    with setting.server("opt", None) as shards:
        ask_all(setting, shards, asks, wanted)
        setting.report.check("is healthy at the end", shards.healthy())


def served(setting: Setting, name: str, method: str, count: int = 1, **more: str) -> None:
    """One model under one override."""
    asks = CASES[name].asked(setting.files)
    wanted = [setting.alone(name, method, ask) for ask in asks]
    dense = [setting.alone(name, None, ask) for ask in asks]
    changed = sum(one != other for one, other in zip(wanted, dense, strict=True))
    seen = f"{changed} of {len(asks)} answers"
    setting.report.check("tokens show the pruning", (changed > 0) == (method != "none"), seen)
    with setting.server(name, method, count, **more) as shards:
        ask_all(setting, shards, asks, wanted)
        faults(setting, shards, asks[0], wanted[0])
        setting.report.check("is healthy at the end", shards.healthy())
        if count > 1:
            apart = shards.answers_alone(asks[0].message(1))
            setting.report.check(SHARING[apart], apart == ("replicate" in more.values()))


def faults(setting: Setting, shards: Shards, good: Ask, wanted: list[int]) -> None:
    """What is wrong with a request is its error alone; the shard answers the next."""
    files = setting.files
    words = [piece for piece in good.pieces if isinstance(piece, str)]
    bad: dict[str, str | Medium] = {
        "a damaged picture": Medium("image", files.corrupt),
        "a file that is not there": Medium("image", files.folder / "absent.png"),
        "a path out of the media folder": "![](../configs/secret.png)",
        "an address": "![](http://127.0.0.1:1/picture.png)",
    }
    for name, medium in bad.items():
        answer = Router(shards).run([Arrival(Ask((*words[:1], medium, *words[1:]), 4))])[0]
        message = (answer.error or "").partition("INTERNAL: ")[2]
        setting.report.check(f"{name} is a request's error", bool(message), message[:150])
    answer = Router(shards).run([Arrival(good)])[0]
    setting.report.check("the next request is answered", answer.tokens == wanted)


def _model(name: str, method: str, count: int = 1, **more: str) -> Callable[[Setting], None]:
    def group(setting: Setting) -> None:
        served(setting, name, method, count, **more)

    how = f", {count} shards {more}" if count > 1 else ""
    group.__doc__ = f"The {name} checkpoint with --model-override {method}{how}."
    return group


GROUPS: dict[str, Callable[[Setting], None]] = {
    "control": control,
    "signatures": signatures.compare,
    **{name: _model(name, "fastav") for name in CASES if name != "opt"},
    **{f"llava {method}": _model("llava", method) for method in METHODS[1:]},
    **{
        f"{name} {how}": _model(name, "fastav+divprune", 2, FASTAV_TGI_SHARDING=how)
        for name, how in (("llava", "replicate"), ("llava", "tensor"), ("qwen2_5_vl", "tensor"))
    },
    **UNSTEADY,
    **LAUNCHING,
    **UNDER_LOAD,
}
