"""The options of a checkpoint folder and of the machine it runs on, and its loading."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from fastav_plugin.cli.console import note, remark
from fastav_plugin.cli.options.groups import check_choice
from fastav_plugin.cli.progress import progress
from fastav_plugin.errors import ConfigError, UnsupportedError, in_short
from fastav_plugin.hub.ids import check_place
from fastav_plugin.installation import has_extra, install_hint

Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.")]


def _checked_place(place: str | None) -> str | None:
    if place is not None:
        check_place(place)
    return place


def checkpoint_option(help: str) -> Any:
    """An option for the folder of a checkpoint, or its hub id."""
    return typer.Option("--model", metavar="FOLDER|ID", callback=_checked_place, help=help)


def checkpoint_argument(help: str, metavar: str = "FOLDER|ID") -> Any:
    """The same as an argument."""
    return typer.Argument(metavar=metavar, callback=_checked_place, help=help)


ModelFolder = Annotated[
    str | None,
    checkpoint_option("Folder or hub id of a checkpoint. Default: the bundled model."),
]


@dataclass(frozen=True)
class Machine:
    """How a checkpoint is run; a ConfigError for an unknown dtype or a device that is missing."""

    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto"
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu"
    threads: Threads = None

    def __post_init__(self) -> None:
        if self.dtype is not None:
            check_choice("dtype", self.dtype, ("auto", "float32", "bfloat16", "float16"))
        if self.device == "cpu":
            return
        import torch

        try:
            torch.empty(1, device=self.device).item()
        except (RuntimeError, AssertionError) as error:
            first = in_short(error)
            raise ConfigError(f"`--device` {self.device!r} cannot be used here: {first}") from error

    def load(self, folder: Path) -> tuple[Any, Any]:
        """The model and the processor in a folder, for text output."""
        processor = self.load_processor(folder)
        return self.load_model(folder), processor

    def load_processor(self, folder: Path) -> Any:
        """The processor in a folder."""
        from transformers import AutoProcessor

        from fastav_plugin.model_overrides.own_models.configuration import read_config
        from fastav_plugin.model_overrides.own_models.registry import own_model

        own = own_model(read_config(folder))
        processors: Any = AutoProcessor if own is None else own.processor_class()
        with _faults_named(folder), progress("loading the processor", None):
            processor = processors.from_pretrained(folder, local_files_only=True)
            if not hasattr(processor, "tokenizer"):
                raise UnsupportedError(
                    f"'{folder}' holds a {type(processor).__name__} and no processor of media."
                )
        return processor

    def load_model(self, folder: Path) -> Any:
        """The model in a folder, for text output."""
        from fastav_plugin.analysis.inspection import model_class
        from fastav_plugin.binding.wrappers import unwrap
        from fastav_plugin.model_overrides.own_models.configuration import read_config
        from fastav_plugin.model_overrides.own_models.registry import own_model

        limit_threads(self.threads)
        config = read_config(folder)
        with _faults_named(folder), progress("loading the model", None):
            options: dict[str, Any] = {"dtype": self.dtype, "local_files_only": True}
            kind = model_class(config)
            if own_model(config) is not None:
                return kind.from_pretrained(folder, **options).to(self.device).eval()
            model, info = kind.from_pretrained(folder, **options, output_loading_info=True)
            if lacking := sorted(info["missing_keys"]):
                remark(
                    f"'{folder}' lacks {len(lacking)} weights of a {kind.__name__}, which are "
                    f"random now: {', '.join(lacking[:3])}{' ...' if len(lacking) > 3 else ''}."
                )
            return unwrap(model).to(self.device).eval()


@contextmanager
def _faults_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except UnsupportedError:
        raise
    except Exception as error:  # files of any kind of damage, read by several libraries
        reason = in_short(error)
        if not has_extra("media") and "dependenc" in str(error):
            reason = f"its processor needs what is not installed. {install_hint('media')}"
        raise ConfigError(f"Cannot load the checkpoint in '{folder}': {reason}") from error


def limit_threads(count: int | None) -> None:
    """Let torch compute with so many CPU threads; None for as many as it takes by default."""
    if count is not None:
        import torch

        torch.set_num_threads(count)


def find_model(place: str | None, weights: bool = True) -> Path:
    """The folder of a checkpoint, downloaded if it must be; None for the bundled model.

    Args:
        place: a folder, or a hub id.
        weights: whether they are needed, too.

    Raises:
        ConfigError: it is in no folder and not in the local cache, and cannot be downloaded.
    """
    if place is not None:
        from fastav_plugin.hub.files import local_folder

        return local_folder(place, weights, announce=note)
    from fastav_plugin.lab.testbed.model import MODEL_PATH

    if not (MODEL_PATH / "model.safetensors").exists():
        raise ConfigError(
            "The bundled model is not part of this installation. Install the wheel or a "
            "checkout, or train one with "
            "`python -m fastav_plugin.lab.testbed.training.train --output runs` "
            "and give `--model runs/model`."
        )
    return MODEL_PATH
