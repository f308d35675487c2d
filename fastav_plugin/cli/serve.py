"""fastav serve: transformers' own OpenAI-compatible server, with every model attached."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from fastav_plugin.cli.options.checkpoint import Threads, limit_threads
from fastav_plugin.cli.options.groups import grouped
from fastav_plugin.cli.options.pruning import Pruning
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, FastAVError, UnsupportedError
from fastav_plugin.media.files import logger as media_logger
from fastav_plugin.serving.media.policy import MEDIA_DIR

if TYPE_CHECKING:
    from fastav_plugin.report import PruningReport

logger = logging.getLogger(__name__)

#: What the server's own command takes as its model.
_MODEL = "force_model"


class ServeCommand(TyperCommand):
    """The command with the options of `transformers serve` beside its own."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Our options, then those of the server that have no namesake among ours."""
        own = super().get_params(ctx)
        taken = {flag for param in own for flag in param.opts} | {_MODEL}
        return [*own, *(param for param in _server().params if not taken & {*param.opts})]

    def invoke(self, ctx: Any) -> Any:
        """Run with the server's options apart, in `ctx.obj`."""
        names = {param.name for param in _server().params} & set(ctx.params)
        names -= {param.name for param in self.params}
        ctx.obj = {name: ctx.params.pop(name) for name in names}
        return super().invoke(ctx)


@functools.cache
def _server() -> Any:
    """The command line of transformers' server: its options and what runs it."""
    from fastav_plugin.upstream import server

    app = typer.Typer(add_completion=False)
    app.command()(server.command())
    command: Any = typer.main.get_command(app)
    command.params = [param for param in command.params if not getattr(param, "hidden", False)]
    for param in command.params:
        param.rich_help_panel = "Options of transformers serve"
    return command


@grouped
def run(
    *,
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            help="Folder or hub name of a checkpoint, loaded at once and served alone. Without "
            "it, requests name the models."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option("--method", "-m", help="A method, or several joined by '+'. Default: fastav."),
    ] = None,
    pruning: Pruning,
    media_dir: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            envvar=MEDIA_DIR,
            help="Folder below which requests may name files. Without it they name none.",
        ),
    ] = None,
    threads: Threads = None,
) -> None:
    """Start transformers' OpenAI-compatible server with pruning in each model it loads.

    Pictures, clips and sounds are read as `fastav generate` reads them: from data: URIs, public
    http(s) hosts and files below --media-dir. FASTAV_MEDIA_HOSTS names the only hosts that are
    allowed, FASTAV_MEDIA_MAX_BYTES and its like set limits (deploy/README.md). After each request
    one line says what was dropped.

    Example: fastav serve ./Qwen2.5-Omni-7B --method fastav+divprune --port 8000
    """
    from fastav_plugin.hooks.registry import method_hooks
    from fastav_plugin.serving.openai_server import attaching, check_server
    from fastav_plugin.serving.server_policy import server_policy

    overrides = pruning.overrides()
    if method is None:
        (method,) = pruning.methods(None, ("fastav",))
    hooks = method_hooks(FastAVConfig.from_dict({"method": method, **overrides}))
    check_server()
    _check_folder(model)
    options: dict[str, Any] = context.obj
    if hooks:
        _refuse_shared_memory(options)
    policy = server_policy(media_dir)
    limit_threads(threads)

    def make_config(loaded: Any) -> FastAVConfig:
        config = FastAVConfig.for_model(loaded, method=method, **overrides)
        logger.info("fastav: %s: attached, method %s", loaded.name_or_path, method)
        if importlib.util.find_spec("av") is None:
            logger.warning("fastav: this server takes no video and no sound: PyAV is missing")
        return config

    def on_report(name: str, report: PruningReport | None) -> None:
        logger.info("fastav: %s: %s", name, describe(report))

    with _log_to_stderr(), attaching(make_config, on_report, policy):
        try:
            _server().callback(**{_MODEL: model}, **options)
        except FastAVError:
            raise
        except (OSError, ValueError, ImportError, KeyError, AttributeError) as error:
            first = str(error).strip().split("\n")[0]
            first = f"{first} is unknown." if isinstance(error, KeyError) else first
            what = "The server cannot start" if model is None else f"Cannot serve '{model}'"
            raise ConfigError(f"{what}: {first}") from error


def _check_folder(model: str | None) -> None:
    """Say what is wrong with a path; transformers would take it for a name on the hub."""
    if model is None:
        return
    if Path(model).is_dir():
        if not (Path(model) / "config.json").exists():
            raise ConfigError(f"'{model}' holds no config.json, so it is no checkpoint.")
    elif model.startswith((".", "/", "~")) and ":" not in model:
        raise ConfigError(f"There is no folder '{model}'. Give a checkpoint's folder or hub name.")


def _refuse_shared_memory(options: dict[str, Any]) -> None:
    """Raise for options under which transformers' server keeps no cache that can be replaced."""
    for name, why in (
        ("continuous_batching", "keeps the keys and values of all requests in shared pages"),
        ("compile", "keeps the keys and values of each request in a cache of fixed length"),
    ):
        if options.get(name):
            raise UnsupportedError(
                f"`--{name.replace('_', '-')}` {why}, which cannot hold layers of different "
                "lengths. Leave it out, or use --method none."
            )


@contextlib.contextmanager
def _log_to_stderr() -> Iterator[None]:
    """One line per request and per remark about a medium, in the form of the server's own."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s:     %(message)s"))
    loggers = (logger, media_logger)
    for own in loggers:
        own.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        for own in loggers:
            own.removeHandler(handler)


def describe(report: PruningReport | None) -> str:
    """What one generate() dropped, or why nothing; None where the method cuts nothing."""
    return "unpruned, because this method cuts nothing" if report is None else str(report)
