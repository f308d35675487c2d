"""fastav visualize: pictures of attention, of what is dropped, and of what it costs."""

import typer

from fastav_plugin.cli.visualize import attention, bench, explore, layers, pruning, tradeoff

app = typer.Typer(
    no_args_is_help=True,
    help="Show what happens inside a prefill, or what was measured: pictures as PNG or SVG, a page "
    "as HTML.",
)
for name, command in [
    ("attention", attention.run),
    ("bench", bench.run),
    ("explore", explore.run),
    ("layers", layers.run),
    ("pruning", pruning.run),
    ("tradeoff", tradeoff.run),
]:
    app.command(name)(command)
