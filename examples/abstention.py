# %% [markdown]
# # Calibration and abstention
#
# A classifier that says 0.9 should be right nine times in ten. If it is not sure enough, or if no
# label fits the text, it may be better to give no answer.

# %%
import numpy as np

from instructclf import PromptClassifier
from instructclf.datasets import load_reviews

train, test = load_reviews("train"), load_reviews("test")
texts, labels = train.texts[:120], train.labels[:120]
test_texts, test_labels = test.texts[:120], np.array(test.labels[:120])

# %% tags=["hidden"]
import os

if os.environ.get("EXAMPLES_SMALL"):
    texts, labels = texts[:40], labels[:40]
    test_texts, test_labels = test_texts[:30], test_labels[:30]

# %% [markdown]
# ## What calibration does
#
# A prompt favours some labels whatever the text says: because their words are frequent, or because
# they came last. With `calibration="auto"`, the default, `fit` measures this bias on labelled rows
# that are not in the prompt, and subtracts it.

# %%
from sklearn.metrics import log_loss

definitions = {
    "negative": "The reviewer is dissatisfied with the product.",
    "positive": "The reviewer is satisfied with the product.",
}
settings = {"label_definitions": definitions, "n_shots": 8, "random_state": 0}
print("calibration   accuracy   log loss   said to be positive")
probabilities = {}
for calibration in (None, "auto"):
    classifier = PromptClassifier(**settings, calibration=calibration).fit(texts, labels)
    probabilities[calibration] = classifier.predict_proba(test_texts)
    answers = classifier.classes_[probabilities[calibration].argmax(axis=1)]
    loss = log_loss(test_labels, probabilities[calibration], labels=classifier.classes_)
    print(
        f"{calibration!s:11} {(answers == test_labels).mean():10.3f} {loss:10.3f}"
        f" {(answers == 'positive').mean():12.2f}"
    )
print(classifier.calibration_)

# %% [markdown]
# ## Are the probabilities right?
#
# Each dot stands for texts of similar confidence. On the diagonal, the confidence equals the share
# of right answers.

# %%
from matplotlib import pyplot as plt

from instructclf.evaluation import ReliabilityDisplay

_, axes = plt.subplots(1, 2, figsize=(6.8, 3.8), layout="constrained")
for ax, (calibration, found) in zip(axes, probabilities.items(), strict=True):
    ReliabilityDisplay.from_predictions(test_labels, found, classes=classifier.classes_, ax=ax)
    ax.set_xlabel(f"confidence, calibration={calibration!r}")

# %% [markdown]
# ## No answer if the classifier is unsure
#
# The largest probability of a text says how sure the classifier is. A minimum leaves the less sure
# texts without an answer. Whether more of the other answers are right depends on the model.
# `SelectiveClassifier` learns the limit from labelled rows, for a stated share of wrong answers:
# [Decide or defer](../how-to/abstain.md#decide-or-defer).

# %%
confidence = probabilities["auto"].max(axis=1)
right = classifier.classes_[probabilities["auto"].argmax(axis=1)] == test_labels
print("answered above   texts answered   of these right")
for limit in (0.5, 0.55, 0.6, 0.7):
    answered = confidence >= limit
    share = f"{right[answered].mean():.3f}" if answered.any() else "none"
    print(f"{limit:14}   {answered.mean():14.2f}   {share:>14}")

# %% [markdown]
# ## No answer if no label fits
#
# `label_mass` is how likely the model is to answer with any label at all. A small mass means that
# the model would rather say something else, because the prompt or the words of the labels do not
# suit it. `predict` then returns `None` in place of a label.

# %%
odd = PromptClassifier(verbalizer={"negative": "thumbs down", "positive": "thumbs up"}, n_shots=0)
for name, asked in {"ordinary words": classifier, "odd words, no shots": odd}.items():
    if asked is odd:
        odd.fit(texts, labels)
    mass = asked.label_mass(test_texts[:20])
    abstained = [answer is None for answer in asked.predict(test_texts[:20], min_label_mass=0.9)]
    print(
        f"{name:22} mass {mass.min():.3f} to {mass.max():.3f}, {sum(abstained)} of 20 not answered"
    )

# %% [markdown]
# The mass does not tell whether a text is on the topic. See [the scoring
# page](../scoring.md#label-mass-and-abstention).
