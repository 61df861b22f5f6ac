"""The program answers several questions as `MultiOutputPromptClassifier` does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from instructclf import MultiOutputPromptClassifier, load
from instructclf.command_line import main
from instructclf.datasets.rows import read_rows
from instructclf.datasets.writing import write_file
from tests.fixtures import LABELS, TEXTS

URGENT = [number % 2 for number in range(len(TEXTS))]
TOPICS = [["price"], [], ["late", "price"], ["late"]] * 4
ROWS = [
    {"text": text, "opinion": opinion, "urgent": urgent, "topics": topics}
    for text, opinion, urgent, topics in zip(TEXTS, LABELS, URGENT, TOPICS, strict=True)
]
ANSWERS = [
    [row["opinion"], row["urgent"], int("late" in row["topics"]), int("price" in row["topics"])]
    for row in ROWS
]
NAMES = ["opinion", "urgent", "late", "price"]
NEW = [{"id": 7, "text": "good, is it?"}, {"id": 8, "text": ""}]
ASKED = ["--label-column", "opinion", "--label-column", "urgent", "--list-column", "topics"]
SHORT = ["--param", "n_shots=4", "--param", "random_state=0", "--no-progress"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a working directory with rows in every format, and rows to predict."""
    monkeypatch.chdir(tmp_path)
    write_file(tmp_path / "train.jsonl", ROWS)
    write_file(tmp_path / "train.parquet", ROWS)
    write_file(tmp_path / "as_json.csv", ROWS)  # a list in csv is written as JSON
    write_file(
        tmp_path / "train.csv", [{**row, "topics": "; ".join(row["topics"])} for row in ROWS]
    )
    write_file(tmp_path / "as_python.csv", [{**row, "topics": str(row["topics"])} for row in ROWS])
    write_file(tmp_path / "pipes.csv", [{**row, "topics": "|".join(row["topics"])} for row in ROWS])
    write_file(tmp_path / "new.jsonl", NEW)
    return tmp_path


@pytest.fixture
def expected(model_folder):
    """Return the same classifier, fitted in Python."""
    asked = MultiOutputPromptClassifier(model_folder, questions=NAMES, n_shots=4, random_state=0)
    return asked.fit(TEXTS, ANSWERS)


@pytest.fixture
def saved(folder, expected):
    """Return the folder of a saved classifier."""
    expected.save(folder / "saved")
    return "saved"


def run(command, model=None):
    """Run a command line, on a model if it is given, and return its exit code."""
    return main([*command.split(" "), *(["--model", model] if model else []), "--no-progress"])


# fit


@pytest.mark.parametrize(
    "source",
    [
        "train.jsonl",
        "train.parquet",
        "train.csv",
        "as_json.csv",
        "as_python.csv",
        "pipes.csv --list-separator |",
    ],
)
def test_fit_reads_columns_of_labels_and_of_lists(source, folder, model_folder, expected):
    asked = " ".join([*ASKED, *SHORT])
    assert run(f"fit {source} --save saved {asked}", model_folder) == 0
    loaded = load("saved")
    assert repr(loaded) == repr(expected)
    for found, own in zip(loaded.predict_proba(TEXTS), expected.predict_proba(TEXTS), strict=True):
        np.testing.assert_array_equal(found, own)


def test_fit_says_what_it_asks_and_measures_each_question(folder, model_folder, expected, capsys):
    asked = " ".join([*ASKED, *SHORT])
    assert run(f"fit train.csv --save saved {asked} --test train.jsonl", model_folder) == 0
    predicted = expected.predict(TEXTS)
    right = predicted == np.array(ANSWERS, dtype=object)
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == (
        "saved: MultiOutputPromptClassifier, 4 of 16 rows as shots, questions opinion (negative, "
        "positive), urgent, late, price"
    )
    assert [line.partition(" on the 16 rows")[0] for line in lines] == [
        "all answers right",
        "accuracy of opinion",
        "F1 of urgent",
        "F1 of late",
        "F1 of price",
    ]
    figures = [float(line.rpartition(" ")[2]) for line in lines]
    counts = [(right[:, i] & (predicted[:, i] == 1)).sum() for i in (1, 2, 3)]
    named = [(predicted[:, i] == 1).sum() + sum(row[i] for row in ANSWERS) for i in (1, 2, 3)]
    f1 = [2 * n / max(total, 1) for n, total in zip(counts, named, strict=True)]
    expected_figures = [right.all(axis=1).mean(), right[:, 0].mean(), *f1]
    np.testing.assert_allclose(figures, expected_figures, atol=5e-5)
    card = (folder / "saved" / "README.md").read_text()
    assert f"| accuracy of opinion | {figures[1]:.4f} |" in card


