"""A progress bar on standard error, or no output."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from instructclf.engine.running.processes import is_first_process


class Progress:
    """Count steps, and show a progress bar if asked to.

    Parameters
    ----------
    what : str
        The task, which the bar names.
    total : int
        The number of steps.
    verbose : int or bool
        Whether to show a bar. Of several processes of a job, only the first one shows it.
    """

    def __init__(self, what: str, total: int, *, verbose: int | bool) -> None:
        self._bar = None
        if verbose and is_first_process():
            from tqdm.auto import tqdm

            # With leave=None, a bar below another one is removed when it is done.
            self._bar = tqdm(desc=what, total=total, dynamic_ncols=True, leave=None)

    def advance(self, n_steps: int = 1, note: str = "") -> None:
        """Count steps as done."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
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
