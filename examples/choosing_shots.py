# %% [markdown]
# # Choosing shots
#
# Accuracy depends on which labelled texts are in the prompt, and on how many. A sampler chooses
# them; a learning curve shows the effect of more.

# %%
from instructclf.datasets import load_reviews

train, test = load_reviews("train"), load_reviews("test")
texts, labels = train.texts[:60], train.labels[:60]
test_texts, test_labels = test.texts[:50], test.labels[:50]

# %% tags=["hidden"]
import os

if os.environ.get("EXAMPLES_SMALL"):
    texts, labels = texts[:40], labels[:40]
    test_texts, test_labels = test_texts[:10], test_labels[:10]

# %% [markdown]
# ## Which ones?
#
# `balanced` draws at random, equally many of each label. `kmeans` and `facility_location` choose
# texts that represent many others. You can look at the choice of a sampler without a model:

# %%
import numpy as np

from instructclf.sampling import FacilityLocationSampler

rows = FacilityLocationSampler().select(texts, labels, 4, random_state=0)
for row in rows:
    print(f"{labels[row]:9}{texts[row][:80]}…")

# %% [markdown]
# `knn` chooses shots for each text: the rows most similar to it, the nearest last.

# %%
from instructclf.sampling import KNNSampler

nearest = KNNSampler().fit(texts, labels, random_state=0)
asked = "The headphones sound fine, but the battery is empty after an hour."
for row in nearest.select_for([asked], 4)[0]:
    print(f"{labels[row]:9}{texts[row][:80]}…")

# %% [markdown]
# ## A comparison
#
# Here each classifier gets all rows and chooses its shots among them. So `n_shots` is a parameter
# of the classifier, and `compare` draws nothing.

# %%
from instructclf import PromptClassifier
from instructclf.evaluation import compare

definitions = {
    "negative": "The reviewer is dissatisfied with the product.",
    "positive": "The reviewer is satisfied with the product.",
}
settings = {"label_definitions": definitions, "n_shots": 8}
data = texts, labels, test_texts, test_labels
samplers = ["balanced", "facility_location"]
report = compare(
    {name: PromptClassifier(**settings, sampler=name) for name in samplers},
    *data,
    n_seeds=2,
)
print(report)

# %%
from instructclf.evaluation import SeedScoresDisplay

SeedScoresDisplay.from_report(report)

# %% [markdown]
# Read the intervals before the means: if they overlap, `compare` has not found a winner, and the
# default is fine. `knn` can be compared in the same way. It takes longer, since the shots of each
# text go through the model again.
#
# ## How many?

# %%
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from instructclf.evaluation import LearningCurveDisplay, learning_curve

approaches = {
    "words": make_pipeline(TfidfVectorizer(), LogisticRegression()),
    "prompting": PromptClassifier(label_definitions=definitions),
}
curves = {
    name: learning_curve(approach, *data, shots=[4, 16], n_seeds=2)
    for name, approach in approaches.items()
}
LearningCurveDisplay.from_curves(curves)

# %% [markdown]
# A draw of more shots contains the draw of fewer. So the added rows alone explain a rise or fall of
# the curve.
#
# ## Shots of your own choice
#
# To choose rows by hand, give `fit` only these rows. `n_shots=None` shows all of them:

# %%
by_hand = np.r_[rows[:2], 0, 1]
chosen = PromptClassifier(label_definitions=definitions, n_shots=None, random_state=0)
chosen.fit([texts[i] for i in by_hand], [labels[i] for i in by_hand])
print(len(chosen.shots_), "shots")
