"""Prompts → tokens → log-likelihoods: the only place that knows torch.

The rooms, bottom up: ``devices``, ``quantization``, ``loading``, ``registry`` and ``views`` hold
base models and share them; ``tries``, ``tokenising``, ``suffixes``, ``truncation``, ``encoding``,
``demonstrations`` and ``chat`` turn prompts into token ids; ``budgets``, ``batching``, ``layouts``,
``prefixes``, ``attention``, ``kernels``, ``outputs``, ``narrowing`` and ``strategies`` decide what
goes through the model together, and what is left out; ``forward`` and ``scoring`` read label
log-likelihoods; ``low_rank``, ``adapters``, ``examples``, ``decoder_layers``, ``frozen_layers``,
``replay``, ``joint_attention``, ``tuned_prefixes``, ``backpropagation``, ``optimiser``, ``runs``,
``checkpoints``, ``training`` and ``merging`` change weights.
"""