def test_definitions_are_those_of_a_column(folder, model_folder):
    definitions = {
        "opinion": {"negative": "No."},
        "topics": {"late": "Too late.", "size": "It does not fit."},
        "urgent": {"1": "Now."},
    }
    (folder / "definitions.json").write_text(json.dumps(definitions))
    more = ["--define", "opinion: positive=Yes.", "--define", "urgent:0=Later.", "--no-progress"]
    asked = [*ASKED, *SHORT, "--definitions", "definitions.json", *more, "--model", model_folder]
    assert main(["fit", "train.jsonl", "--save", "saved", *asked]) == 0
    loaded = load("saved")
    assert loaded.label_definitions == {
        "opinion": {"negative": "No.", "positive": "Yes."},
        "late": "Too late.",
        "size": "It does not fit.",
        "urgent": {0: "Later.", 1: "Now."},
    }
    assert loaded.questions_.tolist() == ["opinion", "urgent", "late", "price", "size"]


def test_one_sentence_defines_a_column_of_0_and_1(folder, model_folder):
    asked = [*ASKED, *SHORT, "--define", "urgent=Do it today.", "--model", model_folder]
    assert main(["fit", "train.jsonl", "--save", "saved", *asked]) == 0
    assert load("saved").label_definitions == {"urgent": "Do it today."}


def test_words_of_0_and_1_can_be_given(folder, model_folder):
    words = 'verbalizer={"urgent": {"0": "can wait", "1": "at once"}}'
    asked = [*ASKED, *SHORT, "--param", words, "--model", model_folder]
    assert main(["fit", "train.jsonl", "--save", "saved", *asked]) == 0
    assert load("saved").verbalizer == {"urgent": {0: "can wait", 1: "at once"}}


def test_a_column_of_lists_may_stand_alone(folder, model_folder):
    asked = " ".join(["--list-column topics", *SHORT])
    assert run(f"fit train.csv --save saved {asked}", model_folder) == 0
    assert load("saved").label_binarizer_.classes_.tolist() == ["late", "price"]


# predict


def test_predict_adds_a_column_for_each_question(saved, expected):
    assert run(f"predict {saved} new.jsonl --output out.csv") == 0
    rows = [row.values for row in read_rows(Path("out.csv"))]
    texts = [row["text"] for row in NEW]
    predicted, probabilities = expected.predict(texts), expected.predict_proba(texts)
    assert list(rows[0])[2:] == [
        *(f"prediction_{name}" for name in NAMES),
        "probability_opinion_negative",
        "probability_opinion_positive",
        *(f"probability_{name}" for name in NAMES[1:]),
    ]
    for name, column in zip(NAMES, predicted.T, strict=True):
        assert [row[f"prediction_{name}"] for row in rows] == [str(one) for one in column]
    assert [float(row["probability_opinion_negative"]) for row in rows] == (
        probabilities[0][:, 0].tolist()
    )
    for name, own in zip(NAMES[1:], probabilities[1:], strict=True):
        assert [float(row[f"probability_{name}"]) for row in rows] == own[:, 1].tolist()


def test_predict_obeys_learned_thresholds(folder, model_folder):
    asked = " ".join([*ASKED, *SHORT, "--param thresholds=f1"])
    assert run(f"fit train.jsonl --save saved {asked}", model_folder) == 0
    assert run("predict saved train.jsonl --output out.jsonl") == 0
    rows = [row.values for row in read_rows(Path("out.jsonl"))]
    found = [[row[f"prediction_{name}"] for name in NAMES] for row in rows]
    assert found == load("saved").predict(TEXTS).tolist()


@pytest.mark.parametrize("kind", ["one", "several"])
def test_predict_leaves_probabilities_out(kind, saved, make_prompting, capsys):
    if kind == "one":
        make_prompting().fit(TEXTS, LABELS).save(saved := "other")
    assert run(f"predict {saved} new.jsonl --no-probabilities") == 0
    (first, _) = capsys.readouterr().out.splitlines()
    names = ["prediction"] if kind == "one" else [f"prediction_{name}" for name in NAMES]
    assert list(json.loads(first)) == ["id", "text", *names]


# prompt


def test_prompt_shows_any_of_the_questions(saved, expected, capsys):
    assert run(f"prompt {saved} good") == 0
    assert capsys.readouterr().out == f"{expected.estimators_[0].show_prompt('good')}\n"
    assert run(f"prompt {saved} good --question late --label 1 --tokens") == 0
    late = expected.estimators_[2]
    shown = f"{late.show_prompt('good', 1)}\n\n{late.show_tokens('good')}\n"
    assert capsys.readouterr().out == shown


# mix-ups

