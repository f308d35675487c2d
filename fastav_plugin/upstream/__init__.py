"""The border: the only place that names private or changing names of transformers and torch.

One function for each name that is no documented API: argument names of forwards, variables of
generate(), attributes that begin with an underscore. A lookup that does not find what it expects
raises UnsupportedError with the name, the installed release and the tested ones; where a release
of the window lacks a thing by nature, the function says so. Each module lists the names it relies
on as `CONTRACTS`; `check()` looks at all of them when a model is bound, so that importing the
package needs none. The server's names are looked up where it starts.
"""

import functools

from fastav_plugin.upstream import (
    arguments,
    attention,
    caches,
    generation,
    models,
    positions,
    torch_internals,
)
from fastav_plugin.upstream.contract import Contracts, require
from fastav_plugin.upstream.releases import check_release, installed

__all__ = ["CONTRACTS", "check"]

#: What must hold before any model is bound, by package.
CONTRACTS: dict[str, Contracts] = {
    "transformers": arguments.CONTRACTS
    | attention.CONTRACTS
    | caches.CONTRACTS
    | generation.CONTRACTS
    | models.CONTRACTS
    | positions.CONTRACTS,
    "torch": torch_internals.CONTRACTS,
}


def check() -> None:
    """Raise UnsupportedError if transformers is too old, or a name moved; it says which."""
    check_release()
    _look_up(installed(), installed("torch"))


@functools.cache
def _look_up(*releases: str) -> None:
    for package, contracts in CONTRACTS.items():
        require(contracts, package)
