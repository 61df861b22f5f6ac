"""Arguments → exit code: 0 success, 1 a user's error, 2 wrong arguments, 130 interrupted."""

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
"""Exit codes. As in shells, a signal gives 128 plus its number."""
_USER_ERRORS = (InstructClfError, OSError, ValueError)
"""Errors of data, files and parameters. Any other is a bug of this package and shows its trace."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of this process, and return the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        with _short_warnings():
            import_module(f"instructclf.command_line.{options.command}").run(options)
            sys.stdout.flush()
    except KeyboardInterrupt:
        _print_error("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except _USER_ERRORS as error:
        if options.debug:
            raise
        _print_error(f"error: {_describe(error)}")
        return _FAILED
    return 0


def _describe(error: Exception) -> str:
    """Return the message of an error in one line."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        message = f"{os.fsdecode(error.filename)}: {error.strerror}."
    else:
        message = str(error)
    return " ".join(" ".join([message, *getattr(error, "__notes__", [])]).split())


def _print_error(message: str) -> None:
    print(f"{PROGRAM}: {message}", file=sys.stderr)


@contextmanager
def _short_warnings() -> Iterator[None]:
    """Show the warnings of this package in one line, without source location."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_in_one_line(message: Any, category: type[Warning], *location: Any) -> None:
            if issubclass(category, InstructClfWarning):
                _print_error(f"warning: {message}")
            else:
                show(message, category, *location)

        warnings.showwarning = show_in_one_line
        yield
