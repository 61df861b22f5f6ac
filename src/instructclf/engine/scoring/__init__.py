"""Token ids → label log-likelihoods or hidden states, by the fastest computation that is exact.

``strategies`` compares each shortcut with full prompts on the model itself. ``attention`` and
``prefixes`` compute the tokens that all prompts share once, ``batching`` fits batches into memory,
and ``forward`` turns logits into log-likelihoods. ``encoder_decoder`` does all of this for models
whose encoder reads the prompt.
"""
