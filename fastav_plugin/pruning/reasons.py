"""Why nothing of a prompt was pruned."""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """Why nothing of a prompt was pruned; 0 is left for prompts that were."""

    NO_HOOKS = 1
    NO_MEDIA = 2
    FEW_MEDIA = 3
    EMBEDDINGS = 4

    def sentence(self, min_media_tokens: int) -> str:
        """What reports say, for a config's `min_media_tokens`."""
        return {
            Reason.NO_HOOKS: "nothing was pruned: method is 'none' or targets no layer of this "
            "model",
            Reason.NO_MEDIA: "the prompt holds no media tokens",
            Reason.FEW_MEDIA: "no prompt of the batch has as many media tokens as "
            f"`min_media_tokens` ({min_media_tokens})",
            Reason.EMBEDDINGS: "the prompt came as embeddings: pass a TokenMap to FastAVCache",
        }[self]
