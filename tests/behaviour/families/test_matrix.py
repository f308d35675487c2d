"""Every generative multimodal family: a few here, all of them behind the marker `slow`."""

from __future__ import annotations

import pytest
import transformers

from fastav_plugin.upstream.releases import NEWEST
from tests.matrix.classes import CLASSES
from tests.matrix.sweep import find_outcome, refused_configuration, sweep
from tests.matrix.table import README, classes_in, reason, section, summary, table, work_row

#: Families that no other test knows, one of each override: image words, tokens with types, wide and
#: narrow heads, videos as images, latent attention, pooled patches, towers called by the text
#: model, sound alone, deepstack with sound.
QUICK = (
    "chameleon",
    "ernie4_5_vl_moe",
    "gemma4",
    "glm4v",
    "kimi_k25",
    "molmo2",
    "phi4_multimodal",
    "qwen2_audio",
    "qwen3_omni_moe_thinker",
)

#: The table of models is made with the newest release; others have other classes and layer kinds.
IS_NEWEST = transformers.__version__ == NEWEST
of_the_newest = pytest.mark.skipif(not IS_NEWEST, reason=f"the table describes {NEWEST}")


@of_the_newest
def test_the_table_names_every_class() -> None:
    assert classes_in(section()) == set(CLASSES.values())
    assert summary(section()) in README.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("model_type", QUICK)
def test_family(model_type: str) -> None:
    """Passes, and the table says so."""
    outcome = find_outcome(model_type)
    assert outcome.methods == "all"
    if IS_NEWEST:
        assert work_row(CLASSES[model_type], [model_type], outcome) in section().splitlines()


@pytest.mark.parametrize("model_type", ["mllama", "qwen3_5", "voxtral_realtime"])
def test_refused_family(model_type: str) -> None:
    outcome = find_outcome(model_type)
    assert not outcome.methods
    if IS_NEWEST:
        assert f"| {reason(outcome)} | " in section()


def test_gemma_4_with_embeddings_per_layer_is_refused() -> None:
    why = refused_configuration("gemma4")
    assert why is not None and "its own embeddings for every token" in why


@pytest.mark.slow
def test_every_family() -> None:
    """All pass or are refused, as the table says."""
    outcomes = {}
    for result in sweep(CLASSES):
        assert result.outcome is not None, (result.model_type, result.failure)
        outcomes[result.model_type] = result.outcome
    if IS_NEWEST:
        assert table(outcomes) == section()
