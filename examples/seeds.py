# %% [markdown]
# # Seeds and cross-validation
#
# Eight labelled texts are few, and another eight give another score. So measure a few-shot
# classifier with several draws, and report an interval.

# %%
from instructclf.datasets import load_reviews

train, test = load_reviews("train"), load_reviews("test")
texts, labels = train.texts[:60], train.labels[:60]
test_texts, test_labels = test.texts[:60], test.labels[:60]

# %% tags=["hidden"]
import os

if os.environ.get("EXAMPLES_SMALL"):
    texts, labels = texts[:30], labels[:30]
    test_texts, test_labels = test_texts[:20], test_labels[:20]

# %% [markdown]
# ## The same rows for everyone
#
# `compare` draws shots once for each seed and gives the same ones to all approaches. So a
# difference does not come from a lucky draw. `n_shots=None` makes the classifier use all rows of
# the draw.

# %%
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from instructclf import PromptClassifier
from instructclf.evaluation import compare

definitions = {
    "negative": "The reviewer is dissatisfied with the product.",
    "positive": "The reviewer is satisfied with the product.",
}
prompting = PromptClassifier(label_definitions=definitions, n_shots=None)
words = make_pipeline(TfidfVectorizer(), LogisticRegression())
report = compare(
    {"words": words, "prompting": prompting},
    texts,
    labels,
    test_texts,
    test_labels,
    n_shots=8,
    n_seeds=3,
)
print(report)

# %%
from instructclf.evaluation import SeedScoresDisplay

SeedScoresDisplay.from_report(report)

# %% [markdown]
# Each dot is a seed; the bar is the interval over seeds *and* test texts. Two approaches can differ
# even if their intervals overlap, because both learned from the same shots and answered the same
# texts. The paired difference takes that into account:

# %%
print(report.differences("words")["prompting"])

# %% [markdown]
# ## Averaging inside the classifier
#
# With `n_seeds`, a classifier draws shots several times itself and averages the predictions. It
# depends less on the draw, and predicting takes `n_seeds` times as long. The runs above, with one
# draw per seed, also give the score of such an average:

# %%
scores = report.scores["prompting"]
print(f"one draw, on average   {scores.mean:.3f} ± {scores.std:.3f}")
print(f"average of 3 draws     {scores.ensemble_score:.3f}")

averaged = PromptClassifier(label_definitions=definitions, n_shots=8, n_seeds=3, random_state=0)
averaged.fit(texts, labels)
print(averaged.predict(["A waste of money."]))

# %% [markdown]
# ## Without a test set
#
# `cross_validate_seeds` trains on a few rows of all folds but one and tests on that one, with
# several seeds. Its interval allows for the rows that the folds share.

# %%
from instructclf.evaluation import cross_validate_seeds

folds = cross_validate_seeds(
    prompting,
    texts,
    labels,
    n_shots=8,
    n_folds=3,
    n_seeds=2,
)
print(folds.scores.round(3))
low, high = folds.interval()
print(f"{folds.mean:.3f} [{low:.3f}, {high:.3f}]")
