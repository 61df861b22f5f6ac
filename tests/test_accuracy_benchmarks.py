"""The benchmarks of accuracy: results that are kept and not measured again, and their pages."""

import argparse
import gzip
import importlib
import json
import re
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
    "approaches", "averaging", "bag_of_words", "blending", "blending_ways", "bundled_model",
    "bundled_model_tables", "cell_scores", "cell_settings", "cells", "comparison_calibrations",
    "decisions", "label_order", "lessons", "lessons_calibration", "lessons_parts",
    "lessons_peers", "lessons_pictures", "lessons_speed", "lessons_tables", "measuring", "models",
    "peers", "peers.decision_models", "peers.few_shot", "peers.forwards", "raw_results",
    "real_models", "real_models_tables", "tables", "tasks", "wrappers",
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
    """The options of the command line, for a tiny model and no data except the reviews."""
    return argparse.Namespace(
        data=tmp_path / "none",
        model=str(model_folder),
        out=tmp_path / "runs.jsonl.gz",
        results=tmp_path / "results",
        pictures=tmp_path,
        checkpoints=tmp_path / "checkpoints",
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


def newest(cells, options, name, model=""):
    settings = importlib.import_module("cell_settings")
    return settings.newest(cells.RawResults(options.out).read(name), model)


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


def test_only_missing_seeds_are_measured(cells, options, capsys):
    cells.run([guessing(cells)], options)
    assert len(printed_runs(capsys)) == 2
    cells.run([guessing(cells, n_seeds=3)], options)
    assert [line.split(":")[0] for line in printed_runs(capsys)] == ["reviews/8/guess 2"]


@pytest.mark.parametrize(
    "change",
    [{"n_rows": 8}, {"sampler": "random"}, {"limit_test": 10}, {"strategy": "stratified"}],
    ids=["rows", "sampler", "test rows", "parameter"],
)
def test_other_settings_are_measured(cells, options, capsys, change):
    cells.run([guessing(cells)], options)
    capsys.readouterr()
    options.limit_test = change.pop("limit_test", options.limit_test)
    strategy = change.pop("strategy", "uniform")
    cell = guessing(cells, **change)
    cell.estimator.set_params(strategy=strategy)
    cells.run([cell], options)
    assert len(printed_runs(capsys)) == 2


def test_a_new_parameter_of_an_estimator_leaves_results_valid(cells, options, capsys):
    cells.run([guessing(cells)], options)
    raw = cells.RawResults(options.out)
    ((_, path),) = [("", path) for path in raw.folder.iterdir()]
    path.write_text(path.read_text().replace('"constant": "None", ', ""))
    capsys.readouterr()
    cells.run([guessing(cells)], options)
    assert printed_runs(capsys) == []


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_a_result_says_how_much_work_it_was(cells, load, options, n_seeds):
    rows = load("tasks").read_rows("reviews", options.data, 12)
    estimator = load("approaches").tuning(
        load("tasks").TASKS["reviews"], rows, options.model, max_epochs=1, n_seeds=n_seeds
    )
    result = cells.run_one(cells.Cell("reviews/8/tuning", "reviews", estimator, 4, 1), rows, 0)
    for seconds in ("load_cpu_s", "fit_cpu_s", "predict_cpu_s"):
        assert result[seconds] > 0
    assert result["cpu_s_per_text"] == pytest.approx(result["predict_cpu_s"] / 12)
    assert result["prompt_tokens"] > 20
    assert result["stopped_by"] == "max_epochs"
    (predictions,) = load("cell_scores").scores_of([result]).predictions
    balanced = balanced_accuracy_score(rows.split.y_test, predictions)
    assert result["balanced_accuracy"] == pytest.approx(balanced)


def test_a_library_that_is_not_installed_ends_a_cell_and_no_program(cells, options, capsys):
    def import_it(rows, seed):
        raise ModuleNotFoundError("No module named 'some_peer'")

    missing = cells.Cell("reviews/8/peer", "reviews", None, 16, 2, measure=import_it)
    cells.run([missing, guessing(cells)], options)
    printed = capsys.readouterr().out
    assert "reviews/8/peer: left out. No module named 'some_peer'" in printed
    assert "reviews/8/guess 1: " in printed


def test_cells_run_in_the_order_of_the_patterns(cells):
    made = [guessing(cells, name) for name in ("cr/8/a", "sst2/8/a", "sst2/16/a")]
    chosen = cells.select(made, ["sst2/16/*", "sst2/*", "cr/*"])
    assert [cell.name for cell in chosen] == ["sst2/16/a", "sst2/8/a", "cr/8/a"]


def test_a_model_file_is_known_by_its_content_and_not_by_its_name(load, tmp_path):
    names = [str(tmp_path / name) for name in ("one.gguf", "two.gguf", "three.gguf")]
    for name, content in zip(names, ("same", "same", "other"), strict=True):
        Path(name).write_text(content)
    one, two, three = map(load("cell_settings").model_digest, names)
    assert one == two != three


def test_a_model_with_other_weights_is_another_model(load, model_folder):
    settings = load("cell_settings")
    before = settings.model_digest(str(model_folder))
    settings._digests.clear()
    assert settings.model_digest(str(model_folder)) == before
    settings._digests.clear()
    with (model_folder / "config.json").open("a") as file:
        file.write(" ")
    assert settings.model_digest(str(model_folder)) != before


def test_plan_runs_nothing(cells, options, capsys):
    options.plan = True
    cells.run([guessing(cells)], options)
    assert "2 runs to do" in capsys.readouterr().out
    assert not any(options.out.parent.glob("runs*"))


def test_a_name_of_no_cell_ends_with_the_tasks_that_were_found(cells):
    with pytest.raises(SystemExit, match=r"called amazon/\*\. Tasks .* found: reviews\. --data"):
        cells.select([guessing(cells)], ["amazon/*"])


# Raw results


def test_a_result_that_was_cut_off_is_measured_again_and_spoils_no_other(cells, options):
    cells.run([guessing(cells)], options)
    (path,) = options.out.parent.glob("runs/*.jsonl")
    path.write_text(path.read_text()[:-40])
    cells.run([guessing(cells)], options)
    assert [r["seed"] for r in newest(cells, options, "reviews/8/guess")] == [0, 1]


def test_packing_moves_all_results_into_the_table(load, tmp_path):
    results = load("raw_results").RawResults(tmp_path / "some.jsonl.gz")
    before = {"b/1": [{"cell": "b/1", "seed": seed} for seed in (1, 0)], "a": [{"cell": "a"}]}
    for cell, of_cell in before.items():
        for result in of_cell:
            results.append(cell, result)
    assert results.pack() == 3
    assert [path.name for path in tmp_path.iterdir()] == ["some.jsonl.gz"]
    for again in (results, type(results)(results.table)):
        assert again.cells() == ["a", "b/1"]
        assert {cell: again.read(cell) for cell in before} == before


def test_packed_and_new_results_are_read_together(cells, options, capsys):
    cells.run([guessing(cells)], options)
    cells.RawResults(options.out).pack()
    capsys.readouterr()
    cells.run([guessing(cells, n_seeds=3)], options)
    assert [line.split(":")[0] for line in printed_runs(capsys)] == ["reviews/8/guess 2"]
    assert [r["seed"] for r in newest(cells, options, "reviews/8/guess")] == [0, 1, 2]


def test_results_of_another_machine_are_added_once(load, tmp_path):
    raw_results = load("raw_results")
    here, there = (raw_results.RawResults(tmp_path / f"{n}.jsonl.gz") for n in ("here", "there"))
    here.append("a", {"cell": "a", "seed": 0})
    for seed in (0, 1):
        there.append("a", {"cell": "a", "seed": seed})
    for _ in range(2):
        assert here.pack([there.folder]) == 2
    assert [result["seed"] for result in here.read("a")] == [0, 1]
    assert there.folder.exists()


def test_the_same_results_give_the_same_bytes(load, tmp_path):
    write_table = load("raw_results").write_table
    results = [{"cell": cell, "seed": seed} for cell in "ab" for seed in (0, 1)]
    for name, order in (("one", (0, 1, 2, 3)), ("two", (2, 0, 3, 1))):
        write_table(tmp_path / name, [results[i] for i in order])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_raw_results_in_the_repository_are_packed_in_order(load):
    raw_results = load("raw_results")
    tables = sorted(raw_results.RUNS.glob("*.jsonl.gz"))
    assert {"bundled_model.jsonl.gz", "lessons.jsonl.gz"} <= {table.name for table in tables}
    for table in tables:
        names = [result["cell"] for result in raw_results.read_table(table)]
        assert names == sorted(names)


# Scores


def test_scores_come_back_as_they_were(cells, options):
    rows = importlib.import_module("tasks").read_rows("reviews", options.data, 12)
    split = rows.split
    expected = compare(
        {"guess": DummyClassifier(strategy="uniform")}, split.X_train, split.y_train,
        split.X_test, split.y_test, n_shots=16, n_seeds=2,
    ).scores["guess"]  # fmt: skip
    cells.run([guessing(cells, keeps_probabilities=True)], options)
    scores_of = importlib.import_module("cell_scores").scores_of
    found = scores_of(newest(cells, options, "reviews/8/guess"))
    np.testing.assert_array_equal(found.predictions, expected.predictions)
    np.testing.assert_allclose(found.log_probabilities, expected.log_probabilities, rtol=1e-3)


def test_shots_that_do_not_fit_are_a_finding_and_no_end(cells, load, options, capsys):
    rows = load("tasks").read_rows("reviews", options.data, 12)
    estimator = load("approaches").prompting(
        load("tasks").TASKS["reviews"],
        rows,
        options.model,
        n_shots=16,
        model_options__max_length=40,
    )
    cells.run([cells.Cell("reviews/8/prompting", "reviews", estimator, 16, 1)], options)
    assert "PromptTooLongError" in capsys.readouterr().out
    model = load("cell_settings").model_digest(options.model)
    (result,) = newest(cells, options, "reviews/8/prompting", model)
    assert "PromptTooLongError" in result["failed"]


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
    scores = importlib.import_module("cell_scores").CellScores.read(found, options)
    balanced = {
        name: np.mean([balanced_accuracy_score(rows.split.y_test, p) for p in cell.predictions])
        for name, cell in scores.scores.items()
    }
    for name, cell in scores.scores.items():
        assert scores.figures(name)["accuracy"] == pytest.approx(cell.mean)
        assert scores.figures(name)["balanced"]["accuracy"] == pytest.approx(balanced[name])
    found = scores.difference(*scores.scores, "balanced_accuracy")["difference"]
    assert found == pytest.approx(balanced["reviews/8/guess"] - balanced["reviews/8/frequent"])


@pytest.mark.parametrize(
    ("counts", "is_unequal"),
    [((50, 50), False), ((50, 30), False), ((80, 40), True), ((4, 3, 2), True)],
)
def test_test_rows_are_unequal_where_one_label_is_far_more_frequent(load, counts, is_unequal):
    labels = np.repeat(np.arange(len(counts)), counts)
    assert load("cell_scores")._is_unequal(labels) is is_unequal


# Tasks


def test_label_names_become_words(load):
    assert load("tasks").natural_words("Refund_not showing up?") == "refund not showing up"


def test_a_draw_of_each_class_ends_where_a_class_ends(load):
    tasks = load("tasks")
    split = tasks.check_split(list("abbcde"), list("xxxyyy"), ["a"], ["x"])
    assert tasks.Rows(split, "").n_rows(2) == 4
    assert tasks.Rows(split, "").n_rows(8) == 5  # "b" is there twice


def test_a_task_in_one_file_never_tests_a_text_that_it_learns_from(load, tmp_path, monkeypatch):
    tasks = load("tasks")
    monkeypatch.setattr(tasks, "_N_DRAWN", 30)
    path = tmp_path / tasks.TASKS["sst5"].folder
    path.parent.mkdir(parents=True)
    lines = [json.dumps({"text": f"film {i % 80}", "label": "ab"[i % 2]}) for i in range(100)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert tasks.available(["sst5", "cr"], tmp_path) == ["sst5"]
    split = tasks.read_rows("sst5", tmp_path).split
    assert len(split.X_test) == 30
    assert len(split.X_train) > 40
    assert not {*split.X_train} & {*split.X_test}


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
    record = program.summarise(load("cell_scores").CellScores.read(found, options))
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


def test_suggested_rows_are_compared_with_random_ones(load, options, monkeypatch):
    program, task = load("suggested_rows"), load("tasks").TASKS["reviews"]
    monkeypatch.setattr(program, "N_OTHERS", 6)
    options.more = [4]
    found = list(program.cells_of(task, options))
    names = [f"reviews/{kind}/{way}" for kind in ("features", "tuning")
             for way in ("0/random", "4/random", "4/suggested")]  # fmt: skip
    assert [cell.name for cell in found] == names
    load("cells").run(found[:3], options)
    program.write(found, options)
    page = (options.results / "suggested_rows.md").read_text()
    assert "| reviews | features | 4 | 0." in page


def test_both_ways_begin_with_the_same_rows_and_choose_among_the_same(load, monkeypatch):
    program = load("suggested_rows")
    monkeypatch.setattr(program, "N_OTHERS", 6)
    X = [f"{word} {i}" for i in range(40) for word in ("good", "bad")]
    y = [text.split()[0] for text in X]
    drawn = {
        way: program.FurtherRows(way, DummyClassifier()).select(X, y, 22, random_state=3).tolist()
        for way in ("random", "suggested")
    }
    assert drawn["random"][:16] == drawn["suggested"][:16]
    assert set(drawn["random"]) == set(drawn["suggested"])
    assert len(set(drawn["random"])) == 22


def test_ways_of_combining_are_compared_on_what_was_measured(load, options, capsys):
    program, task = load("blending"), load("tasks").TASKS["reviews"]
    options.seeds = 1
    every = [cell for cell in program.cells_of(task, options) if "/8/" in cell.name]
    cells = [cell for cell in every if not cell.name.endswith("tuning")]
    load("cells").run(cells, options)
    program.write(every, options)
    assert "no results yet" in capsys.readouterr().out  # one approach has not been measured
    load("cells").run(every, options)
    program.write(every, options)
    assert "| reviews | 8 | 1 |" in next(options.results.glob("blending*.md")).read_text()


def test_blending_in_the_benchmark_is_that_of_the_classifier(load):
    program = load("blending_ways")
    rng = np.random.default_rng(0)
    codes = rng.integers(2, size=20)
    scores = [np.log(rng.dirichlet([1, 1], size=20)) for _ in range(2)]
    results = [
        {
            "codes": codes.tolist(),
            "truth": codes.tolist(),
            "held_out": program.encode(one),
            "tested": program.encode(one),
        }
        for one in scores
    ]
    said = program.Said.read(results)
    weights = program.find_weights(said.right())
    expected = sum(w * np.exp(one) for w, one in zip(weights, said.tested, strict=True))
    np.testing.assert_allclose(np.exp(program.WAYS["blend"](said)), expected)


def measured(load, options, n_classes, seed):
    """Return a raw result of blending, of probabilities that are those of the labels."""
    rng = np.random.default_rng(seed)
    said = rng.dirichlet(np.ones(n_classes), size=300)
    truth = [int(rng.choice(n_classes, p=row)) for row in said]
    return {
        "seed": seed,
        "settings": {"parameters": {}, "model": load("cell_settings").model_digest(options.model)},
        "truth": truth,
        "tested": load("blending_ways").encode(np.log(said)),
        "environment": load("measuring").environment(load("measuring").Settings()),
    }


def test_wrappers_are_judged_by_what_blending_has_measured(load, options, monkeypatch, capsys):
    program, raw = load("wrappers"), load("raw_results").RawResults(options.out)
    monkeypatch.setattr(program, "N_SPLITS", 20)
    program.write(["cr", "sst5"], options)
    assert "no results yet: run benchmarks/blending.py" in capsys.readouterr().out
    for seed in (0, 1):
        raw.append("cr/8/prompting", measured(load, options, 2, seed))
    raw.append("sst5/8/tuning", measured(load, options, 5, 0))
    program.write(["cr", "sst5"], options)
    page = next(options.results.glob("wrappers*.md")).read_text()
    for row in (r"cr, prompting \| 2 \| 2", r"sst5, tuning \| 5 \| 1"):
        assert re.search(rf"\| {row} \| 0\.\d+ \| 0\.(9|89)\d* \| met \|", page)
    assert "| cr, prompting | class_conditional | 0.9" in page
    most_probable, median = map(float, re.search(r"tuning \| 1 \| (\S+) \| (\S+) ", page).groups())
    assert median < most_probable


def test_cumulated_probabilities_are_those_of_a_slow_twin(load):
    program = load("wrappers")
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1, 1], size=20)
    found = program._cumulate(probabilities, np.random.default_rng(1), 0.1)
    for row, part, scores in zip(
        probabilities, np.random.default_rng(1).random(20), found, strict=True
    ):
        for label in range(4):
            before = [p for p in row if p > row[label]]
            expected = sum(before) + (1 - part) * row[label] + 0.1 * len(before)
            assert scores[label] == pytest.approx(expected)


