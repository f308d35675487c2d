"""fastav visualize: pictures of attention, of what is dropped, and of what it costs."""

import typer

from fastav_plugin.cli.visualize import (
    attention,
    bench,
    explore,
    frontier,
    layers,
    pruning,
    tradeoff,
)

app = typer.Typer(
    no_args_is_help=True,
    help="Show what happens inside a prefill, or what was measured: pictures as PNG or SVG, a page "
    "as HTML.",
)
app.command("attention")(attention.run)
app.command("bench")(bench.run)
app.command("explore")(explore.run)
app.command("frontier")(frontier.run)
app.command("layers")(layers.run)
app.command("pruning")(pruning.run)
app.command("tradeoff")(tradeoff.run)
