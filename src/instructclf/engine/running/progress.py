"""A progress bar or a line on standard error, or no output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from types import TracebackType
from typing import Self

from instructclf.engine.running.processes import is_first_process

_PATIENCE = 2.0
"""How many seconds work may take before a line says what it is."""
_WITHOUT_ESTIMATE = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


class Progress:
    """Count steps, and show a progress bar if asked to.

    Parameters
    ----------
    what : str
        The task, which the bar names.
    total : int
        The number of steps.
    verbose : int or bool
        Whether to show a bar. Of several processes of a job, only the first one shows it, and none
        if transformers or the hub's client have been told to show no bars.
    alike : bool, default=True
        Whether steps take equally long, so that their number tells how long the rest takes.
    """

    def __init__(self, what: str, total: int, *, verbose: int | bool, alike: bool = True) -> None:
        self._bar = None
        if verbose and is_first_process() and _bars_are_on():
            from tqdm.auto import tqdm

            # With leave=None, a bar below another one is removed when it is done.
            shown = None if alike else _WITHOUT_ESTIMATE
            self._bar = tqdm(
                desc=what, total=total, dynamic_ncols=True, leave=None, bar_format=shown
            )

    def advance(self, n_steps: int = 1, note: str = "", seconds_left: float | None = None) -> None:
        """Count steps as done, and show how long the rest takes if that is given."""
        if self._bar is not None:
            left = f"about {self._bar.format_interval(seconds_left)} left" if seconds_left else ""
            self._bar.set_postfix_str(", ".join(filter(None, (left, note))), refresh=not n_steps)
            self._bar.update(n_steps)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()


@contextmanager
def announced(what: str, *, verbose: int | bool) -> Iterator[None]:
    """Write a line if the work takes more than about two seconds, unless bars are switched off."""
    if not what:
        yield
        return
    timer = Timer(_PATIENCE, tell, (what,), {"verbose": verbose})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def tell(what: str, *, verbose: int | bool) -> None:
    """Write a line if asked to, unless bars are switched off."""
    if verbose and is_first_process() and _bars_are_on():
        from tqdm import tqdm

        tqdm.write(what, file=sys.stderr)


def _bars_are_on() -> bool:
    """Ask the switches of transformers and of the hub's client, if they have been imported."""
    transformers = sys.modules.get("transformers.utils.logging")
    if transformers is not None and not transformers.is_progress_bar_enabled():
        return False
    hub = sys.modules.get("huggingface_hub.utils")
    if hub is not None:
        return not hub.are_progress_bars_disabled()
    given = os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS", "")
    return given.upper() not in {"1", "ON", "YES", "TRUE"}
