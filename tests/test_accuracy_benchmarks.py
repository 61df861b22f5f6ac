"""The benchmarks of accuracy: runs that are kept and not repeated, tables of what is there."""

import argparse
import importlib
import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import balanced_accuracy_score

from instructclf import PromptClassifier
from instructclf.evaluation import compare, evaluate_seeds

FOLDER = Path(__file__).parents[1] / "benchmarks"
DATA = Path(__file__).parents[2] / "shared" / "data"
MODULES = (
    "approaches", "averaging", "bundled_model", "bundled_model_tables", "cells", "lessons",
    "lessons_calibration", "lessons_parts", "lessons_peers", "lessons_pictures", "lessons_speed",
    "lessons_tables", "measuring", "peers", "peers.few_shot", "peers.forwards", "tables", "tasks",
)  # fmt: skip


@pytest.fixture
def load(monkeypatch):
    """Return a function that imports a module of the benchmarks, forgotten after the test."""
    monkeypatch.syspath_prepend(FOLDER)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def cells(load):
    return load("cells")


@pytest.fixture
def options(tmp_path, model_folder):
    """What the command line gives, for a tiny model and no data beside the reviews."""
    return argparse.Namespace(
        data=tmp_path / "none",
        model=str(model_folder),
        out=tmp_path / "runs",
        results=tmp_path / "results",
        picture=tmp_path / "lessons.png",
        cells=None,
        seeds=2,
        full_seeds=1,
        average_seeds=4,
        speed_texts=4,
        row_passes=16,
        parameters={},
        heldout=None,
        limit_test=12,
        threads=1,
        plan=False,
        table=False,
    )


