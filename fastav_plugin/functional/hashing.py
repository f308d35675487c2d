"""Pseudo-random numbers that are the same on every device: draws that follow from a prompt's ids.

The `random` control needs them: a mean over prompts must be one over draws, and the draw of a
prompt must not depend on its batch or padding. A torch.Generator gives neither.
"""

from torch import Tensor


def mix(numbers: Tensor) -> Tensor:
    """Map int64 numbers one-to-one to numbers that look random.

    Args:
        numbers: int64, any shape.
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
    """A number for each prompt that follows from its tokens and their order, not from padding.

    Args:
        ids: int64 [B, T].
        valid: bool [B, T], False for padding.

    Returns:
        int64 [B].
    """
    positions = valid.long().cumsum(dim=1)
    return (mix(mix(ids) + positions) * valid).sum(dim=1)
