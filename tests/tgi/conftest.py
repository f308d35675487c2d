from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tgi import double


@pytest.fixture(scope="module")
def tgi_double() -> Iterator[None]:
    """`import text_generation_server` finds the double."""
    with pytest.MonkeyPatch.context() as patch:
        double.install(patch)
        yield
