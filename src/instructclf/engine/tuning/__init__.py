"""Labelled prompts → an adapter.

``training`` starts a run and repeats it once if it fails; ``runs`` takes its steps;
``backpropagation`` computes the gradients of a batch; ``adapters`` puts LoRA or another kind of
PEFT adapter into a view of the base model; ``fitted_adapters`` holds what was learned;
``checkpoints`` lets a run continue after the process was killed.
"""
