# %% [markdown]
# # Grid search
#
# Every parameter can be searched: the number of shots, the template, the words of the instruction,
# the sampler. The language model is loaded once for all candidates and folds.

# %%
from instructclf.datasets import load_reviews

train, test = load_reviews("train"), load_reviews("test")
texts, labels = train.texts[:48], train.labels[:48]
test_texts, test_labels = test.texts[:100], test.labels[:100]

# %% tags=["hidden"]
import os

if os.environ.get("EXAMPLES_SMALL"):
    texts, labels = texts[:24], labels[:24]
    test_texts, test_labels = test_texts[:20], test_labels[:20]

# %% [markdown]
# ## What to try
#
# A grid is a dictionary of parameter names and values. These are all about the prompt, so nothing
# is trained: a candidate costs one pass over the prompt and one over each text.

# %%
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from instructclf import PromptClassifier

definitions = {
    "negative": "The reviewer is dissatisfied with the product.",
    "positive": "The reviewer is satisfied with the product.",
}
grid = {
    "n_shots": [4, 8],
    "label_definitions": [None, definitions],
    "instruction": [None, "Is the writer happy with what they bought?"],
}
search = GridSearchCV(
    PromptClassifier(random_state=0),
    grid,
    scoring=["accuracy", "neg_log_loss"],
    refit="accuracy",
    cv=StratifiedKFold(3, shuffle=True, random_state=0),
)
search.fit(texts, labels)

# %% [markdown]
# ## What came out
#
# `cv_results_` has a row for each candidate. The spread between folds is often as large as the
# differences between candidates: then the search has found nothing, so take the simplest candidate.

# %%
results = search.cv_results_
print("accuracy         log loss  shots  defined  instruction")
for i in results["rank_test_accuracy"].argsort():
    candidate = results["params"][i]
    print(
        f"{results['mean_test_accuracy'][i]:.3f} ± {results['std_test_accuracy'][i]:.3f}"
        f"  {-results['mean_test_neg_log_loss'][i]:9.3f}"
        f"  {candidate['n_shots']:5}"
        f"  {'yes' if candidate['label_definitions'] else 'no':7}"
        f"  {candidate['instruction'] or 'the default'}"
    )

# %% [markdown]
# ## The best, on other reviews
#
# The best of several candidates owes part of its score to luck. Reviews that took no part in the
# search give an honest score.

# %%
score = search.score(test_texts, test_labels)
print(f"in the search {search.best_score_:.3f}, on {len(test_texts)} other reviews {score:.3f}")

# %% [markdown]
# ## Samplers, and parameters of samplers
#
# A sampler object is a value like any other, and nested names reach its parameters, such as
# `sampler__n_clusters`. In the same way, `model_options__dtype` and `adapter__rank` reach those of
# other objects. A list of grids separates parameters that do not go together.

# %%
from instructclf.sampling import KMeansSampler

grids = [
    {"sampler": ["balanced", "facility_location"]},
    {"sampler": [KMeansSampler()], "sampler__n_clusters": [2, 4]},
]
search = GridSearchCV(
    PromptClassifier(n_shots=8, label_definitions=definitions, random_state=0), grids, cv=3
)
search.fit(texts, labels)
for candidate, mean in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    print(f"{mean:.3f}  {candidate}")
