"""The raw results of ``real_models.py`` → its page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def write(
    options: argparse.Namespace, chosen_on: Sequence[str], confirmed_on: Sequence[str]
) -> None:
    """Write the page of one model."""
