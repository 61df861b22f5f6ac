"""Prompts → tokens → log-likelihoods: the only room that knows torch.

Bottom up: ``running`` holds processes, progress bars and locks; ``tokens`` turns prompts into token
ids; ``models`` turns names into shared models; ``scoring`` turns token ids into log-likelihoods;
``tuning`` turns labelled prompts into adapters.
"""
