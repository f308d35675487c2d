"""Calibration files (.safetensors): what was measured on which model, and the settings chosen."""

import functools
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from fastav_plugin.errors import ConfigError

#: Name of the file beside a model's `fastav_config.json`.
CALIBRATION_NAME = "fastav_calibration.safetensors"

#: The only entry of the file's metadata: JSON. One entry, because safetensors does not keep the
#: order of several, and the same calibration should have the same bytes.
_ENTRY = "fastav_calibration"
_FORMAT = 2
_NEEDED = {"format": int, "plugin_version": str, "method": str, "alpha": float}
_NEEDED |= {"model": dict, "samples": dict, "candidates": list}


@dataclass(frozen=True)
class Calibration:
    """What a calibration file says; its tensors are read by `read_tensors`.

    Attributes:
        path: of the file.
        facts: the metadata, plain JSON data: "model" (sizes of the decoder and a digest of its
            weights), "method", "alpha", "samples", "plugin_version", "profile", "candidates",
            "chosen", "check" (what was chosen, on separate samples; None with too few) and
            "settings".
    """

    path: str
    facts: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of FastAVConfig that the calibration chose; ConfigError if unfinished."""
        settings = self.facts.get("settings")
        if not isinstance(settings, dict) or not settings:
            raise ConfigError(
                f"The calibration file '{self.path}' holds no settings: it was not finished. "
                "Run the same `fastav calibrate` again to resume."
            )
        return dict(settings)

    def describe(self, fields: Mapping[str, Any]) -> str:
        """Sentences: which of a config's `fields` come from here, and what was measured."""
        model, settings, samples = self.facts["model"], self.settings, self.facts["samples"]
        found = self.facts["check"] or self.facts["chosen"]
        where = f"{samples['fidelity']} samples it was chosen on: other prompts may do worse."
        if self.facts["check"]:
            where = f"{samples['check']} samples of the check, which are not those of the choice."
            if found["rejected"]:
                where += f" {found['rejected']} cheaper settings failed there."
        same = [name for name, value in settings.items() if fields.get(name) == value]
        others = [name for name in settings if name not in same]
        rare = 100 * min(1.0, 3 / found["prompts"])
        text = (
            f"{', '.join(same) or 'Nothing'} from the calibration '{Path(self.path).name}' of a "
            f"{model['model_type']} with {model['num_hidden_layers']} layers, which measured a "
            f"mean KL of {found['kl']:.4g} (95 % interval {found['kl_low']:.4g} to "
            f"{found['kl_high']:.4g}), {100 * found['agreement']:.1f} % agreement with "
            f"dense and {100 * found['flops_ratio']:.1f} % of the dense FLOPs on the {where} "
            f"Faults on fewer than about {rare:.0f} % of prompts may not show in so few."
        )
        if others:
            text += f" It was not measured with {', '.join(others)} as given here."
        return text

    def copy_to(self, directory: str | Path) -> str:
        """Copy the file into a directory, unless it is there already; returns its name there."""
        beside = Path(directory) / CALIBRATION_NAME
        if not beside.exists() or not beside.samefile(self.path):
            shutil.copyfile(self.path, beside)
        return CALIBRATION_NAME


def read_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Read what a calibration file of this version says, without its tensors."""
    try:
        state = os.stat(path)
    except OSError as error:
        raise ConfigError(
            f"Cannot read the calibration file '{path}': {error.strerror or error}."
        ) from error
    return _read(str(path), state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=16)
def _read(path: str, _modified: int, _size: int) -> Calibration:
    try:
        with safe_open(path, framework="pt") as file:
            entry = (file.metadata() or {}).get(_ENTRY)
        facts = None if entry is None else json.loads(entry)
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(f"Cannot read the calibration file '{path}': {error}.") from error
    if not isinstance(facts, dict):
        raise ConfigError(
            f"'{path}' is not a calibration file. Make one with `fastav calibrate --output {path}`."
        )
    if facts.get("format") != _FORMAT:
        raise ConfigError(
            f"The calibration file '{path}' has the format {facts.get('format')!r}, this version "
            f"reads {_FORMAT}. Calibrate again."
        )
    wrong = [name for name, kind in _NEEDED.items() if not isinstance(facts.get(name), kind)]
    if wrong:
        raise ConfigError(
            f"The calibration file '{path}' is damaged: {', '.join(wrong)} missing or of a wrong "
            "type. Calibrate again."
        )
    return Calibration(path, facts)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a calibration file, by name."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"Cannot read the calibration file '{path}': {error}.") from error


def write_calibration(
    path: str | Path, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write a calibration file atomically, in place of one that is there; facts are JSON data."""
    text = json.dumps({**facts, "format": _FORMAT}, sort_keys=True, ensure_ascii=False)
    content = save({name: tensors[name].contiguous() for name in tensors}, {_ENTRY: text})
    target = Path(path)
    beside = target.with_name(f"{target.name}.writing")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(target)
