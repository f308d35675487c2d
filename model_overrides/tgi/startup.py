"""The beginning of a shard with a model override: TGI's own server, with one function replaced.

`text_generation_server.models.get_model` is looked up by TGI each time a model is loaded. It is
exchanged right after that module was imported, and nothing else is.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import runpy
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NoReturn

from fastav_plugin.errors import FastAVError, UnsupportedError
from fastav_plugin.model_overrides.tgi.launch_settings import LaunchSettings, checked_settings
from fastav_plugin.model_overrides.tgi.log import log

MODELS = "text_generation_server.models"

#: Parameters of get_model in TGI 3.3.7, which the pruned one takes too.
PARAMETERS = (
    "model_id",
    "lora_adapter_ids",
    "revision",
    "sharded",
    "quantize",
    "speculate",
    "dtype",
    "kv_cache_dtype",
    "trust_remote_code",
    "max_input_tokens",
)


class AfterImport(importlib.abc.MetaPathFinder):
    """Calls an action with a module right after its import; once.

    Args:
        name: of the module.
        action: what to call.
    """

    def __init__(self, name: str, action: Callable[[ModuleType], None]) -> None:
        self.name = name
        self.action = action

    def install(self) -> None:
        """Wait for the import, or act at once where it has been."""
        if self.name in sys.modules:
            self.action(sys.modules[self.name])
        else:
            sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find the module as without us, and act after it was executed."""
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self.action(module)

            setattr(spec.loader, "exec_module", exec_module)  # noqa: B010  of this loader alone
        return spec


def replace_get_model(models: ModuleType) -> None:
    """Let TGI load its model through fastav_plugin.

    Args:
        models: the module `text_generation_server.models`.

    Raises:
        UnsupportedError: its get_model takes other arguments than that of TGI 3.3.7.
    """
    stock: Any = models.get_model
    found = tuple(inspect.signature(stock).parameters)
    if found != PARAMETERS:
        raise UnsupportedError(
            f"This version of TGI loads models with the arguments {', '.join(found)}; known are "
            f"{', '.join(PARAMETERS)}. Use TGI 3.3.7, or start without the model override."
        )

    def get_model(*args: Any, **kwargs: Any) -> Any:
        # Imports TGI's classes, which are there only now.
        from fastav_plugin.model_overrides.tgi.models import get_model as pruned

        return pruned(*args, **kwargs)

    setattr(models, "get_model", get_model)  # noqa: B010
    override = LaunchSettings.from_environment().override
    log("info", f"model override '{override}': its model class takes the place of TGI's own")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run TGI's server command with the override that the environment asks for.

    Exits with 2, and one line, for an unknown override, a bad config file or a bad limit.

    Args:
        arguments: path of the server command, then its arguments; None for those of this process.
    """
    real, *rest = sys.argv[1:] if arguments is None else arguments
    try:
        if checked_settings().override is not None:
            AfterImport(MODELS, _replace_or_exit).install()
    except FastAVError as error:
        _exit(error)
    sys.argv = [real, *rest]
    runpy.run_path(real, run_name="__main__")


def _replace_or_exit(models: ModuleType) -> None:
    try:
        replace_get_model(models)
    except FastAVError as error:
        log("error", str(error))
        _exit(error)


def _exit(error: FastAVError) -> NoReturn:
    # TGI's launcher shows what a shard that died had written here.
    print(f"fastav: {error}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
