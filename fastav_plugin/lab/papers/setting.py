"""A named setting of a table, and the one value of it that is solved for equal average tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastav_plugin.config import FastAVConfig

#: Constructor arguments of hooks with their names, as `LayerHook.to_dict` gives them.
Hooks = list[dict[str, Any]]


@dataclass(frozen=True)
class PaperSetting:
    """One setting, which may be in several tables.

    Attributes:
        name: unique.
        make: hooks for a value of the free parameter.
        like: name of an earlier setting whose average tokens per layer this one must match; None
            without a free parameter.
        values: where the free parameter is searched: the ends of an interval, or all possible
            values; a larger one keeps more tokens.
        measured: whether the average depends on the content of the prompt.
        control: whether this is a random control, which others are compared with.
    """

    name: str
    make: Callable[[float], Hooks]
    like: str | None = None
    values: Sequence[float] = (0.005, 1.0)
    measured: bool = False
    control: bool = False

    def config(self, value: float = 0) -> FastAVConfig:
        """The setting at one value of its free parameter."""
        return FastAVConfig(hooks=self.make(value))


@dataclass(frozen=True)
class PaperTable:
    """Settings that are compared.

    Attributes:
        key: short name.
        title: what is compared.
        about: how, in a sentence or two.
        rows: label and name of each setting, in order; dense goes before them.
    """

    key: str
    title: str
    about: str
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Solved:
    """A setting with its value found.

    Attributes:
        setting: the setting.
        config: at that value.
        value: of the free parameter; None without one.
        wanted: average tokens per layer asked for; None without a free parameter.
        tokens: the average that it has on the prompts it was solved for.
    """

    setting: PaperSetting
    config: FastAVConfig
    value: float | None
    wanted: float | None
    tokens: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "hooks": self.config.to_dict()["hooks"],
            "value": self.value,
            "wanted_tokens": self.wanted,
            "planned_tokens": self.tokens,
        }


#: Tokens of an average layer under a config.
Average = Callable[[FastAVConfig], float]

#: Tolerance of the search, in tokens of an average layer.
CLOSE = 0.2


def solve_all(
    settings: Sequence[PaperSetting],
    plan: Average,
    measure: Average,
    tick: Callable[[str], None] = lambda name: None,
) -> dict[str, Solved]:
    """Give each setting the value at which it costs what it is compared with.

    Args:
        settings: what a setting is compared with comes before it.
        plan: the average of settings whose counts are known without a prompt.
        measure: the average of others over real prompts.
        tick: called with the name of each setting once it is solved.

    Returns:
        By name, in order.
    """
    found: dict[str, Solved] = {}
    for setting in settings:
        average = measure if setting.measured else plan
        if setting.like is None:
            config = setting.config()
            found[setting.name] = Solved(setting, config, None, None, average(config))
        else:
            found[setting.name] = solve(setting, average, found[setting.like].tokens)
        tick(setting.name)
    return found


def solve(setting: PaperSetting, average: Average, wanted: float) -> Solved:
    """Find the value whose average tokens are nearest to what is wanted.

    Args:
        setting: with a free parameter.
        average: grows with the value.
        wanted: the average to meet.
    """
    value, tokens = find_value(setting.config, setting.values, average, wanted)
    return Solved(setting, setting.config(value), value, wanted, tokens)


def find_value(
    config: Callable[[float], FastAVConfig],
    values: Sequence[float],
    average: Average,
    wanted: float,
    close: float = CLOSE,
) -> tuple[float, float]:
    """The value whose average tokens are nearest to what is wanted, and that average.

    Args:
        config: of a value.
        values: the ends of an interval, or all possible values.
        average: grows with the value.
        wanted: the average to meet.
        close: tolerance, in tokens.
    """

    def at(value: float) -> tuple[float, float]:
        return average(config(value)), value

    if len(values) != 2:
        tried = [at(value) for value in values]
    else:
        low, high = values
        tried = [at(low), at(high)]
        while high - low > 1e-4 and all(abs(tokens - wanted) > close for tokens, _ in tried):
            middle = (low + high) / 2
            tried.append(at(middle))
            low, high = (middle, high) if tried[-1][0] < wanted else (low, middle)
    tokens, value = min(tried, key=lambda pair: abs(pair[0] - wanted))
    return value, tokens
