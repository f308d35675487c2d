"""The spatial-temporal convolution connector: patches of all frames into a few tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from fastav_plugin.errors import ConfigError

#: Two frames become one step of time, two by two patches one token.
STRIDE = 2


def connector_tokens(frames: int, side: int) -> int:
    """Tokens made of `frames` frames of `side` x `side` patches; an odd rest is left out."""
    return (frames // STRIDE) * (side // STRIDE) ** 2


class STCConnector(nn.Module):
    """Two stages of RegNet blocks around a strided 3-D convolution, then an MLP.

    Names of modules and tensors are those of the published checkpoint.

    Args:
        vision_size: width of the patches.
        hidden_size: width of the decoder.
        depth: blocks in each stage.
        mlp_depth: linear layers at the end.

    Reference: VideoLLaMA 2 (arXiv 2406.07476), section 3; the variant called v35.
    """

    def __init__(
        self, vision_size: int, hidden_size: int, depth: int = 4, mlp_depth: int = 2
    ) -> None:
        super().__init__()
        if depth < 1 or mlp_depth < 1:
            raise ConfigError(
                f"`depth` and `mlp_depth` must be at least 1, got {depth} and {mlp_depth}."
            )
        self.s1 = _stage(vision_size, hidden_size, depth)
        self.sampler = nn.Sequential(
            nn.Conv3d(hidden_size, hidden_size, kernel_size=STRIDE, stride=STRIDE), nn.SiLU()
        )
        self.s2 = _stage(hidden_size, hidden_size, depth)
        self.readout = mlp(hidden_size, hidden_size, mlp_depth)

    @override
    def forward(self, patches: Tensor) -> Tensor:
        """Turn the patches of clips into tokens.

        Args:
            patches: [B, frames, patches, vision_size], row after row of a square picture.

        Returns:
            [B, tokens, hidden_size]; by time, then row, then column.

        Raises:
            ConfigError: patches of no square, or fewer than two frames or two rows.
        """
        batch, frames, count, width = patches.shape
        side = math.isqrt(count)
        if side * side != count or side < STRIDE or frames < STRIDE:
            raise ConfigError(
                f"The connector takes at least {STRIDE} frames of square pictures of at least "
                f"{STRIDE}x{STRIDE} patches, got {frames} frames of {count} patches."
            )
        states = patches.reshape(batch * frames, side, side, width).permute(0, 3, 1, 2)
        states = self.s1(states)  # [B * frames, C, side, side]
        states = states.unflatten(0, (batch, frames)).transpose(1, 2)
        states = self.sampler(states)  # [B, C, time, row, column]
        time = states.shape[2]
        states = self.s2(states.transpose(1, 2).flatten(0, 1))  # [B * time, C, row, column]
        states = states.unflatten(0, (batch, time)).permute(0, 1, 3, 4, 2)
        tokens: Tensor = self.readout(states.flatten(1, 3))
        return tokens


def mlp(inputs: int, hidden: int, depth: int) -> nn.Sequential:
    """`depth` linear layers with GELU between them."""
    layers: list[nn.Module] = [nn.Linear(inputs, hidden)]
    for _ in range(depth - 1):
        layers += [nn.GELU(), nn.Linear(hidden, hidden)]
    return nn.Sequential(*layers)


def _stage(inputs: int, hidden: int, depth: int) -> nn.Sequential:
    stage = nn.Sequential()
    for number in range(depth):
        stage.add_module(f"b{number + 1}", _Block(inputs if number == 0 else hidden, hidden))
    return stage


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of [B, C, H, W]."""

    @override
    def forward(self, states: Tensor) -> Tensor:
        return super().forward(states.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _ConvNorm(nn.Module):
    """A convolution without bias, then a norm, then SiLU if `active`."""

    def __init__(
        self, inputs: int, outputs: int, size: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=False)
        self.bn = _ChannelNorm(outputs, eps=1e-5)
        self.active = active

    @override
    def forward(self, states: Tensor) -> Tensor:
        states = self.bn(self.conv(states))
        return functional.silu(states) if self.active else states


class _SqueezeExcite(nn.Module):
    """Channels weighted by what is in them on average."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, reduced, 1)
        self.fc2 = nn.Conv2d(reduced, channels, 1)

    @override
    def forward(self, states: Tensor) -> Tensor:
        mean = states.mean(dim=(2, 3), keepdim=True)
        return states * torch.sigmoid(self.fc2(functional.silu(self.fc1(mean))))


class _Block(nn.Module):
    """RegNet's bottleneck with a depthwise middle and squeeze-and-excite."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(inputs, outputs)
        self.conv2 = _ConvNorm(outputs, outputs, size=3, groups=outputs)
        self.se = _SqueezeExcite(outputs, round(inputs * 0.25))
        self.conv3 = _ConvNorm(outputs, outputs, active=False)
        self.downsample = (
            _ConvNorm(inputs, outputs, active=False) if inputs != outputs else nn.Identity()
        )

    @override
    def forward(self, states: Tensor) -> Tensor:
        branch = self.conv3(self.se(self.conv2(self.conv1(states))))
        return functional.silu(branch + self.downsample(states))
