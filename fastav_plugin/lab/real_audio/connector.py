"""The trained part between Whisper's frozen layers and the language model."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer

from fastav_plugin.lab.pretrained.whisper_base import ENCODER_LAYERS, encoder_config
from fastav_plugin.lab.real_audio.frames import POOL

#: Channels of the encoder and of the language model.
ENCODER_CHANNELS, CHANNELS = 512, 576
#: The projection starts this much smaller than torch's default: near the embeddings' size.
_SMALL = 0.1


class Connector(nn.Module):
    """One more encoder layer, the mean of two frames, a norm and a projection.

    In Qwen2Audio these are the seventh layer of the audio tower, its pooling and last norm, and the
    multi-modal projector.
    """

    def __init__(self, encoder: Mapping[str, Tensor] | None = None) -> None:
        """Start the layer as a copy of the encoder's last one, if its weights are given."""
        super().__init__()
        config = encoder_config()
        self.layer: Any = WhisperEncoderLayer(config)
        self.norm = nn.LayerNorm(ENCODER_CHANNELS)
        self.projector = nn.Linear(ENCODER_CHANNELS, CHANNELS)
        self.projector.weight.data.mul_(_SMALL)
        if encoder is not None:
            last = f"layers.{ENCODER_LAYERS - 1}."
            own = {name[len(last) :]: x for name, x in encoder.items() if name.startswith(last)}
            self.layer.load_state_dict(own)
            self.norm.load_state_dict(
                {part: encoder[f"layer_norm.{part}"] for part in ("weight", "bias")}
            )

    def forward(self, frames: Sequence[Tensor]) -> list[Tensor]:
        """Audio tokens of several sounds.

        Args:
            frames: float [frames, 512] of each, an even number.

        Returns:
            float [frames / 2, 576] of each.
        """
        lengths = [len(each) for each in frames]
        hidden = nn.utils.rnn.pad_sequence(list(frames), batch_first=True)  # [B, F, 512]
        hidden = self.layer(hidden, _mask(lengths))
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        pooled = hidden.unflatten(1, (-1, POOL)).mean(2)
        tokens = self.projector(self.norm(pooled))
        return [each[: length // POOL] for each, length in zip(tokens, lengths, strict=True)]


def _mask(lengths: list[int]) -> Tensor | None:
    """Hide padding frames: float [B, 1, 1, F], None where there are none."""
    longest = max(lengths)
    if min(lengths) == longest:
        return None
    real = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return torch.zeros(real.shape).masked_fill(~real, torch.finfo(torch.float32).min)[:, None, None]
