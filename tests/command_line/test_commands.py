"""Each command gives the same results as the Python functions that it calls."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from instructclf import (
    BagOfWordsClassifier,
    BlendedClassifier,
    ConformalClassifier,
    DistilledClassifier,
    InstructionTunedClassifier,
    OrdinalClassifier,
    PromptClassifier,
    SelectiveClassifier,
    load,
)
from instructclf.command_line import main
from instructclf.datasets.rows import ENDINGS, read_rows
from instructclf.datasets.writing import write_file
from tests.fixtures import LABELS, TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
NEW = [{"id": 7, "text": "good, is it?"}, {"id": 8, "text": ""}]
SHORT = ["--param", "n_shots=4", "--param", "random_state=0", "--no-progress"]
QUICK = ["--param", "max_epochs=1", "--param", "adapter__rank=2"]


@pytest.fixture
def train(tmp_path):
    """Return a file of labelled rows."""
    write_file(tmp_path / "train.csv", ROWS)
    return str(tmp_path / "train.csv")


@pytest.fixture
def saved(make_prompting, tmp_path):
    """Return the folder of a saved classifier."""
    make_prompting().fit(TEXTS, LABELS).save(tmp_path / "saved")
    return str(tmp_path / "saved")


@pytest.fixture
def standard_input(monkeypatch):
    """Return a function that puts bytes into standard input."""

    def put(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))

    return put


# fit


def test_fit_saves_the_same_classifier_as_python(train, model_folder, tmp_path, capsys):
    definitions = {"negative": "No = bad.", "positive": "Yes."}
    (tmp_path / "labels.json").write_text(json.dumps({"positive": "Yes."}))
    arguments = ["--define", "negative=No = bad.", "--definitions", f"{tmp_path}/labels.json"]
    arguments += ["--test", train, "--model", model_folder, *SHORT]
    code = main(["fit", train, "--save", f"{tmp_path}/saved", *arguments])
    expected = PromptClassifier(
        model_folder, n_shots=4, random_state=0, label_definitions=definitions
    ).fit(TEXTS, LABELS)
    loaded = load(tmp_path / "saved")
    assert code == 0
    assert repr(loaded) == repr(expected)
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), expected.predict_proba(TEXTS))
    accuracy = expected.score(TEXTS, LABELS)
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/saved: PromptClassifier, 4 of 16 rows as shots, labels negative, positive",
        f"accuracy on the 16 rows of {train}: {accuracy:.4f}",
    ]
    assert f"| accuracy | {accuracy:.4f} |" in (tmp_path / "saved" / "README.md").read_text()


def test_fit_tunes(train, model_folder, tmp_path, capfd):
    folder = tmp_path / "saved"
    arguments = ["--approach", "tuning", "--progress", "--param", "n_seeds=2"]
    code = main(["fit", train, "--save", str(folder), "--model", model_folder, *QUICK, *arguments])
    loaded = load(folder)
    assert code == 0
    assert isinstance(loaded, InstructionTunedClassifier)
    assert (loaded.max_epochs, loaded.adapter.rank, loaded.n_seeds) == (1, 2, 2)
    assert "it/s" in capfd.readouterr().err
    assert [fitted.verbose for fitted in [loaded, *loaded.estimators_]] == [0, 0, 0]


@pytest.fixture
def unlabelled(tmp_path):
    """Return a file of texts without labels, and the texts."""
    texts = [f"good, and {i}" if i % 2 else f"bad, and {i}" for i in range(12)]
    write_file(tmp_path / "unlabelled.csv", [{"text": text} for text in texts])
    return str(tmp_path / "unlabelled.csv"), texts


def test_fit_learns_from_texts_without_labels(train, unlabelled, model_folder, tmp_path, capsys):
    path, texts = unlabelled
    arguments = ["--approach", "tuning", "--unlabelled", path, "--texts-per-label", "3"]
    arguments += ["--model", model_folder, *SHORT, "--param", "sampler=random"]
    code = main(["fit", train, "--save", f"{tmp_path}/saved", *arguments])
    common = {"random_state": 0, "sampler": "random"}
    expected = DistilledClassifier(
        InstructionTunedClassifier(model_folder, max_epochs=2, **common),
        PromptClassifier(model_folder, n_shots=4, **common),
        texts,
        n_texts_per_label=3,
    ).fit(TEXTS, LABELS)
    n_chosen = len(expected.pseudo_labelled_.labels)
    assert code == 0
    loaded = load(tmp_path / "saved")
    assert repr(loaded) == repr(expected.estimator_)
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), expected.predict_proba(TEXTS))
    assert capsys.readouterr().out == (
        f"{tmp_path}/saved: InstructionTunedClassifier, 16 labelled rows and {n_chosen} of 12 "
        "texts without labels, labels negative, positive\n"
    )


def test_a_student_and_its_teacher_have_the_parameters_that_are_theirs(
    train, unlabelled, model_folder, tmp_path
):
    arguments = ["--approach", "tuning", "--unlabelled", unlabelled[0], "--model", model_folder]
    arguments += [*SHORT, *QUICK, "--texts-per-label", "all"]
    assert main(["fit", train, "--save", f"{tmp_path}/saved", *arguments]) == 0
    loaded = load(tmp_path / "saved")
    assert (loaded.max_epochs, loaded.adapter.rank, loaded.n_shots) == (1, 2, None)
    assert len(loaded.shots_) == 28


def test_fit_names_classes_by_number(model_folder, tmp_path):
    numbers = [{**row, "label": int(row["label"] == "positive")} for row in ROWS]
    write_file(tmp_path / "train.jsonl", numbers)
    folder = str(tmp_path / "saved")
    arguments = ["--label-names", "negative, positive", "--model", model_folder, *SHORT]
    assert main(["fit", str(tmp_path / "train.jsonl"), "--save", folder, *arguments]) == 0
    assert load(folder).classes_.tolist() == ["negative", "positive"]


def test_fit_reads_standard_input_and_other_columns(model_folder, tmp_path, standard_input):
    lines = "".join(f"{row['label']},{row['text']}\n" for row in ROWS)
    standard_input(f"stars,review\n{lines}".encode())
    arguments = [
        "--text-column",
        "review",
        "--label-column",
        "stars",
        "--model",
        model_folder,
        *SHORT,
    ]
    assert main(["fit", "-", "--save", str(tmp_path / "saved"), *arguments]) == 0
    expected = PromptClassifier(model_folder, n_shots=4, random_state=0).fit(TEXTS, LABELS)
    assert load(tmp_path / "saved").prompt_ == expected.prompt_


def test_fit_reads_a_file_of_another_delimiter_and_encoding(model_folder, tmp_path):
    texts = [f"{text} für 5 €" for text in TEXTS]
    lines = "".join(f"{label}~{text}\n" for text, label in zip(texts, LABELS, strict=True))
    (tmp_path / "train.csv").write_bytes(f"label~text\n{lines}".encode("cp1252"))
    arguments = ["--delimiter", "~", "--encoding", "cp1252", "--model", model_folder, *SHORT]
    folder = tmp_path / "saved"
    assert main(["fit", str(tmp_path / "train.csv"), "--save", str(folder), *arguments]) == 0
    expected = PromptClassifier(model_folder, n_shots=4, random_state=0).fit(texts, LABELS)
    assert load(folder).prompt_ == expected.prompt_


# predict


@pytest.mark.parametrize("ending", ENDINGS)
def test_predict_adds_columns_to_a_file_of_any_format(ending, saved, tmp_path):
    data, output = tmp_path / f"new{ending}", tmp_path / f"out{ending}"
    write_file(data, NEW)
    assert main(["predict", saved, str(data), "--output", str(output), "--no-progress"]) == 0
    rows = [row.values for row in read_rows(output)]
    probabilities = load(saved).predict_proba([row["text"] for row in NEW])
    assert list(rows[0]) == [
        "id",
        "text",
        "prediction",
        "probability_negative",
        "probability_positive",
    ]
    assert [row["text"] for row in rows] == [row["text"] for row in NEW]
    assert [int(row["id"]) for row in rows] == [7, 8]
    predicted = load(saved).predict([row["text"] for row in NEW])
    assert [row["prediction"] for row in rows] == predicted.tolist()
    columns = [[float(row[name]) for row in rows] for name in list(rows[0])[-2:]]
    np.testing.assert_array_equal(np.transpose(columns), probabilities)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("is_stream", [False, True], ids=["file", "stream"])
def test_predict_keeps_the_columns_of_parquet(is_stream, saved, tmp_path, standard_input):
    seen = pa.array([1700000000123456789, None], pa.timestamp("ns", "UTC"))
    hashed = pa.array([1, 2**63 + 5], pa.uint64())
    table = pa.table({"seen": seen, "hashed": hashed, "text": ["good", "bad"]})
    pq.write_table(table, tmp_path / "in.parquet")
    standard_input((tmp_path / "in.parquet").read_bytes())
    source, output = "-" if is_stream else str(tmp_path / "in.parquet"), tmp_path / "out.parquet"
    assert main(["predict", saved, source, "-o", str(output), "--no-progress"]) == 0
    written = pq.read_table(output)
    assert written.select(table.column_names).equals(table)
    assert written["prediction"].to_pylist() == load(saved).predict(["good", "bad"]).tolist()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_predict_reads_and_writes_streams(ending, saved, tmp_path, standard_input, capsysbinary):
    write_file(tmp_path / f"new.{ending}", NEW)
    content = (tmp_path / f"new.{ending}").read_bytes()
    standard_input(content)
    assert main(["predict", saved, "-", "--format", ending, "--no-progress"]) == 0
    (tmp_path / f"out.{ending}").write_bytes(capsysbinary.readouterr().out)
    rows = [row.values for row in read_rows(tmp_path / f"out.{ending}")]
    assert [int(row["id"]) for row in rows] == [7, 8]
    assert {row["prediction"] for row in rows} <= {"negative", "positive"}


def test_a_stream_has_the_format_of_the_file(saved, tmp_path, capsys):
    write_file(tmp_path / "new.jsonl", NEW)
    assert main(["predict", saved, str(tmp_path / "new.jsonl"), "--no-progress"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [7, 8]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_predict_abstains_below_the_label_mass(ending, saved, tmp_path):
    classifier, data, output = load(saved), tmp_path / "new.csv", tmp_path / f"out.{ending}"
    write_file(data, NEW)
    texts = [row["text"] for row in NEW]
    masses = classifier.label_mass(texts)
    arguments = ["--output", str(output), "--min-label-mass", str(masses.max()), "--no-progress"]
    assert main(["predict", saved, str(data), *arguments]) == 0
    rows = [row.values for row in read_rows(output)]
    expected = classifier.predict(texts, min_label_mass=masses.max())
    assert list(expected).count(None) == 1
    assert [row["prediction"] or None for row in rows] == list(expected)
    assert [float(row["label_mass"]) for row in rows] == masses.tolist()


def test_predict_shows_progress_on_request(saved, tmp_path, capfd):
    write_file(tmp_path / "new.csv", NEW)
    assert main(["predict", saved, str(tmp_path / "new.csv"), "--progress"]) == 0
    assert "Scoring" in capfd.readouterr().err


def test_predict_replaces_saved_parameters(saved, fresh_folder, tmp_path, capsys):
    write_file(tmp_path / "new.csv", NEW)
    nested = ["--param", "model_options__max_batch_tokens=64"]
    arguments = ["--model", fresh_folder, *nested, "--no-progress"]
    assert main(["predict", saved, str(tmp_path / "new.csv"), *arguments]) == 0
    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == 2


# prompt


def test_prompt_shows_the_prompt_and_its_tokens(saved, capsys):
    assert main(["prompt", saved, "good", "--label", "negative", "--tokens", "--no-progress"]) == 0
    classifier = load(saved)
    assert capsys.readouterr().out == (
        f"{classifier.show_prompt('good', 'negative')}\n\n{classifier.show_tokens('good')}\n"
    )


def test_prompt_reads_standard_input(saved, standard_input, capsys):
    standard_input("größer\n".encode())
    assert main(["prompt", saved, "-", "--no-progress"]) == 0
    out = capsys.readouterr().out
    shown = load(saved).show_prompt("größer\n")
    assert out == f"{shown}\n"
    assert "tokens of at most 2048, the label aside." in out


def test_prompt_of_several_seeds_is_that_of_the_first(train, model_folder, tmp_path, capsys):
    folder = str(tmp_path / "saved")
    arguments = ["--model", model_folder, "--param", "n_seeds=2", *SHORT]
    assert main(["fit", train, "--save", folder, *arguments]) == 0
    capsys.readouterr()
    assert main(["prompt", folder, "good", "--no-progress"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("The prompt of the first of 2 seeds:\n\n")
    assert out.endswith(f"{load(folder).estimators_[0].show_prompt('good')}\n")


# compare


def test_compare_prints_the_table_and_writes_the_figures(train, model_folder, tmp_path, capsys):
    arguments = ["--model", model_folder, "--shots", "4", "--seeds", "2", *QUICK, "--no-progress"]
    output = tmp_path / "figures.parquet"
    code = main(["compare", train, train, *arguments, "--output", str(output)])
    assert code == 0
    rows = pq.read_table(output).to_pylist()
    assert [row["approach"] for row in rows] == [
        "TF-IDF + LinearSVC",
        "prompting",
        "instruction tuning",
    ]
    assert {(row["n_rows"], row["n_seeds"]) for row in rows} == {(4, 2)}
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("approach")
    for row, line in zip(rows, table[2:], strict=False):
        assert line.startswith(row["approach"])
        assert f"{row['accuracy']:.3f}" in line
    assert "16 test texts, 2 seeds" in table[-1]


def test_compare_skips_stored_runs(train, tmp_path, capsys):
    store = tmp_path / "store"
    arguments = ["--approach", "svm", "--shots", "all", "--seeds", "1", "--store", str(store)]
    assert main(["compare", train, train, *arguments]) == 0
    first = capsys.readouterr().out
    (run,) = store.iterdir()
    time = run.stat().st_mtime_ns
    assert main(["compare", train, train, *arguments]) == 0
    assert capsys.readouterr().out == first
    assert run.stat().st_mtime_ns == time
    assert "all 16" in first


def test_compare_writes_only_figures_to_standard_output(train, capsys):
    arguments = [
        "--approach",
        "svm",
        "--seeds",
        "1",
        "--shots",
        "4",
        "-o",
        "-",
        "--format",
        "jsonl",
    ]
    assert main(["compare", train, train, *arguments]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["approach"] == "TF-IDF + LinearSVC"
    assert json.loads(line)["log_loss"] is None  # NaN in Python, which JSON does not have


def test_a_blend_predicts_from_the_command_line(make_prompting, tmp_path, capsys):
    two = [("prompting", make_prompting(n_shots=2)), ("words", BagOfWordsClassifier())]
    blend = BlendedClassifier(two, cv=2, random_state=0).fit(TEXTS, LABELS)
    folder, new, out = tmp_path / "saved", tmp_path / "new.csv", tmp_path / "out.jsonl"
    blend.save(folder)
    write_file(new, NEW)
    arguments = ["predict", str(folder), str(new), "--output", str(out)]
    assert main(arguments) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    probabilities = blend.predict_proba([row["text"] for row in NEW])
    for row, expected in zip(rows, probabilities, strict=True):
        assert row["prediction"] == blend.classes_[expected.argmax()]
        found = [row["probability_negative"], row["probability_positive"]]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert main([*arguments, "--min-label-mass", "0.5"]) == 1
    assert "has no label mass" in capsys.readouterr().err
    assert main(["prompt", str(folder), "good"]) == 1
    assert "such as its folder member-0" in capsys.readouterr().err
    assert main(["predict", str(folder / "member-1"), str(new)]) == 0
    assert main(["prompt", str(folder / "member-1"), "good"]) == 1
    assert "has no prompt of its own. It asks no language model" in capsys.readouterr().err


SCORES = {"positive": 2, "negative": -1}


@pytest.fixture
def wrappers(make_prompting):
    """Return unfitted classifiers around one that is prompted."""
    inside = make_prompting(n_shots=2)
    held_out = {"cv": 0.5, "random_state": 0}
    return {
        "ordinal": OrdinalClassifier(inside, scores=SCORES),
        "conformal": ConformalClassifier(inside, confidence_level=0.6, **held_out),
        "selective": SelectiveClassifier(inside, risk=0.9, confidence=0.5, **held_out),
        "selective ordinal": SelectiveClassifier(
            OrdinalClassifier(inside, scores=SCORES), risk=0.9, confidence=0.5, **held_out
        ),
        "conformal ordinal": ConformalClassifier(
            OrdinalClassifier(inside, scores=SCORES), confidence_level=0.6, **held_out
        ),
    }


KINDS = ["ordinal", "conformal", "selective", "selective ordinal", "conformal ordinal"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrapper_predicts_what_it_predicts_in_python(kind, wrappers, tmp_path):
    wrapper = wrappers[kind].fit(TEXTS, LABELS)
    if kind.startswith("selective"):  # so that it labels some texts and no others
        largest = np.sort(wrapper.predict_proba(TEXTS).max(axis=1))
        wrapper.threshold_ = float(largest[len(largest) // 2])
    wrapper.save(tmp_path / "saved")
    write_file(tmp_path / "new.csv", ROWS)
    out = tmp_path / "out.jsonl"
    assert main(["predict", f"{tmp_path}/saved", f"{tmp_path}/new.csv", "-o", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["prediction"] for row in rows] == wrapper.predict(TEXTS).tolist()
    for column, label in enumerate(wrapper.classes_):
        expected = wrapper.predict_proba(TEXTS)[:, column]
        np.testing.assert_allclose([row[f"probability_{label}"] for row in rows], expected, 1e-12)
        if kind.startswith("conformal"):
            found = [row[f"in_set_{label}"] for row in rows]
            assert found == wrapper.predict_set(TEXTS)[:, column].tolist()
    if kind == "ordinal":
        found = [row["expected_score"] for row in rows]
        np.testing.assert_allclose(found, wrapper.expected_score(TEXTS), rtol=1e-12)


def test_a_text_that_a_wrapper_leaves_open_has_an_empty_prediction(wrappers, tmp_path, capsys):
    selective = wrappers["selective"].fit(TEXTS, LABELS)
    selective.threshold_ = np.inf
    selective.save(tmp_path / "saved")
    write_file(tmp_path / "new.csv", NEW)
    assert main(["predict", f"{tmp_path}/saved", f"{tmp_path}/new.csv", "--no-probabilities"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["prediction"] for row in rows] == ["", ""]


def test_options_reach_the_classifier_inside_wrappers(
    make_prompting, fresh_folder, model_folder, tmp_path, capsys
):
    ordinal = OrdinalClassifier(make_prompting(model=fresh_folder), scores=SCORES)
    selective = SelectiveClassifier(ordinal, risk=0.9, confidence=0.5, random_state=0)
    selective.fit(TEXTS, LABELS).save(tmp_path / "saved")
    shutil.rmtree(fresh_folder)
    write_file(tmp_path / "new.csv", NEW)
    command = ["predict", f"{tmp_path}/saved", f"{tmp_path}/new.csv"]
    assert main(command) == 1
    assert "estimator__estimator__model=..." in capsys.readouterr().err
    options = ["--model", model_folder, "--param", "model_options__max_length=300"]
    assert main([*command, *options]) == 0
    assert main([*command, *options, "--min-label-mass", "0.5"]) == 1
    assert "a SelectiveClassifier has no label mass" in capsys.readouterr().err


def test_the_prompt_of_a_wrapper_is_that_of_the_classifier_inside(wrappers, tmp_path, capsys):
    selective = wrappers["selective ordinal"].fit(TEXTS, LABELS)
    selective.save(tmp_path / "saved")
    assert main(["prompt", str(tmp_path / "saved"), "good"]) == 0
    shown = capsys.readouterr().out
    assert shown == f"{selective.estimator_.estimator_.show_prompt('good')}\n"


def test_the_prompts_in_a_wrapped_blend_have_folders(make_prompting, tmp_path, capsys):
    two = [("words", BagOfWordsClassifier()), ("prompting", make_prompting(n_shots=2))]
    blend = BlendedClassifier(two, cv=2, random_state=0)
    wrapper = OrdinalClassifier(blend, scores=SCORES).fit(TEXTS, LABELS)
    wrapper.save(tmp_path / "saved")
    assert main(["prompt", str(tmp_path / "saved"), "good"]) == 1
    assert "such as its folder estimator/member-1" in capsys.readouterr().err
    assert main(["prompt", f"{tmp_path}/saved/estimator/member-1", "good"]) == 0
