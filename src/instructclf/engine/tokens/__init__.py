"""Prompts → token ids, without torch.

A prompt is tokenised together with each of its labels. ``encoding`` finds the tokens that all
prompts share, cuts texts that are too long (``truncation``) and arranges the labels' tokens as a
trie (``tries``). ``variants`` does the same for prompts whose demonstrations depend on the text.
"""
