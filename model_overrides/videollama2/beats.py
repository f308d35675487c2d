"""BEATs: a transformer over patches of the spectrogram, with gated relative positions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from fastav_plugin.errors import ConfigError
from fastav_plugin.model_overrides.videollama2.configuration import BeatsConfig

_TABLE = "self_attn.relative_attention_bias.weight"


class BeatsEncoder(nn.Module):
    """Mel filter banks into tokens, time outer, frequency inner.

    Names of modules and tensors are those of the published checkpoint. The table of relative
    positions is one for all layers and stands in the first; copies of it in later layers and the
    unused classifier `predictor` are accepted by `load_state_dict` and left out.

    Reference: BEATs (arXiv 2212.09058); WavLM (arXiv 2110.13900) for the gate.
    """

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        width = config.hidden_size
        for name in ("num_attention_heads", "conv_pos_groups"):
            if width % getattr(config, name):
                raise ConfigError(
                    f"`hidden_size` {width} must be a multiple of `{name}` {getattr(config, name)}."
                )
        self.config = config
        patch = config.patch_size
        self.patch_embedding = nn.Conv2d(1, config.patch_embed_size, patch, patch, bias=False)
        self.layer_norm = nn.LayerNorm(config.patch_embed_size, eps=config.layer_norm_eps)
        self.post_extract_proj = nn.Linear(config.patch_embed_size, config.hidden_size)
        self.encoder = _Encoder(config)
        self.register_load_state_dict_pre_hook(_drop_repeats)

    @override
    def forward(self, fbank: Tensor) -> Tensor:
        """Encode sounds of one length.

        Args:
            fbank: [B, frames, mel bins], log filter banks as Kaldi makes them, not normalised.

        Returns:
            [B, tokens, hidden_size]; tokens = (frames // 16) * (bins // 16).
        """
        mean, deviation = self.config.fbank_mean, self.config.fbank_std
        spectrum = (fbank - mean) / (2 * deviation)
        patches = self.patch_embedding(spectrum.to(self.patch_embedding.weight.dtype)[:, None])
        states = self.layer_norm(patches.flatten(2).transpose(1, 2))  # [B, time * bands, E]
        states = self.encoder(self.post_extract_proj(states))
        return states  # type: ignore[no-any-return]


class _Encoder(nn.Module):
    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.pos_conv = nn.ModuleList([_PositionalConv(config)])
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(
            _Layer(config, first=number == 0) for number in range(config.num_hidden_layers)
        )

    @override
    def forward(self, states: Tensor) -> Tensor:
        states = self.layer_norm(states + self.pos_conv[0](states))
        first: Any = self.layers[0]
        bias = first.self_attn.position_bias(states.shape[1])
        for layer in self.layers:
            states = layer(states, bias)
        return states


class _PositionalConv(nn.Module):
    """Weight-normalised grouped convolution over the tokens; as long as its input."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        size, width, groups = config.conv_pos, config.hidden_size, config.conv_pos_groups
        self.size, self.groups = size, groups
        self.weight_g = nn.Parameter(torch.ones(1, 1, size))
        self.weight_v = nn.Parameter(torch.randn(width, width // groups, size) / width)
        self.bias = nn.Parameter(torch.zeros(width))

    @override
    def forward(self, states: Tensor) -> Tensor:
        norm = self.weight_v.square().sum(dim=(0, 1), keepdim=True)
        weight = self.weight_g * self.weight_v * torch.rsqrt(norm + 1e-6)
        found = functional.conv1d(
            states.transpose(1, 2), weight, self.bias, padding=self.size // 2, groups=self.groups
        )
        return functional.gelu(found[..., : states.shape[1]].transpose(1, 2))


class _Layer(nn.Module):
    """Post-norm layer whose residual is scaled up by (2 L) ** 0.25."""

    def __init__(self, config: BeatsConfig, first: bool) -> None:
        super().__init__()
        width = config.hidden_size
        self.scale = (2 * config.num_hidden_layers) ** 0.25 if config.deep_norm else 1.0
        self.self_attn = _Attention(config, first)
        self.self_attn_layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.fc1 = nn.Linear(width, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, width)
        self.final_layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    @override
    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        states = self.self_attn_layer_norm(states * self.scale + self.self_attn(states, bias))
        inner = self.fc1(states)
        inner = self.fc2(functional.gelu(inner.float()).to(inner.dtype))
        normed: Tensor = self.final_layer_norm(states * self.scale + inner)
        return normed


class _Attention(nn.Module):
    def __init__(self, config: BeatsConfig, first: bool) -> None:
        super().__init__()
        width, self.heads = config.hidden_size, config.num_attention_heads
        self.num_buckets, self.max_distance = config.num_buckets, config.max_distance
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.gated = config.gru_rel_pos
        if self.gated:
            self.grep_linear = nn.Linear(width // self.heads, 8)
            self.grep_a = nn.Parameter(torch.ones(1, self.heads, 1, 1))
        if first:
            self.relative_attention_bias = nn.Embedding(self.num_buckets, self.heads)

    @override
    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        query, key, value = (
            projection(states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )  # [B, H, T, D]
        if self.gated:
            gates = self.grep_linear(query).unflatten(-1, (2, 4)).sum(dim=-1).sigmoid()
            inner, outer = gates.chunk(2, dim=-1)  # [B, H, T, 1]
            bias = (inner * (outer * self.grep_a - 1.0) + 2.0) * bias
        heads = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        merged: Tensor = self.out_proj(heads.transpose(1, 2).flatten(2))
        return merged

    def position_bias(self, length: int) -> Tensor:
        """Bias of each pair of tokens, [1, H, query, key]."""
        table = self.relative_attention_bias
        places = torch.arange(length, device=table.weight.device)
        buckets = relative_buckets(places - places[:, None], self.num_buckets, self.max_distance)
        bias: Tensor = table(buckets).permute(2, 0, 1)[None]
        return bias


def relative_buckets(distance: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """Row of the table for each distance: exact when near, logarithmic when far, by sign.

    Args:
        distance: int64, key minus query.
        num_buckets: rows of the table, half of them for each sign.
        max_distance: from here on all distances share one row.
    """
    half = num_buckets // 2
    exact = half // 2
    far = distance.abs()
    ratio = torch.log(far.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    scaled = exact + (ratio * (half - exact)).long()
    bucket = torch.where(far < exact, far, scaled.clamp(max=half - 1))
    return bucket + half * (distance > 0)


def _drop_repeats(module: BeatsEncoder, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Before loading: leave out the classifier, and copies of the one table of positions."""
    first = state.get(f"{prefix}encoder.layers.0.{_TABLE}")
    for name in [name for name in state if name.startswith(prefix)]:
        inner = name.removeprefix(prefix)
        repeated = inner.startswith("encoder.layers.") and inner.endswith(_TABLE)
        if repeated and not inner.startswith("encoder.layers.0."):
            check_repeat(name, first, state[name])
            del state[name]
        elif inner.startswith("predictor."):
            del state[name]


def check_repeat(name: str, first: Tensor | None, copy: Tensor) -> None:
    """Refuse a table of positions that is no copy of the first layer's.

    Raises:
        ConfigError: names the tensor.
    """
    if first is not None and not torch.equal(first, copy.to(first)):
        raise ConfigError(
            f"'{name}' differs from the table of layer 0; BEATs shares one among its layers."
        )
