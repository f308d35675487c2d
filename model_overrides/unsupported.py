"""Families that cannot be pruned by nature, and why; others are judged by their configuration."""

from __future__ import annotations

_CROSS = "its media enter by cross-attention, so no row of the prompt is a media token"
_INNER = (
    "its generate() hands finished embeddings to the generate() of a model inside it, past this "
    "plugin's reading of the prompt"
)
_EACH = "audio is added to every row, prompt and answer alike, so no row is a media token"
PER_LAYER = "each of its layers takes embeddings of its own for every row, which cannot be cut"

#: By `config.model_type`. The reason completes "<class> cannot be pruned: ...".
REASONS: dict[str, str] = {
    "blip": _CROSS,
    "blip-2": _INNER,
    "diffusion_gemma": "it denoises whole blocks of text instead of decoding token by token",
    "evolla": _CROSS,
    "gemma3n": PER_LAYER,
    "git": "its images are put in front of the prompt, where no prompt position names them",
    "granite4_vision": "it adds visual features by row before layers in the middle of the network",
    "idefics": _CROSS,
    "instructblip": _INNER,
    "instructblipvideo": _INNER,
    "kosmos-2": _INNER,
    "kosmos-2.5": "it marks media by a mask over positions, not by placeholder ids",
    "kyutai_speech_to_text": _EACH,
    "mllama": _CROSS,
    "pi0": "it predicts actions, not text",
    "voxtral_realtime": _EACH,
}
