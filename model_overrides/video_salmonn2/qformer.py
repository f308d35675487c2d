"""The window-level Q-Former: a few learned queries read each window of an encoder's output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastav_plugin.model_overrides.video_salmonn2.configuration import WindowQFormerConfig


class WindowQFormer(nn.Module):
    """Post-norm transformer over queries that attend to themselves and to one window.

    Names of the parts are those of the checkpoints, `bert.encoder.layer...`.
    """

    def __init__(self, config: WindowQFormerConfig) -> None:
        super().__init__()
        self.bert = _Body(config)

    def forward(self, queries: Tensor, frames: Tensor, window: int, stride: int) -> Tensor:
        """Read every window of every sound.

        Args:
            queries: [1, Q, C], learned.
            frames: [S, T, E], encoder frames of S sounds.
            window: frames in a window.
            stride: frames from one window's start to the next one's.

        Returns:
            [S, W * Q, C], windows in order of time; a rest shorter than a window is not read.
        """
        windows = frames.unfold(1, window, stride).transpose(2, 3)  # [S, W, window, E]
        sounds, count = windows.shape[:2]
        states = queries.expand(sounds * count, -1, -1)
        states = self.bert(states, windows.flatten(0, 1))  # [S * W, Q, C]
        found: Tensor = states.reshape(sounds, -1, states.shape[-1])
        return found


class _Body(nn.Module):
    def __init__(self, config: WindowQFormerConfig) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict({"LayerNorm": _norm(config)})
        layers = [_Layer(config) for _ in range(config.num_hidden_layers)]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})

    def forward(self, states: Tensor, window: Tensor) -> Tensor:
        layers: Any = self.encoder["layer"]
        states = self.embeddings["LayerNorm"](states)
        for layer in layers:
            states = layer(states, window)
        return states


class _Layer(nn.Module):
    def __init__(self, config: WindowQFormerConfig) -> None:
        super().__init__()
        self.attention = _Attention(config, config.hidden_size)
        self.crossattention = _Attention(config, config.encoder_width)
        wide = nn.Linear(config.hidden_size, config.intermediate_size)
        self.intermediate_query = nn.ModuleDict({"dense": wide})
        self.output_query = _Output(config, config.intermediate_size)

    def forward(self, states: Tensor, window: Tensor) -> Tensor:
        states = self.attention(states, states)
        states = self.crossattention(states, window)
        wide = functional.gelu(self.intermediate_query["dense"](states))
        result: Tensor = self.output_query(wide, states)
        return result


class _Attention(nn.Module):
    """Multi-head attention of queries to `width` wide keys, with its residual and norm."""

    def __init__(self, config: WindowQFormerConfig, width: int) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        hidden = config.hidden_size
        parts = {"query": hidden, "key": width, "value": width}
        self.self = nn.ModuleDict({name: nn.Linear(size, hidden) for name, size in parts.items()})
        self.output = _Output(config, hidden)

    def forward(self, states: Tensor, keys: Tensor) -> Tensor:
        query, key, value = (
            self.self[name](source).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name, source in (("query", states), ("key", keys), ("value", keys))
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)  # [N, H, Q, D]
        result: Tensor = self.output(mixed.transpose(1, 2).flatten(2), states)
        return result


class _Output(nn.Module):
    def __init__(self, config: WindowQFormerConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = _norm(config)

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        result: Tensor = self.LayerNorm(self.dense(states) + residual)
        return result


def _norm(config: WindowQFormerConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


def new_queries(config: WindowQFormerConfig) -> nn.Parameter:
    """Learned queries, [1, Q, C], drawn as BERT draws its weights."""
    return nn.Parameter(0.02 * torch.randn(1, config.query_length, config.hidden_size))
