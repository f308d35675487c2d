"""The command line: one file per command."""

import logging
import os
import sys
from typing import Annotated, NoReturn


def _end() -> NoReturn:
    """End where nothing is done yet."""
    print("Interrupted. Nothing was written.", file=sys.stderr)
    sys.exit(130)


try:
    import typer

    from fastav_plugin.cli import (
        bench,
        calibrate,
        convert,
        demo,
        evaluate,
        generate,
        inspect,
        models,
        serve,
        visualize,
    )
    from fastav_plugin.cli.console import Group, end_by_sigterm
except KeyboardInterrupt:  # the imports take as long as a short command
    _end()

app = typer.Typer(
    name="fastav",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="FastAV and DivPrune token pruning inside an unmodified Hugging Face generate().",
)
app.command("demo")(demo.run)
app.command("generate")(generate.run)
app.command("inspect")(inspect.run)
app.command("models")(models.run)
app.command("bench")(bench.run)
app.command("eval")(evaluate.run)
app.command("calibrate")(calibrate.run)
app.command("convert")(convert.run)
app.add_typer(visualize.app, name="visualize")
app.command("serve", cls=serve.ServeCommand)(serve.run)


def _print_version(wanted: bool) -> None:
    if wanted:
        from fastav_plugin import __version__

        typer.echo(f"fastav {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Show the version and exit."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Run the command line; the console script."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # transformers sets the level of its logger when it is imported.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Where torchao is installed, transformers' models import it, and torch remarks on it.
    for name in ("transformers", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Whoever passes a cache of his own to generate() here is a benchmark, not the user.
    logging.getLogger("fastav_plugin.binding.attachment").setLevel(logging.ERROR)
    try:
        end_by_sigterm()
        app(prog_name="fastav")
    except KeyboardInterrupt:  # before the command line is read
        _end()


__all__ = ["app", "main"]
