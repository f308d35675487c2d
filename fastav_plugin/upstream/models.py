"""Models: which types a release has, how they are made, and how one is spread over processes."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn
from transformers import PreTrainedConfig, configuration_utils

from fastav_plugin.upstream.contract import Contracts, attribute, model_class
from fastav_plugin.upstream.releases import NEWEST, OLDEST, installed, missing

_MESH = "_device_mesh"
_SPEC: Any = getattr(configuration_utils, "SubConfigSpec", None)

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
    """Whether the installed release has models of this type, or some were registered."""
    from transformers.models.auto import configuration_auto

    what = "the table CONFIG_MAPPING of its automatic classes"
    return model_type in attribute(configuration_auto, "CONFIG_MAPPING", what)


def lacking(model_type: str) -> str | None:
    """Why the installed release has no models of a type, and which release has; None if it has."""
    if has_model_type(model_type):
        return None
    rest = f"nor has any release from {OLDEST} to {NEWEST}."
    if since := SINCE.get(model_type):
        rest = f"which came with {since}: pip install 'transformers>={since}'."
    return f"transformers {installed()} has no model type '{model_type}', {rest}"


def from_config(kind: Any, config: Any, **options: Any) -> Any:
    """A model with random weights, of the dtype and attention that its config asks for."""
    what = f"the method {kind.__name__}._from_config"
    return attribute(kind, "_from_config", what)(config, **options)


class ConfigOfParts:
    """Mixin of a PreTrainedConfig with other configurations as fields, put before it.

    transformers 5.20 builds them from a declaration; 5.19 leaves that to each class.

    Attributes:
        parts: class of each field, and the settings of one that is not given.
    """

    parts: ClassVar[Mapping[str, tuple[type[PreTrainedConfig], Mapping[str, Any]]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        declare: Any = cls
        if _SPEC is None:
            declare.sub_configs = {name: kind for name, (kind, _) in cls.parts.items()}
        else:
            declare.sub_configs_defaults = {
                name: _SPEC(kind, init_kwargs=dict(settings))
                for name, (kind, settings) in cls.parts.items()
            }
        super().__init_subclass__(**kwargs)

    def __post_init__(self, **kwargs: Any) -> None:
        if _SPEC is None:
            for name, (kind, settings) in self.parts.items():
                given = getattr(self, name)
                if given is None or isinstance(given, dict):
                    setattr(self, name, kind(**(settings if given is None else given)))
        super().__post_init__(**kwargs)  # type: ignore[misc]


def mesh_of(model: nn.Module) -> Any:
    """The device mesh that from_pretrained() spread a model over; None for one process."""
    return attribute(model, _MESH, _KEPT) if isinstance(model, model_class()) else None


def tensor_parallel(size: int) -> dict[str, Any]:
    """Keywords of from_pretrained() that split a model over `size` processes."""
    try:
        from transformers.distributed.configuration_utils import DistributedConfig
    except ImportError:
        raise missing("transformers.distributed.configuration_utils.DistributedConfig") from None
    return {"distributed_config": DistributedConfig(tp_size=size, tp_plan="auto")}


_KEPT = f"the attribute `{_MESH}` of PreTrainedModel"

CONTRACTS: Contracts = {_KEPT: lambda: hasattr(model_class(), _MESH)}
