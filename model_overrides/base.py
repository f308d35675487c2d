"""What must be known about one model family to prune it."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from fastav_plugin.defaults import DEFAULTS
from fastav_plugin.errors import UnsupportedError
from fastav_plugin.flops import LayerCost
from fastav_plugin.tokens import Modality, TokenMap
from fastav_plugin.upstream.arguments import check_layer, check_text_model, takes_cache
from fastav_plugin.upstream.attention import implementation

#: Attention classes that compare the implementation's name, so that it cannot be renamed.
NAME_SENSITIVE = frozenset(
    "minimax_m3 minimax_m3_vl dots3_note glm5_next gemma4 gemma4_unified mistral_large4 "
    "deepseek_v32 glm_moe_dsa hy_v4 axk2 falcon gpt2 gpt_neo git diffusion_gemma".split()
)

#: Text-model arguments with one entry per prompt token that no override here knows how to cut.
ROW_ARGUMENTS = frozenset(
    {"per_layer_inputs", "moe_mm_token_type_ids", "conv_mask", "block_states"}
)


@dataclass(frozen=True)
class Parts:
    """The modules of one model that the hooks go on.

    Attributes:
        head: the module generate() calls.
        text_model: the module that runs the decoder layers.
        layers: decoder layers, lowest first.
        attentions: the attention module of each layer.
    """

    head: nn.Module
    text_model: nn.Module
    layers: tuple[nn.Module, ...]
    attentions: tuple[nn.Module, ...]

    @property
    def attention_implementation(self) -> str:
        """Name of the attention implementation that the user chose for the decoder."""
        return implementation(self.text_model.config)


class ModelOverride:
    """Knowledge about one family. Subclasses change what differs from the common contract.

    The common contract (107 multimodal classes were looked at, 78 follow it): the text model
    calls each layer with the hidden states first and the rest by keyword, layers return a tensor,
    and a prompt holds one placeholder id per media token.
    """

    #: `config.model_type` of the models this override is for.
    model_types: ClassVar[tuple[str, ...]] = ()
    #: Default of FastAVConfig.global_rule.
    global_rule: ClassVar[str | Mapping[str, str]] = DEFAULTS.rule
    #: Default of FastAVConfig.fine_drop_ratio.
    fine_drop_ratio: ClassVar[float] = DEFAULTS.drop_ratio
    #: Share of the layers that run before FastAV's global cut.
    global_depth: ClassVar[float] = DEFAULTS.depth
    #: Whether the last query's scores can be read by renaming the attention implementation.
    supports_scores: ClassVar[bool] = True
    #: Keywords of the decoder layers, [B, T], that are cut with the tokens.
    row_arguments: ClassVar[tuple[str, ...]] = ()
    #: Position id of a prompt's first token, where the head counts for itself.
    first_position: ClassVar[int] = 0

    def resolve(self, model: nn.Module) -> nn.Module:
        """The module whose generate() makes text; the model itself unless it wraps one."""
        return model

    def head_config(self, config: Any) -> Any:
        """The configuration of what `resolve` returns, from that of the whole model."""
        return config

    def text_config(self, config: Any) -> Any:
        """The configuration of the decoder."""
        return config.get_text_config(decoder=True)

    def parts(self, head: nn.Module) -> Parts:
        """Find the modules to hook.

        Raises:
            UnsupportedError: the model is not laid out as this override expects.
        """
        text_model = self.find_text_model(head)
        layers = tuple(text_model.get_submodule("layers").children())
        attentions = tuple(getattr(layer, "self_attn", None) for layer in layers)
        if not layers or any(attention is None for attention in attentions):
            raise UnsupportedError(
                f"{type(head).__name__} has decoder layers without `self_attn`; every layer "
                "must have attention to be cut."
            )
        return Parts(head, text_model, layers, attentions)  # type: ignore[arg-type]

    def find_text_model(self, head: Any) -> nn.Module:
        """The module inside (or equal to) the head that runs the decoder layers.

        Raises:
            UnsupportedError: there is none, or one whose arguments have other names.
        """
        decoder: nn.Module = head.get_decoder() if hasattr(head, "get_decoder") else head
        candidates: list[nn.Module] = [decoder, *head.modules()]
        for candidate in candidates:
            layer = _attention_layer(candidate)
            # Towers have attention as well; a layer that decodes takes a cache.
            if layer is not None and hasattr(candidate, "config") and takes_cache(layer):
                check_text_model(candidate)
                check_layer(layer)
                return candidate
        layer = _attention_layer(decoder)
        if layer is not None:
            check_layer(layer)  # raises: its cache has a name of its own
        raise UnsupportedError(
            f"Found no decoder layers in {type(head).__name__}. "
            "Add an override with register_override()."
        )

    def refusal(self, config: Any) -> str | None:
        """Why models of this configuration cannot be pruned; None if they can."""
        if getattr(config, "is_encoder_decoder", False):
            return "it is an encoder-decoder model; only decoder-only models can be pruned"
        text = self.text_config(config)
        if self.sees_both_ways(text):
            return "its text has bidirectional attention, so there is no last query"
        kinds = set(getattr(text, "layer_types", None) or ())
        unknown = kinds - {"full_attention", "sliding_attention"}
        if unknown:
            return f"its layers of type {', '.join(sorted(unknown))} cannot be cut"
        if getattr(text, "num_kv_shared_layers", 0):
            return "its last layers share keys and values with earlier ones"
        return None

    def sees_both_ways(self, text: Any) -> bool:
        """Whether text attends to text after it, without a mask that says so."""
        # "vision" is about images alone, whose masks arrive made.
        return getattr(text, "use_bidirectional_attention", None) not in (None, False, "vision")

    def admit(self, model: nn.Module) -> None:
        """Last check of a model before it is bound; a family with an override is known."""

    def check_text_model(self, text_model: nn.Module) -> None:
        """Refuse text models that take arguments which would have to be cut as well.

        Raises:
            UnsupportedError: names the argument.
        """
        parameters = inspect.signature(type(text_model).forward).parameters
        found = sorted(ROW_ARGUMENTS.intersection(parameters).difference(self.row_arguments))
        if found:
            raise UnsupportedError(
                f"{type(text_model).__name__} takes {', '.join(found)}, one entry per prompt "
                "token, which no override knows how to cut."
            )

    def deepstack_layers(self, config: Any) -> int:
        """Number of lowest layers after which the model adds visual features per token."""
        vision = getattr(config, "vision_config", None)
        return len(getattr(vision, "deepstack_visual_indexes", None) or ())

    def scores_allowed(self, head: nn.Module) -> bool:
        """Whether score hooks work on this model."""
        config: Any = head.config
        names = {getattr(config, "model_type", ""), self.text_config(config).model_type}
        names |= {name.removesuffix("_text") for name in names}
        return self.supports_scores and not names & NAME_SENSITIVE

    def placeholders(self, config: Any) -> dict[int, Modality]:
        """Modality of each placeholder id. `*_token_id` is also served as `*_token_index`."""
        found: dict[int, Modality] = {}
        for kind in (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO):
            for suffix in ("token_id", "token_index"):
                token_id = getattr(config, f"{kind.name.lower()}_{suffix}", None)
                if isinstance(token_id, int):
                    found[token_id] = kind
        return found

    def token_map(
        self, config: Any, input_ids: Tensor, attention_mask: Tensor | None, inputs: dict[str, Any]
    ) -> TokenMap:
        """What each prompt position is.

        Args:
            config: the head's configuration.
            input_ids: int64 [B, T].
            attention_mask: [B, T] or None.
            inputs: the other keywords of the head's call and of the generate() around it, e.g.
                `video_grid_thw`.
        """
        return TokenMap.from_placeholders(input_ids, self.placeholders(config), attention_mask)

    def check_request(self, head: nn.Module, inputs: dict[str, Any]) -> None:
        """Refuse a request that a cut would break. Default: none."""

    def cost(self, config: Any) -> LayerCost:
        """Sizes of one decoder layer, for the FLOPs account."""
        text = self.text_config(config)
        hidden = int(text.hidden_size)
        heads = int(text.num_attention_heads)
        size = int(getattr(text, "head_dim", None) or hidden // heads)
        groups = int(getattr(text, "num_key_value_heads", None) or heads)
        return LayerCost(
            hidden_size=hidden,
            intermediate_size=_active_width(text),
            kv_size=groups * size,
            query_size=heads * size,
            query_heads=heads,
        )

    def window(self, config: Any, layer: int) -> int | None:
        """Sliding window of one layer in tokens, or None."""
        text = self.text_config(config)
        kinds = getattr(text, "layer_types", None)
        if kinds and kinds[layer] == "sliding_attention":
            return int(text.sliding_window)
        if kinds is None and getattr(text, "sliding_window", None):
            return int(text.sliding_window)
        return None


def _attention_layer(module: nn.Module) -> nn.Module | None:
    """The lowest of a module's layers, if it has attention."""
    layers = getattr(module, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not layers:
        return None
    return layers[0] if hasattr(layers[0], "self_attn") else None


def _active_width(text: Any) -> int:
    """MLP width that one token visits, over all experts it is routed to."""
    experts = getattr(text, "num_experts_per_tok", None)
    width = getattr(text, "moe_intermediate_size", None)
    if isinstance(width, (list, tuple)):  # one for text and one for media
        width = max(width)
    if experts and width:
        shared = getattr(text, "shared_expert_intermediate_size", None) or 0
        return int(experts) * int(width) + int(shared)
    return int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size)