@pytest.fixture
def model_folder(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def guessing(cells, name="reviews/8/guess", *, n_seeds=2, n_rows=16, **options):
    estimator = DummyClassifier(strategy="uniform")
    return cells.Cell(name, "reviews", estimator, n_rows, n_seeds, **options)


def printed_runs(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if line.endswith(" s")]


# Cells


def test_a_seed_draws_what_evaluate_seeds_draws(cells, options):
    rows = importlib.import_module("tasks").read_rows("reviews", options.data)
    split = rows.split
    scores = evaluate_seeds(
        DummyClassifier(), split.X_train, split.y_train, split.X_test, split.y_test,
        n_shots=16, n_seeds=3,
    )  # fmt: skip
    cell = guessing(cells)
    for seed in (0, 2):
        np.testing.assert_array_equal(cells.draw(cell, rows, seed).rows, scores.shots[seed])


def test_what_ran_is_not_run_again_and_what_is_missing_is(cells, options, capsys):
    cells.run([guessing(cells)], options)
    assert len(printed_runs(capsys)) == 2
    cells.run([guessing(cells, n_seeds=3)], options)
    assert [line.split(":")[0] for line in printed_runs(capsys)] == ["reviews/8/guess 2"]


@pytest.mark.parametrize(
    "change",
    [{"n_rows": 8}, {"sampler": "random"}, {"limit_test": 10}, {"strategy": "stratified"}],
    ids=["rows", "sampler", "test rows", "parameter"],
)
def test_other_settings_are_run(cells, options, capsys, change):
    cells.run([guessing(cells)], options)
    capsys.readouterr()
    options.limit_test = change.pop("limit_test", options.limit_test)
    strategy = change.pop("strategy", "uniform")
    cell = guessing(cells, **change)
    cell.estimator.set_params(strategy=strategy)
    cells.run([cell], options)
    assert len(printed_runs(capsys)) == 2


def test_a_model_with_other_weights_is_another_model(cells, model_folder):
    before = cells.model_digest(str(model_folder))
    cells._digests.clear()
    assert cells.model_digest(str(model_folder)) == before
    cells._digests.clear()
    with (model_folder / "config.json").open("a") as file:
        file.write(" ")
    assert cells.model_digest(str(model_folder)) != before


def test_plan_runs_nothing(cells, options, capsys):
    options.plan = True
    cells.run([guessing(cells)], options)
    assert "2 runs to do" in capsys.readouterr().out
    assert not options.out.exists()


def test_a_name_of_no_cell_ends_with_the_tasks_there_are(cells):
    with pytest.raises(SystemExit, match=r"called amazon/\*\. Tasks .* found: reviews\. --data"):
        cells.select([guessing(cells)], ["amazon/*"])


def test_a_line_that_was_cut_off_is_run_again_and_spoils_no_other(cells, options):
    cells.run([guessing(cells)], options)
    (path,) = options.out.glob("*.jsonl")
    path.write_text(path.read_text()[:-40])
    cells.run([guessing(cells)], options)
    assert [line["seed"] for line in cells.Lines(options.out).newest("reviews/8/guess", "")] == [
        0,
        1,
    ]


def test_scores_come_back_as_they_were(cells, options):
    rows = importlib.import_module("tasks").read_rows("reviews", options.data, 12)
    split = rows.split
    expected = compare(
        {"guess": DummyClassifier(strategy="uniform")}, split.X_train, split.y_train,
        split.X_test, split.y_test, n_shots=16, n_seeds=2,
    ).scores["guess"]  # fmt: skip
    cells.run([guessing(cells, keeps_probabilities=True)], options)
    found = cells.scores_of(cells.Lines(options.out).newest("reviews/8/guess", ""))
    np.testing.assert_array_equal(found.predictions, expected.predictions)
    np.testing.assert_allclose(found.log_probabilities, expected.log_probabilities, rtol=1e-3)


def test_shots_that_do_not_fit_are_a_finding_and_no_end(cells, load, options, capsys):
    rows = load("tasks").read_rows("reviews", options.data, 12)
    estimator = load("approaches").prompting(
        load("tasks").TASKS["reviews"], rows, options.model, n_shots=16, max_length=40
    )
    cells.run([cells.Cell("reviews/8/prompting", "reviews", estimator, 16, 1)], options)
    assert "PromptTooLongError" in capsys.readouterr().out
    (line,) = cells.Lines(options.out).newest(
        "reviews/8/prompting", cells.model_digest(options.model)
    )
    assert "PromptTooLongError" in line["failed"]


def test_a_run_that_took_long_makes_a_longer_plan(cells, options, capsys):
    options.plan = True
    cells.run([guessing(cells, expected_s=3600.0)], options)
    assert "2.0 h" in capsys.readouterr().out


def test_figures_and_differences_are_balanced_where_asked_for(cells, options):
    rows = importlib.import_module("tasks").read_rows("reviews", options.data, 12)
    frequent = cells.Cell(
        "reviews/8/frequent", "reviews", DummyClassifier(strategy="most_frequent"), 16, 2
    )
    found = [guessing(cells), frequent]
    cells.run(found, options)
    results = cells.Results.read(found, options)
    scores = {name: results.scores[name] for name in ("reviews/8/guess", "reviews/8/frequent")}
    balanced = {
        name: np.mean([balanced_accuracy_score(rows.split.y_test, p) for p in own.predictions])
        for name, own in scores.items()
    }
    for name, own in scores.items():
        assert results.figures(name)["accuracy"] == pytest.approx(own.mean)
        assert results.figures(name)["balanced"]["accuracy"] == pytest.approx(balanced[name])
    found = results.difference(*scores, "balanced_accuracy")["difference"]
    assert found == pytest.approx(balanced["reviews/8/guess"] - balanced["reviews/8/frequent"])


@pytest.mark.parametrize(
    ("counts", "is_unequal"),
    [((50, 50), False), ((50, 30), False), ((80, 40), True), ((4, 3, 2), True)],
)
def test_test_rows_are_unequal_where_one_label_is_far_more_frequent(cells, counts, is_unequal):
    labels = np.repeat(np.arange(len(counts)), counts)
    assert cells._is_unequal(labels) is is_unequal


# Tasks


def test_label_names_become_words(load):
    assert load("tasks").natural_words("Refund_not showing up?") == "refund not showing up"


def test_a_draw_of_each_class_ends_where_a_class_ends(load):
    tasks = load("tasks")
    split = tasks.check_split(list("abbcde"), list("xxxyyy"), ["a"], ["x"])
    assert tasks.Rows(split, "").n_rows(2) == 4
    assert tasks.Rows(split, "").n_rows(8) == 5  # "b" is there twice


@pytest.mark.skipif(not DATA.is_dir(), reason="the data are not part of the project")
def test_every_task_has_definitions_and_words_for_its_labels(load):
    tasks = load("tasks")
    for name in tasks.available(list(tasks.TASKS), DATA):
        rows = tasks.read_rows(name, DATA)
        given = tasks.prompt_options(tasks.TASKS[name], rows.labels)
        if given["label_definitions"] is not None:
            assert sorted(given["label_definitions"]) == rows.labels
        if given["verbalizer"] is not None:
            assert len(set(given["verbalizer"].values())) == len(rows.labels)


# The bundled model


def test_bundled_model_measures_and_writes_its_tables(load, options, capsys):
    program = load("bundled_model")
    task = load("tasks").TASKS["reviews"]
    found = [c for c in program.cells_of(task, options) if "/all/" not in c.name]
    load("cells").run(found, options)
    program.write(found, options)
    record = json.loads((options.results / "bundled_model.json").read_text())
    assert record["cells"]["reviews/8/tuning"]["epochs"] == 1  # 16 rows, 16 passes
    assert set(record["differences"]) == {"reviews/8/tuning"}
    assert len(record["votes"]["8"]["accuracies"]) == 2
    page = (options.results / "reviews.md").read_text()
    assert "| vote of regression, prompting and tuning |" in page
    assert "these numbers mean nothing" in page
    capsys.readouterr()
    options.table = True
    program.write(found, options)
    assert page == (options.results / "reviews.md").read_text()


def test_runs_of_another_model_stay_out_of_the_tables(load, options, capsys):
    program, cells = load("bundled_model"), load("cells")
    found = [
        c for c in program.cells_of(load("tasks").TASKS["reviews"], options) if "/0/" in c.name
    ]
    cells.run(found, options)
    cells._digests[options.model] = "another"
    program.write(found, options)
    assert "ran with another model: reviews/0/zero-shot" in capsys.readouterr().out
    assert not options.results.exists()


def test_what_matters_most_comes_first_and_all_rows_last(load):
    program, cells = load("bundled_model"), load("cells")
    names = [
        "banking77/8/tuning", "amazon_polarity/all/tuning", "cr/64/tuning", "cr/8/tuning",
        "amazon_polarity/8/tuning", "amazon_polarity/0/zero-shot", "amazon_polarity/16/svm",
    ]  # fmt: skip
    made = [cells.Cell(name, name.split("/")[0], None, 1, 1) for name in names]
    order = [cell.name for cell in sorted(made, key=program._order)]
    assert order[:2] == ["amazon_polarity/0/zero-shot", "amazon_polarity/8/tuning"]
    assert order[-2:] == ["banking77/8/tuning", "amazon_polarity/all/tuning"]


@pytest.mark.parametrize(
    ("low", "high", "name"), [(0.1, 0.2, "win"), (-0.1, 0.2, "tie"), (-0.2, -0.1, "loss")]
)
def test_a_difference_is_a_win_only_where_its_interval_leaves_zero_out(load, low, high, name):
    assert load("bundled_model_tables").outcome({"low": low, "high": high}) == name


def test_a_task_of_unequal_labels_has_a_table_of_balanced_accuracy_too(load):
    means = {"accuracy": 0.7, "low": 0.6, "high": 0.8, "std": 0.1}
    cell = {"n_test": 100, "seeds": [0], "n_trained": 16, "epochs": 1, "fit_s": 1.0,
            "texts_per_s": 1.0, "settings": {"device": "cpu"}, **means}  # fmt: skip
    cell["balanced"] = means | {"accuracy": 0.25}
    record = {"cells": {"cr/8/tuning": cell, "emotion/8/tuning": cell | {"is_unequal": True}}}
    tables = load("bundled_model_tables").tabulate(record | {"differences": {}})
    shown = {table.title: table.rows for table in tables}
    assert "Balanced accuracy on cr" not in shown
    assert shown["Accuracy on emotion"][0][1].startswith("0.700")
    assert shown["Balanced accuracy on emotion"][0][1].startswith("0.250")


# The lessons


def test_skewed_draws_favour_one_label_and_forget_none(load):
    sampler = load("lessons_parts").SkewedSampler()
    texts, labels = [f"text {i}" for i in range(60)], list("abc") * 20
    favoured = set()
    for seed in range(8):
        drawn = [labels[i] for i in sampler.select(texts, labels, 8, random_state=seed)]
        counts = sorted(drawn.count(name) for name in "abc")
        assert counts == [1, 1, 6]
        favoured.add(max("abc", key=drawn.count))
    assert len(favoured) > 1


def test_recalibrated_prompting_answers_as_prompting_does(load, model_folder):
    texts, labels = [f"text {i}" for i in range(8)], ["negative", "positive"] * 4
    for calibration in ("auto", None, "batch"):
        plain = PromptClassifier(model_folder, n_shots=4, calibration=calibration, random_state=0)
        known = load("lessons_parts").RecalibratedPrompting(plain)
        expected = plain.fit(texts, labels).predict_log_proba(["one", "two"])
        known.fit(texts, labels)
        for _ in range(2):
            np.testing.assert_allclose(known.predict_log_proba(["one", "two"]), expected)


def test_average_of_noisy_seeds_spreads_less(load):
    averaging = load("averaging")
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=400)
    noise = rng.normal(size=(20, 400, 2)) + rng.normal(size=(20, 1, 2))
    matrix = noise + 2 * np.eye(2)[truth]
    one, five = (
        averaging.disjoint_scores(matrix, truth, size, np.ones(len(truth))) for size in (1, 5)
    )
    assert averaging.spread(five) < 0.6 * averaging.spread(one)
    assert five.mean() > one.mean() + 0.03
    assert averaging.spread(one) == pytest.approx(
        (matrix.argmax(axis=2) == truth).mean(axis=1).std(ddof=1), rel=0.3
    )


