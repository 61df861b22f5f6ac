"""Token ids → label log-likelihoods, or hidden states, in the fastest way that is exact.

``strategies`` compares each shortcut with plain full prompts on the model at hand; ``prefixes``
computes the tokens that all prompts share once; ``batching`` fits batches into memory; ``forward``
is the one place where logits become log-likelihoods.
"""
