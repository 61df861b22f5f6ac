"""Prompts → tokens → log-likelihoods: the only place that knows torch.

The rooms, bottom up: ``devices``, ``loading``, ``registry`` and ``views`` hold base models and
share them; ``tries``, ``tokenising``, ``truncation``, ``encoding``, ``demonstrations`` and ``chat``
turn prompts into token ids; ``batching``, ``attention``, ``prefixes``, ``layouts`` and
``strategies`` decide what goes through the model together; ``forward`` and ``scoring`` read label
log-likelihoods; ``adapters``, ``examples`` and ``training`` change weights.
"""
