"""Command line → exit code: 0 done, 1 an error of the user's, 2 wrong words, 130 interrupted."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from instructclf.command_line.arguments import PROGRAM, make_parser
from instructclf.exceptions import InstructClfError, InstructClfWarning

_FAILED, _INTERRUPTED, _PIPE_CLOSED = 1, 130, 141
"""As a shell counts: 128 and the number of the signal."""
_ERRORS_OF_USERS = (InstructClfError, OSError, ValueError)
"""Of data, files and parameters. Any other is a fault of this package, and its trace is needed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str or None, default=None
        The words after the program's name. ``None`` takes those of this process.

    Returns
    -------
    int
        The exit code.
    """
    options = make_parser().parse_args(arguments)
    try:
        with _plain_warnings():
            import_module(f"instructclf.command_line.{options.command}").run(options)
            sys.stdout.flush()
    except KeyboardInterrupt:
        _say("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read the output has had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except _ERRORS_OF_USERS as error:
        if options.debug:
            raise
        _say(f"error: {_describe(error)}")
        return _FAILED
    return 0


def _describe(error: Exception) -> str:
    """Return what an error says, in one line."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        message = f"{os.fsdecode(error.filename)}: {error.strerror}."
    else:
        message = str(error)
    return " ".join(" ".join([message, *getattr(error, "__notes__", [])]).split())


def _say(message: str) -> None:
    print(f"{PROGRAM}: {message}", file=sys.stderr)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show this package's own warnings in one line, without a place in its source."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_plainly(message: Any, category: type[Warning], *place: Any) -> None:
            if issubclass(category, InstructClfWarning):
                _say(f"warning: {message}")
            else:
                show(message, category, *place)

        warnings.showwarning = show_plainly
        yield
