# %% [markdown]
# # A model from the hub, on a GPU
#
# `model` takes the name of any decoder-only model on the Hugging Face hub. A model with billions
# of parameters needs a GPU, and gives better answers than the small bundled one.
#
# This script checks for a GPU, and uses the bundled model on the CPU if it finds none. The page
# shows the output of the machine on which it was made.

# %%
import torch

if torch.cuda.is_available():
    model = "Qwen/Qwen3-8B"  # downloaded at the first use, and kept
    print(f"{model} on {torch.cuda.get_device_name()}")
else:
    model = "bundled"
    print("No GPU here, so this is the bundled model on the CPU.")

# %% [markdown]
# ## What else changes
#
# Nothing has to. A GPU is used if torch sees one, with weights in bfloat16. One parameter and two
# options of `ModelOptions` are worth knowing:
#
# - `template="chat"` writes the prompt as a conversation, the form that models tuned on
#   conversations expect.
# - `ModelOptions(quantization="4bit")` stores the weights of Qwen3-8B in 6.1 GB instead of 16.4 GB.
# - `ModelOptions(max_batch_tokens=…)` limits the size of a batch, which otherwise depends on the
#   free memory. Set it if other programs share the GPU.

# %%
from instructclf import PromptClassifier
from instructclf.datasets import load_reviews

train, test = load_reviews("train"), load_reviews("test")
texts, labels = test.texts[:100], test.labels[:100]

# %% tags=["hidden"]
import os

if os.environ.get("EXAMPLES_SMALL"):
    texts, labels = texts[:20], labels[:20]

# %%
classifier = PromptClassifier(
    model,
    label_definitions={
        "negative": "The reviewer is dissatisfied with the product.",
        "positive": "The reviewer is satisfied with the product.",
    },
    template="alpaca" if model == "bundled" else "chat",
    n_shots=16,
    random_state=0,
)
classifier.fit(train.texts, train.labels)

# %%
import time

start = time.perf_counter()
accuracy = classifier.score(texts, labels)
seconds = time.perf_counter() - start
print(f"accuracy {accuracy:.3f} on {len(texts)} reviews, {len(texts) / seconds:.0f} a second")

# %% [markdown]
# ## Does it understand the question?
#
# The *label mass*, the likelihood that the model answers with any of the labels, shows whether it
# has understood the question. It should be near one.

# %%
print(classifier.label_mass(test.texts[:5]).round(3))
