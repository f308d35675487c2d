"""What all pictures share: a page measured in inches, and the file it is written to."""

from __future__ import annotations

import warnings
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastav_plugin.display.palette import FAINT, GRID, INK, MODALITIES, PAPER
from fastav_plugin.errors import ConfigError, UnsupportedError
from fastav_plugin.installation import install_hint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vPX*<>hp"

#: Inches; at 150 dots per inch a README shows it a third smaller, which leaves 8 points legible.
WIDTH, DPI = 8.3, 150
FORMATS = (".png", ".svg")
#: Fonts for signs that the first lacks, as far as they are installed.
FONTS = (
    *("DejaVu Sans", "Noto Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans Arabic"),
    *("Noto Sans Devanagari", "Hiragino Sans", "Yu Gothic", "Microsoft YaHei", "Arial Unicode MS"),
)


def check_drawing(path: str | Path | None = None) -> None:
    """Raise UnsupportedError without matplotlib, ConfigError if `path` is neither PNG nor SVG."""
    if path is not None and Path(path).suffix.lower() not in FORMATS:
        raise ConfigError(f"Pictures are written as {' or '.join(FORMATS)}, got '{path}'.")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise UnsupportedError(f"Drawing needs matplotlib. {install_hint('viz')}") from error


class Page:
    """A figure measured in inches from its upper left corner; `path` is where `save` writes it.

    Raises:
        UnsupportedError, ConfigError: as `check_drawing`.
    """

    def __init__(
        self, path: str | Path, height: float, *, width: float = WIDTH, dpi: int = DPI
    ) -> None:
        check_drawing(path)
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(width, height), dpi=dpi, facecolor=PAPER)
        self.path, self.width, self.height = Path(path), width, height

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """New axes in a rectangle."""
        bottom = self.height - top - height
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        """Text on a base line."""
        style = {"color": INK, "size": 9, **style}
        self.figure.text(left / self.width, 1 - top / self.height, text, **style)

    def arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """An arrow between two points, each given by its distance from the left and the top."""
        from matplotlib.patches import FancyArrowPatch

        points = [(left / self.width, 1 - top / self.height) for left, top in (start, end)]
        self.figure.add_artist(
            FancyArrowPatch(
                *points,
                transform=self.figure.transFigure,
                arrowstyle="-|>",
                mutation_scale=12,
                color=INK,
            )
        )

    def heading(self, title: str, subtitle: str) -> None:
        """The first two lines of a picture."""
        self.text(0.15, 0.28, title, size=12, weight="bold")
        self.text(0.15, 0.5, subtitle, size=8.5, color=FAINT)

    def key(self, modalities: Container[str]) -> None:
        """Names of modalities next to squares of their colours, in one line."""
        left, top = 0.15, 0.78
        for name, colour in MODALITIES.items():
            if name in modalities:
                self.text(left, top, "\N{BLACK SQUARE}", color=colour, size=10)
                self.text(left + 0.16, top, name, size=8.5)
                left += 0.36 + 0.075 * len(name)

    def legend(self, axes: Axes, left: float, top: float) -> None:
        """The names of what is drawn in some axes, in one line of the page."""
        handles, names = axes.get_legend_handles_labels()
        self.figure.legend(
            handles,
            names,
            loc="center left",
            bbox_to_anchor=(left / self.width, 1 - top / self.height),
            ncols=len(names),
            frameon=False,
            fontsize=8.5,
            labelcolor=INK,
            borderpad=0,
            borderaxespad=0,
            handletextpad=0.5,
            columnspacing=1.6,
        )

    def save(self) -> None:
        """Write the picture, the same bytes each time."""
        import matplotlib
        from matplotlib.font_manager import fontManager
        from matplotlib.text import Text

        self.path.parent.mkdir(parents=True, exist_ok=True)
        installed = {font.name for font in fontManager.ttflist}
        fonts = [name for name in FONTS if name in installed]
        for text in self.figure.findobj(Text):
            text.set_fontfamily(fonts)
            # A question with two prices is no formula.
            text.set_parse_math(False)
        undated = {"Date": None} if self.path.suffix.lower() == ".svg" else {}
        with matplotlib.rc_context({"svg.hashsalt": self.path.stem}), warnings.catch_warnings():
            # A sign of no installed font is drawn as a box.
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            self.figure.savefig(self.path, metadata=undated)


def plain(axes: Axes, *, grid: Literal["x", "y", "both"] = "y") -> None:
    """Thin grey axes behind the data, without a frame."""
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(FAINT)
    axes.tick_params(colors=FAINT, labelsize=8, length=2.5)
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
