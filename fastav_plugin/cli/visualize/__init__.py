"""fastav visualize: pictures of attention, of what is dropped, and of what it costs."""

import typer

from fastav_plugin.cli.visualize import attention, explore, layers, pruning, tradeoff

app = typer.Typer(
    no_args_is_help=True,
    help="Show what happens inside a prefill, or what an evaluation found: pictures as PNG or SVG, "
    "a page as HTML.",
)
for name, command in [
    ("attention", attention.run),
    ("explore", explore.run),
    ("layers", layers.run),
    ("pruning", pruning.run),
    ("tradeoff", tradeoff.run),
]:
    app.command(name)(command)
