"""What all displays draw on: the axes given, or new ones in the reader's own style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from instructclf.exceptions import MissingExtraError

MARKERS = "os^DvPX"
"""Shapes in turn, so that approaches differ for those who see no colours, too."""

_CHARACTER = 0.08  # inches, of a legend's small letters
_HIDING = "_"  # matplotlib leaves labels that begin with it out of legends


def import_pyplot(needed_for: str) -> Any:
    """Import matplotlib's pyplot.

    Parameters
    ----------
    needed_for : str
        What it is needed for, as the beginning of a sentence.

    Returns
    -------
    module
        ``matplotlib.pyplot``.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        msg = f'{needed_for} needs matplotlib. Install it with pip install "instructclf[plots]".'
        raise MissingExtraError(msg) from error
    return plt


def get_axes(
    ax: Any,
    needed_for: str,
    figsize: tuple[float, float] | None = None,
    layout: str = "constrained",
) -> Any:
    """Return the axes given, or those of a new figure whose layout leaves nothing cut off.

    Parameters
    ----------
    ax : matplotlib Axes or None
        The axes given.
    needed_for : str
        The display, as the beginning of a sentence.
    figsize : tuple of float or None, default=None
        Width and height of a new figure, in inches.
    layout : str, default="constrained"
        How a new figure is laid out, ``"compressed"`` where the axes are square.

    Returns
    -------
    matplotlib Axes
        Where to draw.
    """
    plt = import_pyplot(needed_for)
    if ax is not None:
        return ax
    return plt.subplots(figsize=figsize, layout=layout)[1]


def whole_figure(ax: Any) -> Any:
    """Return the figure of the axes, which can be saved, also if they are in a part of it.

    Parameters
    ----------
    ax : matplotlib Axes
        The axes.

    Returns
    -------
    matplotlib Figure
        The figure.
    """
    return ax.figure.figure  # of a SubFigure the figure it is in, of a figure itself


def panel_size(ax: Any) -> tuple[float, float]:
    """Return the size of the figure of the axes, or of the part of it that they are in.

    Parameters
    ----------
    ax : matplotlib Axes
        The axes.

    Returns
    -------
    tuple of float
        Width and height, in inches.
    """
    panel = ax.figure  # a SubFigure has no get_size_inches
    return panel.bbox.width / panel.dpi, panel.bbox.height / panel.dpi


def colours(ax: Any, n_colours: int) -> list[Any]:
    """Return colours of the current style, in turn.

    Parameters
    ----------
    ax : matplotlib Axes
        Where they are drawn.
    n_colours : int
        How many.

    Returns
    -------
    list of colour
        The colours.
    """
    import matplotlib as mpl

    cycle = mpl.rcParams["axes.prop_cycle"].by_key().get("color", [text_colour(ax)])
    return [cycle[i % len(cycle)] for i in range(n_colours)]


def text_colour(ax: Any) -> Any:
    """Return the colour of text on these axes, for lines that refer to no approach.

    Parameters
    ----------
    ax : matplotlib Axes
        Where they are drawn.

    Returns
    -------
    colour
        The colour.
    """
    return ax.xaxis.label.get_color()


def plain_ticks(axis: Any, values: Sequence[int]) -> None:
    """Put ticks at these values, written as they are, whatever the scale.

    Parameters
    ----------
    axis : matplotlib Axis
        The x or y axis.
    values : sequence of int
        Where the ticks are.
    """
    axis.set_ticks(list(values), labels=[f"{value:,}" for value in values])
    axis.set_ticks([], minor=True)


def quiet_grid(ax: Any, axis: str) -> None:
    """Draw a faint grid behind the data.

    Parameters
    ----------
    ax : matplotlib Axes
        The axes.
    axis : {"x", "y", "both"}
        Which lines.
    """
    ax.set_axisbelow(True)
    ax.grid(visible=True, axis=axis, color=text_colour(ax), alpha=0.15, linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)


def legend_label(name: str) -> str:
    """Return the label that puts a name into the legend, whatever it begins with.

    Parameters
    ----------
    name : str
        What the legend is to show.

    Returns
    -------
    str
        The label. A name that matplotlib would leave out gets a space in front, which
        `place_legend` takes away again.
    """
    return f" {name}" if str(name).startswith(_HIDING) else name


def place_legend(ax: Any) -> None:
    """Put the legend above the axes, where it covers nothing, if there is more than one entry.

    Parameters
    ----------
    ax : matplotlib Axes
        The axes.
    """
    handles, labels = ax.get_legend_handles_labels()
    if len(labels) > 1:
        width = ax.get_position().width * panel_size(ax)[0]
        column = 0.5 + _CHARACTER * max(map(len, labels))
        legend = ax.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(0, 1.01),
            borderaxespad=0,
            frameon=False,
            fontsize="small",
            handlelength=1.8,
            columnspacing=1.2,
            labelspacing=0.3,
            ncols=min(len(labels), max(1, int(width / column))),
        )
        for text, label in zip(legend.get_texts(), labels, strict=True):
            if label.startswith(f" {_HIDING}"):
                text.set_text(label.removeprefix(" "))
