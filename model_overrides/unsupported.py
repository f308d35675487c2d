"""Families that cannot be pruned, and why; the configuration decides for all others."""

_CROSS = "its media enter by cross-attention, so no token of the prompt is a media token"
_INNER = (
    "its generate() passes embeddings to the generate() of an inner model, which does not get the "
    "prompt's ids"
)
_EACH = "audio is added to every token of prompt and answer, so no token is a media token"
PER_LAYER = "each of its layers takes its own embeddings for every token, which cannot be cut"

#: By `config.model_type`. The reason completes "<class> cannot be pruned: ...".
REASONS: dict[str, str] = {
    "blip": _CROSS,
    "blip-2": _INNER,
    "diffusion_gemma": "it denoises whole blocks of text instead of decoding token by token",
    "evolla": _CROSS,
    "gemma3n": PER_LAYER,
    "git": "its images are put before the prompt, where no prompt position marks them",
    "granite4_vision": "it adds visual features by token before layers in the middle",
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
