"""What surrounds a computation: the processes that share it, its progress bar, and locks.

Nothing here knows what is computed. ``processes`` imports torch, ``locks`` imports nothing.
"""
