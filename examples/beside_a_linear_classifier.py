# %% [markdown]
# # Next to LinearSVC in a pipeline
#
# Both classifiers are scikit-learn classifiers. Use them like `LinearSVC`: as the last step of a
# pipeline, in a grid of alternatives, or in a vote with it.

# %%
from instructclf.datasets import load_reviews

train, test = load_reviews("train"), load_reviews("test")
texts, labels = train.texts[:200], train.labels[:200]
test_texts, test_labels = test.texts[:100], test.labels[:100]

# %% tags=["hidden"]
import os

if os.environ.get("EXAMPLES_SMALL"):
    texts, labels = texts[:40], labels[:40]
    test_texts, test_labels = test_texts[:20], test_labels[:20]

# %% [markdown]
# ## As a step
#
# A step that cleans texts can go before either of them. `LinearSVC` also needs a vectorizer; a
# language model reads texts as they are.

# %%
import re

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC

from instructclf import PromptClassifier


def remove_links(texts):
    return [re.sub(r"https?://\S+", "", text) for text in texts]


definitions = {
    "negative": "The reviewer is dissatisfied with the product.",
    "positive": "The reviewer is satisfied with the product.",
}
clean = FunctionTransformer(remove_links)
words = make_pipeline(clean, TfidfVectorizer(ngram_range=(1, 2)), LinearSVC())
prompting = make_pipeline(
    clean, PromptClassifier(label_definitions=definitions, n_shots=16, random_state=0)
)
for name, classifier in {"TF-IDF + LinearSVC": words, "prompting": prompting}.items():
    classifier.fit(texts, labels)
    print(f"{name:20}{classifier.score(test_texts, test_labels):.3f}")

# %% [markdown]
# The linear classifier has learned from all rows; the prompt shows sixteen of them.
#
# ## In a vote
#
# The two read texts in different ways, so they make different mistakes. `VotingClassifier` replaces
# the labels by numbers before it fits its members: 0 for the first label in sorted order, 1 for the
# second. The verbalizer says which word each number stands for. `LinearSVC` has no probabilities to
# average; `CalibratedClassifierCV` adds them.

# %%
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier

voting = VotingClassifier(
    [
        ("words", make_pipeline(TfidfVectorizer(), CalibratedClassifierCV(LinearSVC(), cv=3))),
        (
            "prompt",
            PromptClassifier(verbalizer={0: "negative", 1: "positive"}, n_shots=16, random_state=0),
        ),
    ],
    voting="soft",
)
voting.fit(texts, labels)
print(f"both together       {voting.score(test_texts, test_labels):.3f}")

# %% [markdown]
# ## Where they disagree
#
# Read the texts on which they differ. They show what each of them misses.

# %%
import numpy as np

answers = {"words": words.predict(test_texts), "prompt": prompting.predict(test_texts)}
differ = np.flatnonzero(answers["words"] != answers["prompt"])
print(f"They differ on {len(differ)} of {len(test_texts)} reviews. The shortest of these:")
for i in sorted(differ, key=lambda i: len(test_texts[i]))[:3]:
    print(f"\n{test_texts[i]}")
    print(f"  words: {answers['words'][i]}, prompt: {answers['prompt'][i]}, is {test_labels[i]}")
