"""The circumstances of a computation: its processes, its progress bar, locks, and bounds.

Nothing here knows what is computed. ``processes`` imports torch, ``locks`` only the standard
library.
"""
