"""fastav serve: transformers' own OpenAI-compatible server, with every model attached."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from fastav_plugin import __version__
from fastav_plugin.cli.console import interruptible
from fastav_plugin.cli.options.checkpoint import Threads, limit_threads
from fastav_plugin.cli.options.groups import grouped
from fastav_plugin.cli.options.pruning import ConfigFile, Pruning
from fastav_plugin.config import FastAVConfig
from fastav_plugin.errors import ConfigError, FastAVError, UnsupportedError, in_short
from fastav_plugin.media.files import logger as media_logger
from fastav_plugin.media.files import with_purpose
from fastav_plugin.serving.media.policy import MEDIA_DIR

if TYPE_CHECKING:
    from fastav_plugin.report import PruningReport
    from fastav_plugin.serving.batching.loop import BatchLimits

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


@dataclass(frozen=True)
class Batching:
    """Options of requests that are answered together."""

    max_batch: Annotated[
        int,
        typer.Option(
            min=1, help="Requests that are decoded together; 1 answers one after the other."
        ),
    ] = 32
    prefill_per_step: Annotated[
        int,
        typer.Option(
            min=1,
            help="Prompts that are prefilled between two steps of running requests: more start "
            "sooner, and streams that run wait longer.",
        ),
    ] = 1
    max_waiting: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Requests that wait for a place; more are answered with status 429. Default: "
            "any number.",
        ),
    ] = None

    kv_budget: Annotated[
        int | None,
        typer.Option(
            metavar="BYTES",
            min=1,
            help="Memory for the keys and values of all requests that are decoded together, at "
            "their longest. Others wait; one that never fits is refused. Default: any.",
        ),
    ] = None

    def limits(self) -> BatchLimits | None:
        """What the loop takes; None for no loop."""
        from fastav_plugin.serving.batching.loop import BatchLimits

        if self.max_batch == 1:
            return None
        return BatchLimits(self.max_batch, self.prefill_per_step, self.max_waiting, self.kv_budget)


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
        typer.Option(
            "--method",
            "-m",
            help="A method, or several joined by '+'. Default: that of the settings file, else "
            "fastav.",
        ),
    ] = None,
    config: ConfigFile = None,
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
    batching: Batching,
    request_settings: Annotated[
        str,
        typer.Option(
            metavar="FIELDS",
            show_default=False,  # a word too long for a narrow terminal
            help="Fields of FastAVConfig, joined by commas, that a request may set for itself in "
            "`fastav`; 'none' for nothing. Default: method, visual_keep_ratio, audio_keep_ratio, "
            "fine_drop_ratio.",
        ),
    ] = "method,visual_keep_ratio,audio_keep_ratio,fine_drop_ratio",
    threads: Threads = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one line of JSON on stdout when the server answers, and nothing else: "
            "address, pid, model, method, settings.",
        ),
    ] = False,
) -> None:
    """Start transformers' OpenAI-compatible server with pruning in each model it loads.

    Pictures, clips and sounds are read as `fastav generate` reads them: from data: URIs, public
    http(s) hosts and files below --media-dir. FASTAV_MEDIA_HOSTS names the only hosts that are
    allowed, FASTAV_MEDIA_MAX_BYTES and its like set limits (deploy/README.md). After each request
    one line says what was dropped.

    Example: fastav serve ./Qwen2.5-Omni-7B --method fastav+divprune --port 8000
    """
    from fastav_plugin.hooks.registry import method_hooks
    from fastav_plugin.serving.account import describe
    from fastav_plugin.serving.openai_server import attaching, check_server
    from fastav_plugin.serving.request_settings import allowed_fields
    from fastav_plugin.serving.server_policy import server_policy
    from fastav_plugin.settings.presets import find_preset
    from fastav_plugin.settings.resolution import base_settings

    given = pruning.overrides() | ({} if method is None else {"method": method})
    if pruning.preset is None:
        start = FastAVConfig.from_dict(base_settings(model, config).laid_under(given))
        whole: dict[str, Any] = {} if config is None else {"config": config}
    else:
        find_preset(pruning.preset)
        start, whole = FastAVConfig.from_dict(given), {"preset": pruning.preset}
    hooks = method_hooks(start)
    check_server()
    _check_folder(model)
    options: dict[str, Any] = context.obj
    if hooks:
        _refuse_shared_memory(options)
    if not 0 <= options["port"] < 2**16:
        raise ConfigError(f"`--port` must lie in [0, 65535], got {options['port']}.")
    policy = server_policy(media_dir)
    allowed = allowed_fields(request_settings)
    limit_threads(threads)

    loaded_with: list[FastAVConfig] = []

    def make_config(loaded: Any, **settings: Any) -> FastAVConfig:
        found = FastAVConfig.for_model(loaded, **{**given, **settings}, **whole)
        if settings:  # of one request
            return found
        logger.info(
            "fastav: %s: attached, method %s. Settings: %s",
            loaded.name_or_path,
            found.method,
            found.source,
        )
        if importlib.util.find_spec("av") is None:
            logger.warning("fastav: this server takes no video and no sound: PyAV is missing")
        loaded_with.append(found)
        return found

    def on_ready(address: str) -> None:
        if json:
            facts = {"address": address, "pid": os.getpid(), "model": model, "version": __version__}
            used = loaded_with[0] if loaded_with else start
            print(dumps({**facts, "method": used.method, "settings": used.to_dict()}), flush=True)

    def on_report(name: str, report: PruningReport | None) -> None:
        logger.info("fastav: %s: %s", name, describe(report))

    with (
        interruptible(lambda: "The server has stopped."),
        _log_to_stderr(json),
        attaching(make_config, on_report, policy, on_ready, batching.limits(), allowed),
    ):
        try:
            _server().callback(**{_MODEL: model}, **options)
        except FastAVError:
            raise
        except (OSError, ValueError, ImportError, KeyError, AttributeError) as error:
            known = not isinstance(error, KeyError)
            first = in_short(error) if known else f"{error} is unknown."
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


def _server_logs_to_stderr() -> contextlib.AbstractContextManager[None]:
    from fastav_plugin.upstream import server

    return server.logging_requests_to_stderr()


class _ServerLine(logging.Formatter):
    """Names the request whose medium a remark is about."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line."""
        return super().formatMessage(
            logging.makeLogRecord({**vars(record), "message": with_purpose(record.message)})
        )


@contextlib.contextmanager
def _log_to_stderr(everything: bool) -> Iterator[None]:
    """One line per request and per remark about a medium, in the form of the server's own.

    With `everything` the server's own lines, too, leave stdout alone.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_ServerLine("%(levelname)s:     %(message)s"))
    loggers = (logger, media_logger)
    for own in loggers:
        own.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        with _server_logs_to_stderr() if everything else contextlib.nullcontext():
            yield
    finally:
        logger.setLevel(level)
        for own in loggers:
            own.removeHandler(handler)
