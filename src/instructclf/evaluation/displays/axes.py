"""Drawing that all displays share, on given axes or new ones, in the user's current style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from instructclf.exceptions import MissingExtraError

MARKERS = "os^DvPX"
"""Shapes in turn, which distinguish approaches without colours."""

_CHARACTER = 0.08  # inches, of a legend's small letters
_HIDING = "_"  # matplotlib omits labels that begin with it from legends


class Display:
    """A picture that draws itself on axes. A subclass has ``_draw``.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes it is drawn on.
    figure_ : matplotlib Figure
        Their figure.
    """

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            The axes to draw on. ``None`` makes a figure.

        Returns
        -------
        Display
            This object.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        self.ax_ = get_axes(ax, type(self).__name__, figsize=self._figsize())
        self.figure_ = whole_figure(self.ax_)
        self._draw()
        place_legend(self.ax_)
        return self

    def _figsize(self) -> tuple[float, float] | None:
        return None

    def _draw(self) -> None:
        raise NotImplementedError


def import_pyplot(needed_for: str) -> Any:
    """Import matplotlib's pyplot.

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
    """Return the given axes, or those of a new figure whose layout cuts nothing off."""
    plt = import_pyplot(needed_for)
    if ax is not None:
        return ax
    return plt.subplots(figsize=figsize, layout=layout)[1]


def whole_figure(ax: Any) -> Any:
    """Return the figure that can be saved, even if the axes are in a SubFigure of it."""
    return ax.figure.figure  # the figure of a SubFigure; a figure is its own


def panel_size(ax: Any) -> tuple[float, float]:
    """Return width and height in inches of the figure or SubFigure of the axes."""
    panel = ax.figure  # a SubFigure has no get_size_inches
    return panel.bbox.width / panel.dpi, panel.bbox.height / panel.dpi


def colours(ax: Any, n_colours: int) -> list[Any]:
    """Return this number of colours of the current style, in turn."""
    import matplotlib as mpl

    cycle = mpl.rcParams["axes.prop_cycle"].by_key().get("color", [text_colour(ax)])
    return [cycle[i % len(cycle)] for i in range(n_colours)]


def text_colour(ax: Any) -> Any:
    """Return the colour of text on these axes, for lines that refer to no approach."""
    return ax.xaxis.label.get_color()


def set_integer_ticks(axis: Any, values: Sequence[int]) -> None:
    """Put ticks at these values, labelled as integers on any scale."""
    axis.set_ticks(list(values), labels=[f"{value:,}" for value in values])
    axis.set_ticks([], minor=True)


def quiet_grid(ax: Any, axis: str) -> None:
    """Draw a faint grid behind the data, of ``"x"``, ``"y"`` or ``"both"`` lines."""
    ax.set_axisbelow(True)
    ax.grid(visible=True, axis=axis, color=text_colour(ax), alpha=0.15, linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)


def legend_label(name: str) -> str:
    """Return the label that puts any name into the legend.

    A name that matplotlib would omit gets a leading space, which `place_legend` removes again.
    """
    return f" {name}" if str(name).startswith(_HIDING) else name


def place_legend(ax: Any) -> None:
    """Put a legend of more than one entry above the axes, where it covers nothing."""
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
