"""Numbers that look random and are the same everywhere: for choices drawn anew for each prompt."""

from __future__ import annotations

from torch import Tensor


def mix(numbers: Tensor) -> Tensor:
    """Spread int64 numbers over all of int64, in the same way on every device.

    Args:
        numbers: int64, any shape; different numbers stay different.
    Reference: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    """
    # The constants are that paper's, as signed numbers; products wrap around.
    numbers = numbers + -7046029254386353131
    numbers = (numbers ^ _shifted(numbers, 30)) * -4658895280553007687
    numbers = (numbers ^ _shifted(numbers, 27)) * -7723592293110705685
    return numbers ^ _shifted(numbers, 31)


def _shifted(numbers: Tensor, bits: int) -> Tensor:
    """A right shift that fills with zeros, where torch's copies the sign."""
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)


def fingerprints(ids: Tensor, valid: Tensor) -> Tensor:
    """A number for each prompt that depends on its tokens and their order, not on padding.

    Args:
        ids: int64 [B, T].
        valid: bool [B, T], False for padding.

    Returns:
        int64 [B].
    """
    places = valid.long().cumsum(dim=1)
    return (mix(mix(ids) + places) * valid).sum(dim=1)
