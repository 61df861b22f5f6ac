"""Words on a command line → files: thin over the public functions.

Reading the words imports nothing heavy; each command's module is imported when it runs.
"""

from instructclf.command_line.program import main

__all__ = ["main"]
