"""The identity of a model: the sizes of its decoder and a sample of its weights.

The same weights are the same model in any precision and on any device; quantized matrices are not
compared, the norms between them are. Other weights are another model, also after fine-tuning or
with a LoRA adapter: a calibration of one says nothing about the other, nor do keys and values. Only
the decoder layers are compared: other encoders, projectors, embeddings or LM heads go unnoticed.
"""

import hashlib
import json
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastav_plugin.upstream.torch_internals import version

_SIZES = (
    *("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "vocab_size"),
)
#: Values taken of each parameter, evenly spaced.
_TAKEN = 4
#: What PEFT calls the layer under an adapter.
_ADAPTED = "base_layer"


def decoder_sizes(text_config: Any) -> dict[str, Any]:
    """Type and sizes of a decoder, as plain JSON data; sizes it does not name are left out."""
    sizes = {name: getattr(text_config, name, None) for name in _SIZES}
    found = {name: value for name, value in sizes.items() if isinstance(value, int)}
    return {"model_type": str(text_config.model_type), **found}


def other_sizes(known: Mapping[str, Any], text_config: Any) -> str | None:
    """The first size in which a decoder differs from those `known` of another one, or None."""
    for name, value in decoder_sizes(text_config).items():
        if known.get(name, value) != value:
            return f"its {name} is {known[name]!r}, this model's {value!r}"
    return None


@dataclass(frozen=True)
class WeightSample:
    """A few values of every floating-point parameter of the decoder layers.

    A sample and no hash: hashing 7B parameters at each attach takes too long, and a cast to another
    precision must still be the same model.

    Attributes:
        names: of the parameters, each with the number of its layer.
        shapes: of the parameters.
        values: float64 [n, 4].
        dtypes: of the parameters, such as "bfloat16".
    """

    names: list[str]
    shapes: list[list[int]]
    values: Tensor
    dtypes: list[str]

    @classmethod
    def of(cls, layers: Sequence[nn.Module]) -> "WeightSample":
        """Take the sample of a model's decoder layers; weights on the meta device are left out."""
        names, shapes, dtypes, taken = [], [], [], []
        for index, layer in enumerate(layers):
            for name, parameter in layer.named_parameters():
                data = parameter.data
                # Quantized and distributed tensors have classes of their own.
                plain = type(data) is Tensor and data.is_floating_point() and not data.is_meta
                if not plain or data.numel() == 0:
                    continue
                places = torch.linspace(0, data.numel() - 1, _TAKEN, dtype=torch.float64).long()
                names.append(f"{index}.{name}")
                shapes.append(list(data.shape))
                dtypes.append(str(data.dtype).removeprefix("torch."))
                taken.append(data.reshape(-1)[places.to(data.device)].double())
        values = [torch.empty((0, _TAKEN), dtype=torch.float64)]
        if taken:
            first = taken[0].device
            values = [torch.stack([value.to(first) for value in taken]).cpu()]
        return cls(names, shapes, torch.cat(values), dtypes)

    @property
    def adapted(self) -> bool:
        """Whether some layer has a LoRA adapter."""
        return any(_ADAPTED in name for name in self.names)

    def to_facts(self) -> dict[str, Any]:
        """All but the values, as plain JSON data."""
        return {"names": self.names, "shapes": self.shapes, "dtypes": self.dtypes}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], values: Tensor) -> "WeightSample":
        """Inverse of `to_facts`."""
        return cls(facts["names"], facts["shapes"], values, facts["dtypes"])

    def difference(self, other: "WeightSample") -> str | None:
        """Why another sample is of another model; None if nothing differs."""
        if self.adapted != other.adapted:
            return "only one of the two models has a LoRA adapter"
        at = {name: index for index, name in enumerate(self.names)}
        for there, name in enumerate(other.names):
            here = at.get(name)
            if here is None or self.shapes[here] != other.shapes[there]:
                continue
            dtypes = {self.dtypes[here], other.dtypes[there]}
            rounding = 0.0
            if len(dtypes) > 1:
                rounding = 2 * max(torch.finfo(getattr(torch, name)).eps for name in dtypes)
            pair = self.values[here], other.values[there]
            if not torch.allclose(*pair, rtol=rounding, atol=rounding * 1e-3, equal_nan=True):
                return f"the weights of layer {name.replace('.', ': ', 1)} differ"
        return None


@dataclass(frozen=True)
class ModelIdentity:
    """What tells a model from others.

    Attributes:
        sizes: type and sizes of its decoder.
        weights: a sample of its decoder's weights.
    """

    sizes: Mapping[str, Any]
    weights: WeightSample

    def difference(self, text_config: Any, layers: Sequence[nn.Module]) -> str | None:
        """Why a decoder with this configuration and these layers is another one; None if not."""
        reason = other_sizes(self.sizes, text_config)
        return self.weights.difference(WeightSample.of(layers)) if reason is None else reason


def decoder_digest(sizes: Mapping[str, Any], weights: WeightSample) -> str:
    """SHA-256 of a decoder's sizes and weight sample, in one precision."""
    facts = json.dumps([sizes, weights.to_facts(), weights.values.tolist()], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()


#: What was seen of a model's weights: its parameters, and how often each was changed in place.
Seen = list[tuple[weakref.ref[nn.Parameter], int]]

#: By the first decoder layer of a model, the digests it was found to match, each with its weights.
_known: weakref.WeakKeyDictionary[nn.Module, dict[str, Seen]] = weakref.WeakKeyDictionary()


def is_known(layers: Sequence[nn.Module], digest: str) -> bool:
    """Whether `remember` was called for these layers and no weight has changed since.

    torch does not count changes made through `.data`.
    """
    seen, now = _known.get(layers[0], {}).get(digest), _parameters(layers)
    return (
        seen is not None
        and len(seen) == len(now)
        and all(
            known() is parameter and count == version(parameter)
            for (known, count), parameter in zip(seen, now, strict=True)
        )
    )


def remember(layers: Sequence[nn.Module], digest: str) -> None:
    """Note that these layers match a digest."""
    seen = [(weakref.ref(parameter), version(parameter)) for parameter in _parameters(layers)]
    _known.setdefault(layers[0], {})[digest] = seen


def _parameters(layers: Sequence[nn.Module]) -> list[nn.Parameter]:
    return [parameter for layer in layers for parameter in layer.parameters()]
