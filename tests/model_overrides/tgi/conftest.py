from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastav_plugin import FastAVConfig
from fastav_plugin.lab.testbed.model import MODEL_PATH
from tests.model_overrides.tgi import double
from tests.model_overrides.tgi.served import Served


@pytest.fixture(scope="module")
def tgi_double() -> Iterator[None]:
    """`import text_generation_server` finds the double."""
    with pytest.MonkeyPatch.context() as patch:
        double.install(patch)
        yield


@pytest.fixture(scope="module")
def served(tgi_double: None, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The bundled model with every kind of cut, in a shard of the double."""
    config = FastAVConfig(
        method="fastav+divprune",
        global_rule="below 40",
        min_media_tokens=1,
        visual_keep_ratio=0.5,
        audio_keep_ratio=0.5,
    )
    return Served.load(MODEL_PATH, config, tmp_path_factory.mktemp("config"))