@pytest.mark.usefixtures("pyplot")
def test_lessons_measure_and_write_tables_and_a_picture(load, options, monkeypatch):
    program, tasks = load("lessons"), load("tasks")
    monkeypatch.setattr(program, "SHOTS", 4)
    found = program.select(
        program.cells_of(tasks.TASKS["reviews"], options),
        [
            "base/*/prompted", "balance/*/prompted-*", "calibration/*/prompted-few-*", "*/*/zero*",
            "peers/*/svm",
        ],
    )  # fmt: skip
    load("cells").run(found, options)
    program.write(found, options)
    written = {path.name for path in options.results.glob("*.md")}
    assert written == {f"lessons-{name}.md" for name in (*program._ORDER, "circumstances")}
    assert "| skewed rows | reviews |" in (options.results / "lessons-balance.md").read_text()
    assert "Not measured yet" in (options.results / "lessons-rank.md").read_text()
    record = json.loads((options.results / "lessons.json").read_text())
    assert record["averages"]["base/reviews/prompted"][0]["n_averaged"] == 2
    assert "balance/reviews/prompted-skewed" in record["differences"]
    assert set(record["over_peers"]) == {"prompted/peers/reviews/svm"}
    assert 0 < record["by_chance"]["base/reviews/prompted"] < 0.5
    page = (options.results / "lessons-peers.md").read_text()
    assert "| instructclf, prompting | " in page
    assert "| TF-IDF + LinearSVC | reviews | prompting | " in page
    assert options.picture.read_bytes().startswith(b"\x89PNG")


