# %% [markdown]
# # Quick start
#
# Sixteen labelled texts and a local language model become a scikit-learn classifier. Nothing is
# downloaded: a small model and a set of product reviews ship with the package.

# %% [markdown]
# ## Texts and labels
#
# You need texts and a label for each. Here they are reviews. Yours may be in a list, an array, a
# column of a data frame, or a file, which `read_labelled("my_texts.csv")` reads.

# %%
from instructclf.datasets import load_reviews

train, test = load_reviews("train"), load_reviews("test")
texts, labels = test.texts[:100], test.labels[:100]
print(train.labels[1], "|", train.texts[1])

# %% tags=["hidden"]
import os

if os.environ.get("EXAMPLES_SMALL"):
    texts, labels = texts[:20], labels[:20]

# %% [markdown]
# ## Say what the labels mean, and fit
#
# `fit` chooses sixteen of the labelled reviews, eight of each label, and puts them into the
# prompt. It trains nothing.

# %%
from instructclf import PromptClassifier

definitions = {
    "negative": "The reviewer is dissatisfied with the product.",
    "positive": "The reviewer is satisfied with the product.",
}
classifier = PromptClassifier(label_definitions=definitions, n_shots=16, random_state=0)
classifier.fit(train.texts, train.labels)
print(classifier.classes_, len(classifier.shots_))

# %% [markdown]
# ## Predict
#
# Predictions come from the likelihood of each label after the prompt. The model generates no text,
# so an answer is always one of your labels, and each label has a probability.

# %%
new = ["A waste of money.", "Easy to use, and my kids love it.", "It came in a box."]
for text, label, probabilities in zip(
    new, classifier.predict(new), classifier.predict_proba(new), strict=True
):
    print(f"{label}  {probabilities.round(2)}  {text}")

# %% [markdown]
# ## How good is it?
#
# Score it on a hundred reviews that it has not seen, next to a linear classifier that learned from
# the same sixteen. Many of these reviews are ironic, which makes them hard for both.

# %%
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

words = make_pipeline(TfidfVectorizer(), LinearSVC())
words.fit([train.texts[i] for i in classifier.shots_], [train.labels[i] for i in classifier.shots_])
print(f"PromptClassifier    {classifier.score(texts, labels):.3f}")
print(f"TF-IDF + LinearSVC  {words.score(texts, labels):.3f}")

# %% [markdown]
# One draw of sixteen reviews says little, because another draw gives another score: see
# [seeds](seeds.md).
#
# ## Look at what the model reads
#
# `show_prompt` names each part of the prompt; in a notebook the parts are coloured. This is the
# prompt without solved reviews:

# %%
zero_shot = PromptClassifier(label_definitions=definitions, n_shots=0).fit()
print(zero_shot.show_prompt("A waste of money."))

# %% [markdown]
# ## Or tune the model
#
# `InstructionTunedClassifier` has the same parameters. It trains a small LoRA adapter on the
# sixteen reviews instead of showing them in the prompt. So `fit` takes longer, and `predict` less
# time.

# %%
from instructclf import InstructionTunedClassifier

tuned = InstructionTunedClassifier(label_definitions=definitions, n_shots=16, random_state=0)
tuned.fit(train.texts, train.labels)
print(f"{tuned.score(texts, labels):.3f} after {tuned.n_iter_} epochs")
