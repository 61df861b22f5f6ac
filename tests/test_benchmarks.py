"""How the benchmarks measure, and that hand-written peers give our scores."""

import importlib
import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from instructclf import PromptClassifier

FOLDER = Path(__file__).parents[1] / "benchmarks"
MODULES = (
    "engines_tables", "int8", "measuring", "models", "peers", "peers.forwards", "processes", "run",
    "tables",
)  # fmt: skip
LABELS = ("negative", "positive", "somewhat negative", "very negative", "very positive")
STAGES = """
import json, numpy, processes
stages = processes.Stages()
stages.end("before")
numpy.ones(2**24).sum()  # 128 MiB, freed at once
stages.end("large")
stages.end("nothing")
print(json.dumps(stages.found["large"]), json.dumps(stages.found["nothing"]), sep="\\n")
"""
TEXTS = ["I like it", "A long text that goes on for a while", "", "No."]


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
def tables(load):
    return load("tables")


@pytest.fixture
def measuring(load):
    return load("measuring")


# Tables


def test_table_becomes_markdown_with_notes_below_it(tables):
    table = tables.Table("Speed", ["who", "s"], [["ours", "1"], ["theirs", "20"]], ["A note."])
    assert tables.markdown(table) == (
        "**Speed**\n\n| who | s |\n| --- | ---: |\n| ours | 1 |\n| theirs | 20 |\n\nA note.\n"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "—"), (0, "0"), (0.0000123, "0.0000123"), (1.2345, "1.23"), (14.26, "14.3"),
     (1234.5, "1,234"), (100_000, "100,000")],
)  # fmt: skip
def test_number_keeps_three_digits(tables, value, text):
    assert tables.number(value) == text


@pytest.mark.parametrize(("value", "verdict"), [(15, "met"), (14.9, "missed"), (None, "measured")])
def test_target_says_whether_it_was_met(tables, value, verdict):
    assert tables.at_least(value, 15).replace("*", "").endswith(verdict)


def test_upper_target_is_missed_from_above(tables):
    assert "missed" in tables.at_most(1.3, 1.25)
    assert tables.at_most(1.25, 1.25).endswith(", met")


def test_page_is_made_from_the_record_on_disk(tables, measuring, tmp_path):
    settings = measuring.Settings(toy=True)
    tables.save_record({"environment": measuring.environment(settings)}, "name", tmp_path)
    text = tables.page(tables.load_record("name", tmp_path), [])
    assert "these numbers mean nothing" in text
    assert "torch" in text


def test_page_without_a_record_names_the_command(load, monkeypatch, tmp_path):
    program = load("run")
    monkeypatch.setitem(program.BENCHMARKS, "cost", "tables")  # any module: nothing is tabulated
    program.run("cost", load("measuring").Settings(out=tmp_path), only_tables=True)
    text = (tmp_path / "cost.md").read_text()
    assert "Not measured yet" in text
    assert "`python benchmarks/run.py cost`" in text


# Measuring


def test_a_page_names_all_processors_that_were_in_use(tables):
    common = {"packages": {}, "toy": False, "cores": 2, "threads": 1, "rounds": 1, "python": "3"}
    first = {"date": "2026-01-01", "processor": "an old one", **common}
    last = {"date": "2026-02-01", "processor": "a new one", **common}
    said = tables.circumstances(tables.last_environment([last, first, last]))
    assert "on 2026-02-01, a new one, 2 cores" in said
    assert "Other results are from an old one: seconds" in said
    assert "Other" not in tables.circumstances(tables.last_environment([last, last]))


def test_environment_does_not_name_the_machine(measuring):
    written = json.dumps(measuring.environment(measuring.Settings()))
    assert platform.node() not in written
    assert str(Path.home()) not in written


def test_each_round_begins_with_another_variant(measuring):
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    timings = measuring.interleave(calls, rounds=2)
    assert "".join(order) == "abcbca"
    assert [len(values) for values in timings.values()] == [2, 2, 2]


def test_median_is_of_each_clock_and_divided(measuring):
    timings = [measuring.Timing(cpu, wall) for cpu, wall in ((1, 30), (2, 10), (9, 20))]
    assert measuring.median(timings, per=2) == measuring.Timing(1, 10)


def test_peak_memory_counts_memory_that_was_freed_again(measuring):
    with measuring.peak_memory() as used:
        np.ones(16 * measuring.MIB).sum()  # 128 MiB
    if not used.is_reset:
        pytest.skip("the mark cannot be set back here")
    assert 120 < used.extra < 256


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is mapped from files")
def test_stages_have_a_peak_of_their_own():
    """In a process of its own: where much was freed before, memory is not given back at once."""
    run = subprocess.run(
        [sys.executable, "-c", STAGES], cwd=FOLDER, capture_output=True, text=True, check=True
    )
    large, nothing = map(json.loads, run.stdout.splitlines())
    assert large["peak_mib"] - large["resident_mib"] > 100
    assert nothing["peak_mib"] - nothing["resident_mib"] < 50
    assert large["anonymous_mib"] < large["resident_mib"]


def test_tokens_that_go_through_a_model_are_counted_with_their_padding(measuring, model):
    with measuring.embedded_tokens() as counts:
        model(input_ids=torch.ones(3, 5, dtype=torch.long))
    assert counts == [15]