def test_probabilities_of_one_half_are_off_by_what_a_coin_is(load):
    """A mean of n coins is off by sqrt(1 / (2 pi n)) on average; sure answers never are."""
    by_chance = load("lessons_calibration").by_chance
    even, sure = np.full((1, 400, 2), 0.5), np.tile([1.0, 1e-300], (1, 400, 1))
    scores = {
        f"base/task/{name}": SimpleNamespace(log_probabilities=np.log(own))
        for name, own in {"even": even, "sure": sure}.items()
    }
    found = by_chance(SimpleNamespace(scores=scores))
    assert found["base/task/even"] == pytest.approx(np.sqrt(1 / (2 * np.pi * 400)), rel=0.5)
    assert found["base/task/sure"] == 0


def test_speed_without_the_shared_prefix_is_of_the_same_scores(load, options):
    cells, tasks = load("cells"), load("tasks")
    texts, labels = [f"thing {i}" for i in range(20)], ["negative", "positive"] * 10
    rows = tasks.Rows(tasks.check_split(texts, labels, texts[:4], labels[:4]), "")
    measure = partial(
        load("lessons_speed").measure_speed, tasks.TASKS["reviews"], model=options.model, n_texts=4
    )
    name = "speed/reviews/seconds"
    line = cells.run_one(cells.Cell(name, "reviews", None, 16, 1, measure=measure), rows, 0)
    for kind in ("tuned", "prompted"):
        assert line["timings"][kind]["fit_cpu_s"] > 0
        assert line["timings"][f"{kind}, whole prompts"]["largest_difference"] < 1e-3
    record = {"cells": {name: {"lines": [line]}}, "differences": {}, "averages": {}}
    (table,) = load("lessons_tables").tabulate(record)["speed"]
    assert [row[1] for row in table.rows][-1] == "prompting, no shared prefix"
