"""Drafts: how many, for the whole process."""

SPECULATE = 0


def get_speculate() -> int:
    return SPECULATE


def set_speculate(speculate: int) -> None:
    global SPECULATE
    SPECULATE = speculate
