# %% [markdown]
# # Many labels, and what they mean
#
# Customers write to their bank, and each message goes to one of eight teams. The names of the
# teams say little: does `card_arrival` also get a card that was stolen in the post? A sentence for
# each label tells the model.
#
# The 96 messages were written for this example.

# %%
from pathlib import Path

from sklearn.model_selection import train_test_split

from instructclf.datasets import read_labelled

folder = Path(__file__).parent if "__file__" in globals() else Path("examples")
rows = read_labelled(folder / "bank_messages.jsonl")
texts, test_texts, labels, test_labels = train_test_split(
    rows.texts, rows.labels, test_size=1 / 3, stratify=rows.labels, random_state=0
)
print(len(texts), "to learn from,", len(test_texts), "to test,", len(set(labels)), "labels")
print(f"{labels[0]}: {texts[0]}")

# %% tags=["hidden"]
import os

if os.environ.get("EXAMPLES_SMALL"):
    texts, labels = texts[:32], labels[:32]
    test_texts, test_labels = test_texts[:12], test_labels[:12]

# %% [markdown]
# ## One sentence for each label
#
# Write what you would tell a new colleague, above all where two labels are close to each other. The
# sentences become part of the instruction, and the keys of the dictionary are the classes.

# %%
definitions = {
    "card_arrival": "A card was ordered and has not come in the post.",
    "card_lost": "A card was lost or stolen and must be blocked.",
    "card_declined": "A shop or website refused the card.",
    "cash_fee": "A charge for taking money out of a machine.",
    "exchange_rate": "The rate or the cost of changing money into another currency.",
    "transfer_pending": "Money was sent to somebody and has not arrived.",
    "refund_missing": "A shop promised money back and it is not there.",
    "identity_check": "Proving who the customer is, with documents or pictures.",
}
names = {label: label.replace("_", " ") for label in definitions}

# %% [markdown]
# `verbalizer` gives each label the words that the model answers with: "card arrival" is English,
# and `card_arrival` is not.
#
# ## With and without
#
# Five approaches learn from the same 64 messages. With zero shots the model is told what the labels
# mean, and sees no solved message. Tuning uses all rows, at ten times the default learning rate:
# the bundled model knows nothing about these labels, so it has much to learn in few steps.

# %%
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from instructclf import InstructionTunedClassifier, PromptClassifier
from instructclf.evaluation import compare

defined = {"label_definitions": definitions, "verbalizer": names}
report = compare(
    {
        "TF-IDF + LinearSVC": make_pipeline(TfidfVectorizer(), LinearSVC()),
        "prompt, no shots": PromptClassifier(verbalizer=names, n_shots=0),
        "prompt, no shots, defined": PromptClassifier(**defined, n_shots=0),
        "8 nearest shots, defined": PromptClassifier(**defined, n_shots=8, sampler="knn"),
        "tuned, defined": InstructionTunedClassifier(**defined, learning_rate=2e-3, max_epochs=12),
    },
    texts,
    labels,
    test_texts,
    test_labels,
    n_seeds=1,
)
print(report)

# %% [markdown]
# The bundled model was not made for banks, so compare with TF-IDF and with guessing, which is right
# for one message in eight. With 32 test messages the intervals are wide. [A larger
# model](../how-to/hub-model.md) takes the same code. *Rows* is the number of messages that an
# approach was given; a prompt shows only `n_shots` of them.
#
# ## Which labels are confused?
#
# The confusion matrix shows which definitions need better wording.

# %%
from instructclf.evaluation import confusion_display

confusion_display(report.scores["tuned, defined"])

# %% [markdown]
# ## A label without a single text
#
# The definitions fix the classes. A new team needs a sentence and no labelled message:

# %%
more = definitions | {
    "forgotten_pin": "The customer does not remember the secret number of a card."
}
extended = PromptClassifier(label_definitions=more, n_shots=0).fit()
asked = "I can't remember the four digits for my card"
ranked = extended.predict_proba([asked])[0].argsort()[::-1]
print([str(label) for label in extended.classes_[ranked[:3]]])

# %% [markdown]
# The prompt now offers `forgotten_pin`, but a sentence alone teaches a small model little: look
# whether the new label is among the three most likely. Label a few messages of a new team as soon
# as you have them.
