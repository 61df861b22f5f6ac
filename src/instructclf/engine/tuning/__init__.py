"""Labelled prompts → an adapter.

``training`` starts a run and repeats it once if it fails; ``runs`` takes its steps;
``backpropagation`` finds the gradients of a batch; ``adapters`` puts LoRA or another kind of PEFT
into a view of the base model; ``checkpoints`` lets a run continue after a crash.
"""
