"""The circumstances of a computation: its processes, its progress bar, and locks.

Nothing here knows what is computed. ``processes`` imports torch, ``locks`` only the standard
library.
"""