def test_a_new_process_answers(measuring):
    assert measuring.run_fresh("tables:number", value=1234.5) == "1,234"


def test_a_process_that_fails_says_why(measuring):
    with pytest.raises(RuntimeError, match="there_is_none"):
        measuring.run_fresh("tables:there_is_none")


# Comparison with other engines


def stage(seconds, peak=500.0):
    return {"cpu_s": seconds, "peak_mib": peak, "resident_mib": 400.0, "anonymous_mib": 300.0}


def engine(scores, **seconds):
    stages = {name: stage(value) for name, value in seconds.items()}
    return [{"scores": scores, "stages": stages}]


def test_an_engine_is_compared_by_time_a_text_and_by_changed_scores(load):
    ours = {"load": 1, "fit": 2, "first text": 3, "texts": 4}
    kinds = {
        "float32": engine([[-1, -2], [-3, -2]], **ours),
        "bfloat16": engine([[-1, -2.5], [-3, -2]], **ours | {"texts": 2}),
        "llama.cpp, bfloat16": engine(
            [[-1, -2], [-1, -2]], load=1, **{"first text": 5, "texts": 6}
        ),
    }
    case = {"model": "smollm2", "kinds": kinds, "tokens": {"prefix": 1860, "text": 112}}
    record = {"cases": [case], "batch": 512, "flash": False}
    times = load("tables").times
    exact, half, theirs = load("engines_tables").tabulate_times(record).rows
    assert exact[3:9] == ["3", "2", times(2), "", "", ""]
    assert half[3:9] == ["4", "1", times(1), "0.500", "0.125", "0"]
    assert theirs[3:9] == ["2", "3", times(3), "2.000", "0.500", "1"]
    assert theirs[9:] == ["500", "400"]


def test_int8_is_worth_it_only_if_an_engine_is_faster_at_its_best_number_of_tokens(load):
    program = load("int8")
    assert set(program.measure({(8, 16): 2}, n_tokens=4, rounds=1)) >= {"float32", "bfloat16"}
    common = {"model": "gemma3", "operations": 1e9}
    bare = {"float32": 9, "int8, bare": 0.1}
    slow = {"bfloat16": 2, "int8, x86": 3, **bare}
    fast = {"bfloat16": 8, "int8, x86": 2, **bare}
    cases = [
        {**common, "n_tokens": 512, "seconds": slow},
        {**common, "n_tokens": 1024, "seconds": slow},
    ]
    (note,) = program.tabulate({"cases": cases}).notes
    assert "0.667\N{MULTIPLICATION SIGN} on gemma3" in note
    assert "**not**" in note
    cases[1]["seconds"] = fast  # half the seconds of int8 a token, and no change of bfloat16's best
    (note,) = program.tabulate({"cases": cases}).notes
    assert "2\N{MULTIPLICATION SIGN} on gemma3" in note
    assert "**not**" not in note


# Peers


def test_tree_of_labels_reads_every_token_once_a_label(load):
    tree = load("peers.forwards").Tree.of([[1], [2, 3], [2, 4, 5]])
    assert tree.paths == [(), (2,), (2, 4)]
    assert tree.reads == [(0, 0, 1), (1, 0, 2), (1, 1, 3), (2, 0, 2), (2, 1, 4), (2, 2, 5)]


@pytest.fixture
def task(load, model, tokenizer):
    """The same requests for ours and for peers: five labels after two shots."""
    shots = [f"thing {i}" for i in range(5)]
    classifier = PromptClassifier((model, tokenizer), n_shots=5, calibration=None, random_state=0)
    classifier.fit(shots, list(LABELS))
    prompts = load("peers.forwards").Task(model, tokenizer, LABELS, classifier.get_prompt)
    return prompts, classifier.label_log_likelihood(TEXTS)


def test_single_forwards_give_our_scores(load, task):
    prompts, expected = task
    forwards = load("peers.forwards")
    np.testing.assert_allclose(forwards.one_by_one(prompts, TEXTS), expected, atol=1e-4)
    np.testing.assert_allclose(forwards.one_by_one(prompts, TEXTS, keep=True), expected, atol=1e-4)


def test_padded_batches_give_our_scores(load, task):
    prompts, expected = task
    scores = load("peers.forwards").padded(prompts, TEXTS, batch=3)
    np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.mark.parametrize("how", ["copied", "expanded"])
@pytest.mark.parametrize("grouped", [False, True], ids=["repeated", "grouped"])
def test_prefix_caches_give_our_scores(load, task, how, grouped):
    prompts, expected = task
    forwards = load("peers.forwards")
    prefix = forwards.Prefix(prompts, TEXTS)
    scores = forwards.prefix_cache(prompts, TEXTS, batch=3, how=how, prefix=prefix, grouped=grouped)
    np.testing.assert_allclose(scores, expected, atol=1e-4)


# Arithmetic


def test_arithmetic_multiplies_every_weight_once_a_token(load, model):
    shape = load("models").Arithmetic.of(model)
    weights = [p for name, p in model.named_parameters() if "_proj" in name]
    n_weights = sum(weight.numel() for weight in weights)
    one, two = (shape.forward(n, before=0, outputs=0) for n in (1, 2))
    attention = 4 * shape.layers * shape.heads * shape.width
    assert one == 2 * n_weights + attention
    assert two == 4 * n_weights + 3 * attention  # the second token sees the first
