"""Command-line arguments → files: a thin layer over the public functions.

Parsing imports nothing heavy; the module of a command is imported when the command runs.
"""

from instructclf.command_line.program import main

__all__ = ["main"]
