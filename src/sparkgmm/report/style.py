"""How figures look: colours, fonts, and one drawing that serves light, dark and paper."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

# Okabe and Ito's palette, which the colour-blind can distinguish, without its yellow and black,
# which vanish on white and on black; then six more, as far from these and each other.
COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"),
    *("#8A5FD6", "#9C6B30", "#8FA51C", "#D0243E", "#17A2B0", "#C43CB0"),
)
# The colour-blind distinguish six, so that the shape changes after as many.
TOLD_APART = 6
MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))
INK = "#23272f"
FAINT = "#8b9099"
# In the dark these two turn; all other colours serve both.
_DARK = {INK: "#e6e8ec", FAINT: "#828893"}
_CJK = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Microsoft YaHei")
_DPI = 130
# Names longer than this are cut, on the axes of a corner plot.
_SHORT = 18
# What a column may be called, but no XML may hold.
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True)
class Picture:
    """A drawn figure: a file's name, words for those who do not see it, its SVG and its PNG."""

    name: str
    alt: str
    svg: bytes
    png: bytes

    @property
    def source(self) -> str:
        """The SVG as a data URI."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode()


def colour(j: int) -> str:
    """Return the colour of component j; they repeat after twelve, with shapes after 36."""
    return COLOURS[j % len(COLOURS)]


def marker(j: int) -> str:
    """Return the shape of component j's marks: another one after every six."""
    return MARKERS[j // TOLD_APART % len(MARKERS)]


def dash(j: int) -> Any:
    """Return how component j's line is dashed: another way after every six."""
    return _DASHES[j // TOLD_APART % len(_DASHES)]


@contextmanager
def ignoring_font_warnings() -> Iterator[None]:
    """Leave out what matplotlib says of names and axes that the data made, not the reader."""
    with warnings.catch_warnings():
        for message in ("Glyph", "No contour levels", "constrained_layout not applied"):
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        yield


@contextmanager
def style() -> Iterator[None]:
    """Draw in our style within this context, whatever the user's matplotlibrc says."""
    known = set(font_manager.get_font_names())
    families = ["DejaVu Sans", *(name for name in _CJK if name in known)]
    with mpl.rc_context(), ignoring_font_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "font.family": families,
                "font.size": 9,
                "svg.fonttype": "none",
                "svg.hashsalt": "sparkgmm",
                "text.parse_math": False,  # a column may be called $x$
                "text.color": INK,
                "axes.labelcolor": INK,
                "axes.edgecolor": FAINT,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.titlesize": 10,
                "axes.titlelocation": "left",
                "xtick.color": FAINT,
                "ytick.color": FAINT,
                "xtick.labelcolor": INK,
                "ytick.labelcolor": INK,
                "axes.facecolor": "none",
                "legend.frameon": False,
                "legend.labelcolor": INK,
            }
        )
        yield


def picture(figure: Figure, name: str, alt: str) -> Picture:
    """Render a figure: an SVG that follows the reader's light or dark, and a PNG on white."""
    FigureCanvasAgg(figure)
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", transparent=True, dpi=_DPI, metadata={"Date": None})
    figure.set_layout_engine("none")  # already laid out: doing it again takes as long as drawing
    figure.savefig(png, format="png", facecolor="white", dpi=_DPI, metadata={"Software": None})
    return Picture(name, alt, _themed(svg.getvalue().decode()).encode(), png.getvalue())


def _shortened(attribute: re.Match[str]) -> str:
    """Cut coordinates to a hundredth of a point: what cannot be seen are half the bytes."""
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute.group()).replace(" \n", " ")


def _themed(svg: str) -> str:
    """Let the neutral colours follow the reader's scheme, and any font replace ours."""
    names = {colour: f"--c{i}" for i, colour in enumerate(_DARK)}

    def themed(tag: re.Match[str]) -> str:
        text = tag.group()
        for plain, variable in names.items():
            text = text.replace(plain, f"var({variable})")
        text = re.sub(r'(?<= )(d|x|y)="[^"]*"', _shortened, text)
        return re.sub(r"'DejaVu Sans'(?:, '[^']*')*", "'DejaVu Sans', Verdana, sans-serif", text)

    svg = re.sub("<[^<>]*>", themed, _NO_XML.sub("\ufffd", svg))  # a column may be called #23272f
    light = "".join(f"{variable}:{plain};" for plain, variable in names.items())
    dark = "".join(f"{variable}:{_DARK[plain]};" for plain, variable in names.items())
    rules = f"svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}"
    return svg.replace("<defs>", f"<style>{rules}</style><defs>", 1)


def log_scale(axes: Axes, which: Literal["x", "y"] = "y") -> None:
    """Draw the ordinate, or the abscissa, as logarithms, with plain numbers beside it."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))  # mathtext is off
    axis.set_minor_formatter(NullFormatter())


def short(name: str, most: int = _SHORT) -> str:
    """Return a name, cut if it is longer than that."""
    return name if len(name) <= most else name[: most - 1] + "…"
