# %% [markdown]
# # Saving, loading, sharing
#
# A fitted classifier is saved as a folder of JSON and safetensors, which runs no code when it is
# loaded. It holds the prompt and, after tuning, the adapter, and never the language model.

# %%
import tempfile
from pathlib import Path

from instructclf import InstructionTunedClassifier
from instructclf.datasets import load_reviews

train, test = load_reviews("train"), load_reviews("test")
texts, labels = test.texts[:50], test.labels[:50]

# %% tags=["hidden"]
import os

if os.environ.get("EXAMPLES_SMALL"):
    texts, labels = texts[:20], labels[:20]

# %%
classifier = InstructionTunedClassifier(n_shots=16, max_epochs=8, random_state=0)
classifier.fit(train.texts, train.labels)

# %% [markdown]
# ## Save
#
# The folder has a model card, `README.md`. It shows the scores that you pass here.

# %%
folder = Path(tempfile.mkdtemp()) / "reviews"
classifier.save(folder, scores={"accuracy": classifier.score(texts, labels)})
for file in sorted(folder.iterdir()):
    print(f"{file.stat().st_size / 1024:8.1f} KiB  {file.name}")

# %% [markdown]
# ## Load
#
# `load` finds the base model by its name, and compares its checksums with those of the model that
# the classifier was tuned on.

# %%
import instructclf

again = instructclf.load(folder)
assert (again.predict_proba(texts) == classifier.predict_proba(texts)).all()
print(again)

# %% [markdown]
# ## The model card

# %%
print("\n".join((folder / "README.md").read_text().splitlines()[:24]))

# %% [markdown]
# ## For others who do not have this package
#
# The folder is also a PEFT adapter. `export` adds the adapter to the weights of the base model and
# writes a model that transformers loads by itself. Beside it, `prompt.json` has the parts of the
# prompt before and after a text.

# %%
from transformers import AutoModelForCausalLM

exported = folder.with_name("reviews-model")
classifier.export(exported)
model = AutoModelForCausalLM.from_pretrained(exported)
print(type(model).__name__, sorted(file.name for file in exported.iterdir()))
