"""Model types that the installed release lacks, told apart from those that are refused."""

from __future__ import annotations

from typing import Any

from fastav_plugin.upstream.releases import NEWEST, OLDEST, installed, missing

#: Types of multimodal and text models by the release of the tested window that they came with; the
#: others are as old as the oldest.
SINCE = {
    name: release
    for release, names in {
        "5.20.0": "molmo2 moss_transcribe_diarize muse_spark unlimited_ocr bailing_hybrid kolibri1",
        "5.20.1": "beam",
        "5.21.0": "minicpm_ocr flint",
        "5.22.0": "mistral_large4 nemo_speechlm",
        "5.23.0": "dots3_note dots3_note_text granite_docling inkling2 inkling2_text internlm3 "
        "iquestcoder lfm3 lfm3_vl",
        "5.24.0": "apertus1p5 apertus1p5_text dory exaone hy_v4_vl inkling2_loop "
        "inkling2_loop_text lara_mini omniasr sarvam_mla sarvam_moe",
    }.items()
    for name in names.split()
}


def has_model_type(model_type: str) -> bool:
    """Whether the installed release has models of this type, or some were registered.

    Raises:
        UnsupportedError: it keeps its list elsewhere.
    """
    from transformers.models.auto import configuration_auto

    known: Any = getattr(configuration_auto, "CONFIG_MAPPING", None)
    if known is None:
        raise missing("the table CONFIG_MAPPING of its automatic classes")
    return model_type in known


def lacking(model_type: str) -> str | None:
    """Why the installed release has no models of a type; None if it has.

    Returns:
        A sentence that says which release has them, as far as this package knows.
    """
    if has_model_type(model_type):
        return None
    since = SINCE.get(model_type)
    if since is None:
        return (
            f"transformers {installed()} has no model type '{model_type}', nor has any release "
            f"from {OLDEST} to {NEWEST}."
        )
    return (
        f"transformers {installed()} has no model type '{model_type}', which came with {since}: "
        f"pip install 'transformers>={since}'."
    )
