"""All names that this package relies on, looked up together before a model is bound."""

from __future__ import annotations

import functools

from fastav_plugin.upstream import (
    arguments,
    attention,
    caches,
    compilation,
    devices,
    generation,
    positions,
    torch_internals,
)
from fastav_plugin.upstream.contract import Contract
from fastav_plugin.upstream.releases import check_release, installed, missing

#: What must hold before any model is bound. The server's names are looked up where it starts.
CONTRACTS: tuple[Contract, ...] = (
    *arguments.CONTRACTS,
    *attention.CONTRACTS,
    *caches.CONTRACTS,
    *compilation.CONTRACTS,
    *devices.CONTRACTS,
    *generation.CONTRACTS,
    *positions.CONTRACTS,
    *torch_internals.CONTRACTS,
)


def check() -> None:
    """Make sure that the installed releases are as this package knows them.

    Raises:
        UnsupportedError: transformers is too old, or a name moved; it says which.
    """
    check_release()
    _look_up(installed(), installed("torch"))


@functools.cache
def _look_up(*releases: str) -> None:
    for contract in CONTRACTS:
        if not contract.holds():
            raise missing(contract.name, contract.package)
