"""Prompts → token ids, without torch.

A prompt is tokenized together with each of its labels. ``encoding`` finds the tokens that all
prompts share, cuts texts that are too long (``truncation``) and builds the trie of the label tokens
(``tries``). ``variants`` does the same for prompts whose demonstrations depend on the text.
"""
