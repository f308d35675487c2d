"""What can go wrong, as one tree.

FastAVError
├── ConfigError (ValueError)        a setting out of range, an unknown name, an unreadable file
├── TokenMapError (ValueError)      a TokenMap that does not describe this prompt
├── UnsupportedError (TypeError)    a model, cache or option that cannot be pruned exactly
├── HookError (TypeError)           a LayerHook that breaks its contract
└── StateError (RuntimeError)       right objects, wrong moment: unbound, interrupted

Every message names the problem, the value, what is allowed and the remedy. Where a name is unknown,
that is a sentence of `unknown_name`.
"""

import difflib
import typing
from collections import abc


class FastAVError(Exception):
    """Base class of everything this package raises on purpose."""


class ConfigError(FastAVError, ValueError):
    """A setting out of range, an unknown key or name, or an unreadable file."""


class TokenMapError(FastAVError, ValueError):
    """A TokenMap that does not describe the prompt it came with."""


class UnsupportedError(FastAVError, TypeError):
    """A model, cache or option that cannot be pruned exactly."""


class HookError(FastAVError, TypeError):
    """A LayerHook that breaks its contract."""


class StateError(FastAVError, RuntimeError):
    """Right objects, wrong moment: unbound, interrupted, or in use elsewhere."""


def in_short(error: BaseException) -> str:
    """What the error of a library says, in one line: the first, with the next where it goes on."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError):
        return f"{error} is missing"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])


def unknown_name(kind: str, name: object, known: abc.Iterable[str], more: str = ".") -> ConfigError:
    """The error for a name that is none of those that are known; names the likeliest of them.

    Args:
        kind: what it should name, such as "method".
        name: as it was given.
        known: the names there are, in the order in which they are listed.
        more: what follows the list.
    """
    names = list(known)
    return ConfigError(
        f"Unknown {kind} {name!r}.{did_you_mean(name, names)} Known: {', '.join(names)}{more}"
    )


def did_you_mean(name: object, known: abc.Iterable[str]) -> str:
    """A question with the one or two likeliest names, behind a space; "" if none is alike."""
    given, names = str(name).lower(), list(known)
    alike = {each: difflib.SequenceMatcher(None, given, each.lower()).ratio() for each in names}
    best = max(alike.values(), default=0.0)
    least = max(_ALIKE, best if best == 1 else best - _AS_LIKELY)
    near = [each for each in names if alike[each] >= least]
    if not near and len(given) >= _PART:
        near = [each for each in names if given in each.lower() or each.lower() in given]
    near.sort(key=lambda each: -alike[each])
    return f" Did you mean {' or '.join(map(repr, near[:2]))}?" if near else ""


#: Share of letters in common from which on two names are alike, how much less may be meant too, and
#: letters from which on a part of a name stands for it.
_ALIKE, _AS_LIKELY, _PART = 0.6, 0.1, 3


def check_integer(name: str, value: typing.Any, *, minimum: int, optional: bool = False) -> None:
    """Refuse anything but an integer of at least `minimum`, and None unless it is `optional`."""
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ConfigError(f"`{name}` must be an integer of at least {minimum}, got {value!r}.")


def check_ratio(name: str, value: typing.Any, interval: str, *, optional: bool = False) -> None:
    """Refuse anything but a number in an interval such as "(0, 1]", and None unless `optional`.

    The interval is from 0 to 1; a round bracket leaves its end out.
    """
    if value is None and optional:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    low, high = interval[0] == "[", interval[-1] == "]"
    if not number or not (0 < value < 1 or (low and value == 0) or (high and value == 1)):
        raise ConfigError(f"`{name}` must lie in {interval}, got {value!r}.")
