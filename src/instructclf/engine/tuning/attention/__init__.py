"""Attention of rows and of the prefix they share, in both directions."""
