"""Optional packages → modules, or an error that says how to install them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from instructclf.exceptions import MissingExtraError


def import_data_extra(module: str, *, needed_for: str) -> Any:
    """Import a module of the ``data`` extra. The purpose starts the error message.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        msg = f'{needed_for} needs {package}. Install it with pip install "instructclf[data]".'
        raise MissingExtraError(msg) from error