def test_linear_classifiers_are_compared(load, options, capsys):
    program, task = load("bag_of_words"), load("tasks").TASKS["reviews"]
    cells = list(program.cells_of(task, options))
    assert len(cells) == 9
    program.write(cells, options)
    assert "no results yet" in capsys.readouterr().out
    load("cells").run([cell for cell in cells if "/8/" in cell.name], options)
    program.write(cells, options)
    page = (options.results / "bag_of_words.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("| reviews")]
    assert line.startswith("| reviews | 8 |")
    assert all(float(figure) >= 0 for figure in line.split("|")[3:-1])


def test_orders_of_labels_are_compared_on_the_same_rows(load, options, capsys):
    program, task = load("label_order"), load("tasks").TASKS["reviews"]
    options.seeds = 1
    cells = list(program.cells_of(task, options))
    names = [cell.name.removeprefix("reviews/") for cell in cells]
    assert names == [
        "0/one-prompt", "0/unordered", "0/cyclic-orders",
        "16/one-prompt", "16/unordered", "16/several-prompts", "16/cyclic-orders",
    ]  # fmt: skip
    program.write(cells, options)
    assert "no results yet" in capsys.readouterr().out
    load("cells").run([cells[0], cells[1], cells[6]], options)
    program.write(cells, options)
    page = next(options.results.glob("label_order*.md")).read_text()
    assert "| reviews | 0 | one prompt | 1 |" in page
    assert "| reviews | 0 | unordered | 1 | 0.000 | 0.000 |" in page
    assert "| reviews | 16 | cyclic orders | 1 |" in page


def test_decisions_are_read_by_all_ways_from_the_same_test_rows(load, options, capsys):
    program, task = load("decisions"), load("tasks").TASKS["reviews"]
    options.seeds = 1
    cells = {cell.name.removeprefix("reviews/"): cell for cell in program.cells_of(task, options)}
    assert list(cells) == list(program.WAYS)
    program.write(cells.values(), options)
    assert "no results yet" in capsys.readouterr().out
    load("cells").run([cells["zero-shot"], cells["cyclic"], cells["calibrated"]], options)
    program.write(cells.values(), options)
    page = next(options.results.glob("decisions*.md")).read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| reviews")]
    assert [row[1] for row in rows] == [
        program.WAYS[way] for way in ("zero-shot", "cyclic", "calibrated")
    ]
    results = [newest_of(load, options, f"reviews/{way}") for way in ("zero-shot", "cyclic")]
    assert results[0]["truth"] == results[1]["truth"]
    assert results[0]["n_flipped"] == len(results[0]["truth"]) == 12


def newest_of(load, options, name):
    """Return the only result of a cell."""
    (result,) = load("raw_results").RawResults(options.out).read(name)
    return result


class AnswersByPosition:
    """A fitted peer that finds the first option likeliest, whatever it is."""

    classes_, order = np.array(["a", "b"]), None

    def set_params(self, order):
        self.order = order
        return self

    def predict_proba(self, X):
        return np.full((len(X), 2), [0.75, 0.25] if self.order is None else [0.25, 0.75])

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def test_figures_of_decisions_are_those_of_answers_known_beforehand(load):
    truth = np.array(["a", "b", "b", "b"])
    found = load("decisions").judge(AnswersByPosition(), ["text"] * 4, truth, ["a", "b"], 0)
    assert found["accuracy"] == 0.25
    assert found["balanced_accuracy"] == 0.5
    assert found["calibration_error"] == pytest.approx(0.75 - 0.25)
    assert found["coverage"] == 0  # of equally confident answers, three in four are wrong
    assert found["flip_rate"] == found["flipped_texts"] == 1
    assert found["truth"] == [0, 1, 1, 1]


def test_options_in_another_order_give_columns_in_the_order_of_the_classes(load):
    peers = load("peers.decision_models")
    decider = peers.AnyJev("model", "Which?", {"b": "The second."}, {"c": "third"}, order=(2, 0, 1))
    decider.classes_ = np.array(["a", "b", "c"])
    assert decider.options() == {"third": None, "a": None, "b": "The second."}
    np.testing.assert_array_equal(decider.in_classes([[0.7, 0.2, 0.1]]), [[0.2, 0.1, 0.7]])
    decider.set_params(order=None)
    assert list(decider.options()) == ["a", "b", "third"]
    np.testing.assert_array_equal(decider.in_classes([[0.7, 0.2, 0.1]]), [[0.7, 0.2, 0.1]])


def test_other_orders_of_decisions_are_different_and_never_the_sorted_one(load):
    program = load("decisions")
    assert program.other_orders(2, 0) == [(1, 0)]
    drawn = program.other_orders(6, 0)
    assert len(set(drawn)) == program.N_ORDERS
    assert tuple(range(6)) not in drawn


def test_results_of_another_model_are_left_out_of_the_pages(load, options, capsys):
    program, cells = load("bundled_model"), load("cells")
    found = [
        c for c in program.cells_of(load("tasks").TASKS["reviews"], options) if "/0/" in c.name
    ]
    cells.run(found, options)
    load("cell_settings")._digests[options.model] = "another"
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
def test_a_difference_is_a_win_only_if_its_interval_excludes_zero(load, low, high, name):
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


# Real models


def test_settings_of_a_real_model_are_measured_and_compared(load, options, capsys):
    program, tables = load("real_models"), load("real_models_tables")
    options.seeds, options.parameters = 1, {"max_epochs": 1}
    found = load("cells").select(
        program.cells_of(load("tasks").TASKS["reviews"], options),
        ["reviews/8/tuning+*", "reviews/8/tuning-label+*", "reviews/8/svm", "*/zero-shot",
         "reviews/8/prompting-uncalibrated", "reviews/8/features", "*/8/prompting-other-rows"],
    )  # fmt: skip
    assert len(found) == 7
    load("cells").run(found, options)
    tables.write(options, ["reviews"], [])
    page = sections(options.results / "real_models-model.md")
    assert list(page) == [
        "headline",
        "chosen",
        "confirmed",
        "precisions",
        "details",
        "circumstances",
    ]
    assert "| tuning-label+max_epochs=1 | " in page["chosen"]
    assert "| 8 | tuning+max_epochs=1 | " in page["details"]
    assert "Not measured yet" in page["headline"]
    assert "these numbers mean nothing" in page["circumstances"]


def test_every_variant_is_one_that_its_classifier_can_be(load, options):
    """Each name is a cell, and no two cells of a task are the same."""
    program, tasks = load("real_models"), load("tasks")
    rows = tasks.read_rows("reviews", options.data, 12)
    made = list(program.cells_of(tasks.TASKS["reviews"], options))
    assert {cell.name.split("/")[2] for cell in made} == {*program.VARIANTS, *program.OTHERS}
    settings = [json.dumps(load("cell_settings").settings_of(cell, rows)) for cell in made]
    assert len(set(settings)) == len(made)


def test_gains_are_over_the_first_setting_on_common_seeds(load, options):
    tables, cells = load("real_models_tables"), load("cells")
    for name, strategy in (("tuning", "uniform"), ("tuning-label", "most_frequent")):
        estimator = DummyClassifier(strategy=strategy)
        cells.run([cells.Cell(f"reviews/8/{name}", "reviews", estimator, 16, 2)], options)
    scores = tables._read(options, ["reviews"], options.limit_test)
    (table,) = tables._comparisons(scores, ["reviews"], "some command")
    first, second = (scores.scores[f"reviews/8/{name}"] for name in ("tuning", "tuning-label"))
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["tuning"][1:] == ("", "")
    assert rows["tuning-label"][1:] == (f"{100 * (second.mean - first.mean):+.1f}", "1")
    assert "`some command`" in table.notes
    assert rows["tuning"][0] == f"{first.mean:.3f} ± {first.std:.3f} (2)"


def test_results_on_other_test_rows_are_in_no_table(load, options):
    tables, cells = load("real_models_tables"), load("cells")
    cells.run([guessing(cells)], options)
    assert tables._read(options, ["reviews"], options.limit_test).results
    assert not tables._read(options, ["reviews"], 10).results


def test_models_are_found_by_short_name_path_or_name_on_a_hub(load, model_folder):
    models = load("models")
    assert models.find_model(str(model_folder)) == str(model_folder.resolve())
    for name in ("bundled", "HuggingFaceTB/SmolLM2-135M-Instruct"):
        assert models.find_model(name) == name
    assert models.page_name("lessons", "bundled") == "lessons"
    assert models.page_name("lessons", "folder/some.Q4.gguf") == "lessons-some.Q4"


def test_a_parameter_that_no_classifier_has_ends_the_program(load):
    approaches = load("approaches")
    given = approaches.parse_parameters(["model_options__dtype=bfloat16", "max_epochs=3"])
    assert given == {"model_options__dtype": "bfloat16", "max_epochs": 3}
    assert list(approaches.chosen_for(PromptClassifier, given)) == ["model_options__dtype"]
    with pytest.raises(SystemExit, match=r"max_epoch=3: no classifier has a parameter 'max_epoch'"):
        approaches.parse_parameters(["max_epoch=3"])


# The lessons


def test_skewed_draws_favour_one_label_and_have_every_label(load):
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
    for calibration in ("auto", None, load("comparison_calibrations").BatchCalibrator()):
        ordinary = PromptClassifier(
            model_folder, n_shots=4, calibration=calibration, random_state=0
        )
        recalibrated = load("lessons_parts").RecalibratedPrompting(ordinary)
        expected = ordinary.fit(texts, labels).predict_log_proba(["one", "two"])
        recalibrated.fit(texts, labels)
        for _ in range(2):
            found = recalibrated.predict_log_proba(["one", "two"])
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


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


def sections(path):
    """Return the sections of a page, by the names under which other pages include them."""
    pattern = r"<!-- --8<-- \[start:(\S+)\] -->\n(.*?)<!-- --8<-- \[end:\1\] -->"
    return dict(re.findall(pattern, path.read_text(), flags=re.DOTALL))


@pytest.mark.usefixtures("pyplot")
def test_lessons_measure_and_write_a_page_and_a_picture(load, options, tmp_path, monkeypatch):
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
    page = sections(options.results / "lessons-model.md")
    assert list(page) == [*program.LESSONS, "circumstances"]
    assert "| skewed rows | reviews |" in page["balance"]
    assert "Not measured yet" in page["rank"]
    assert "| instructclf, prompting | " in page["peers"]
    assert "| TF-IDF + LinearSVC | reviews | prompting | " in page["peers"]
    scores = load("cell_scores").CellScores.read(found, options)
    record = program.summarise(scores)
    assert record["averages"]["base/reviews/prompted"][0]["n_averaged"] == 2
    assert "balance/reviews/prompted-skewed" in record["differences"]
    assert set(program.over_peers(scores)) == {"prompted/peers/reviews/svm"}
    assert 0 < program.by_chance(scores)["base/reviews/prompted"] < 0.5
    assert (tmp_path / "lessons-model.png").read_bytes().startswith(b"\x89PNG")


def test_probabilities_of_one_half_are_off_by_what_a_coin_is(load):
    """A mean of n coins is off by sqrt(1 / (2 pi n)) on average; sure answers never are."""
    by_chance = load("lessons_calibration").by_chance
    even, sure = np.full((1, 400, 2), 0.5), np.tile([1.0, 1e-300], (1, 400, 1))
    scores = {
        f"base/task/{name}": SimpleNamespace(log_probabilities=np.log(probabilities))
        for name, probabilities in {"even": even, "sure": sure}.items()
    }
    found = by_chance(SimpleNamespace(scores=scores))
    assert found["base/task/even"] == pytest.approx(np.sqrt(1 / (2 * np.pi * 400)), rel=0.5)
    assert found["base/task/sure"] == 0


def test_full_prompts_are_timed_on_the_same_scores(load, options):
    cells, tasks = load("cells"), load("tasks")
    texts, labels = [f"thing {i}" for i in range(20)], ["negative", "positive"] * 10
    rows = tasks.Rows(tasks.check_split(texts, labels, texts[:4], labels[:4]), "")
    approaches, task = load("approaches"), tasks.TASKS["reviews"]
    make = [
        partial(approach, task, rows, options.model, model_options__dtype="float64")
        for approach in (approaches.tuning, approaches.prompting)
    ]
    measure = partial(load("lessons_speed").measure_speed, *make, n_texts=4)
    name = "speed/reviews/seconds"
    result = cells.run_one(cells.Cell(name, "reviews", None, 16, 1, measure=measure), rows, 0)
    for kind in ("tuned", "prompted"):
        assert result["timings"][kind]["fit_cpu_s"] > 0
        assert result["timings"][f"{kind}, full prompts"]["largest_difference"] < 1e-5
    record = {"cells": {name: {"results": [result]}}, "differences": {}, "averages": {}}
    (table,) = load("lessons_tables").tabulate(record)["speed"]
    assert [row[1] for row in table.rows][-1] == "prompting, no shared prefix"