ERRORS = {
    "tuning": (
        f"fit train.jsonl --save x --approach tuning {' '.join(ASKED)}",
        "--approach tuning takes one label column. Several columns, or lists of labels, are answer",
    ),
    "names of numbers": (
        "fit train.jsonl --save x --list-column topics --label-names a,b",
        "--label-names names the classes of a single label column, and there are several",
    ),
    "twice": (
        "fit train.jsonl --save x --label-column urgent --label-column urgent",
        "The column 'urgent' is named twice",
    ),
    "lists as labels": (
        "fit train.jsonl --save x --label-column topics",
        r"train.jsonl:1: 'topics' is \['price'\], a list, .* by instructclf fit --list-column …",
    ),
    "labels as a list": (
        "fit train.jsonl --save x --list-column urgent",
        "train.jsonl:1: 'urgent' is 0, expected a list of labels, or a text with ';' between them",
    ),
    "half a list": (
        "fit half.csv --save x --list-column topics",
        r"half.csv:2: 'topics' is '\[late', expected a list",
    ),
    "no column": (
        "fit train.jsonl --save x --list-column topic",
        "has no column 'topic'. .* Did you mean 'topics' .* with --list-column ….",
    ),
    "no rows": (
        "fit empty.csv --save x --label-column a --list-column b",
        "empty.csv has no rows. Expected the columns 'text', 'a', 'b'.",
    ),
    "no labels": (
        "fit unlabelled.csv --save x --list-column topics",
        "No row has a label in the column 'topics'",
    ),
    "a label of two names": (
        "fit clash.csv --save x --label-column late --list-column topics",
        "'late' is a label in the lists of 'topics', and the name of another column or label",
    ),
    "new label in the test": (
        "fit train.jsonl --save x --list-column topics --test clash.csv",
        "clash.csv:2: 'topics' has the label 'lates', .* Did you mean 'late' instead of 'lates'",
    ),
    "no column is defined": (
        f"fit train.jsonl --save x {' '.join(ASKED)} --define urgnt=Now.",
        "'urgnt' is defined, which is no column of labels.* Did you mean 'urgent'",
    ),
    "defined twice": (
        f"fit train.jsonl --save x {' '.join(ASKED)} --define urgent=a --define urgent:1=a",
        "The column 'urgent' is defined as a whole, and so is '1' in it",
    ),
    "label defined twice": (
        f"fit train.jsonl --save x {' '.join(ASKED)} --define urgent:1=b --define urgent:1=a",
        "The label '1' of 'urgent' is defined twice",
    ),
    "definitions of one question": (
        f"fit train.jsonl --save x {' '.join(ASKED)} --definitions flat.json",
        "'negative' is defined, which is no column of labels. .* those of a column: 'opinion', 'ur",
    ),
    "definitions of several questions": (
        "fit train.jsonl --save x --label-column opinion --definitions nested.json",
        "nested.json must hold a JSON object of labels and sentences",
    ),
    "definitions of another form": (
        f"fit train.jsonl --save x {' '.join(ASKED)} --definitions deep.json",
        "deep.json must hold a JSON object of columns, each with sentences by label",
    ),
    "questions as a parameter": (
        f'fit train.jsonl --save x {" ".join(ASKED)} --param questions=["a"]',
        "The 'questions' parameter is given by --label-column",
    ),
    "compare": (
        "compare train.jsonl train.jsonl --label-column opinion --label-column urgent",
        "compare takes one label column. Got opinion, urgent: take one after the other.",
    ),
    "mass": (
        "predict saved new.jsonl --min-label-mass 0.5",
        "--min-label-mass: a MultiOutputPromptClassifier has no label mass",
    ),
    "question": (
        "prompt saved good --question prise",
        "There is no question 'prise'. The questions are opinion, .* Did you mean 'price'",
    ),
    "taken": (
        "predict saved taken.csv",
        "taken.csv has a column 'prediction_late', which the result would overwrite",
    ),
}


@pytest.mark.parametrize(("command", "message"), ERRORS.values(), ids=ERRORS)
def test_a_mix_up_is_an_error_that_says_what_to_do(command, message, saved, folder, capsys):
    (folder / "half.csv").write_text("text,topics\na,[late\n")
    (folder / "empty.csv").write_text("text,a,b\n")
    (folder / "unlabelled.csv").write_text("text,topics\na,\n")
    (folder / "clash.csv").write_text("text,late,topics\na,1,lates\nb,0,late\n")
    (folder / "taken.csv").write_text("text,prediction_late\na,1\n")
    (folder / "flat.json").write_text('{"negative": "No."}')
    (folder / "nested.json").write_text('{"opinion": {"negative": "No."}}')
    (folder / "deep.json").write_text('{"opinion": {"negative": {}}}')
    assert run(command) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(message, err), err
    assert err.count("\n") == 1


def test_a_question_of_a_classifier_with_one_is_an_error(folder, make_prompting, capsys):
    make_prompting().fit(TEXTS, LABELS).save("one")
    assert run("prompt one good --question late") == 1
    assert "--question late: a PromptClassifier answers one question" in capsys.readouterr().err


def test_two_columns_of_the_same_name_are_an_error(folder, model_folder, capsys):
    answers = [[label, label] for label in ("c", "b_c") * 8]
    asked = MultiOutputPromptClassifier(model_folder, questions=["a_b", "a"], n_shots=4)
    asked.fit(TEXTS, answers).save("saved")
    assert run("predict saved new.jsonl") == 1
    assert "Two columns would be called 'probability_a_b_c'" in capsys.readouterr().err
    assert run("predict saved new.jsonl --no-probabilities") == 0
