"""The recipe of the bundled model: raw data to a folder that classifies, in one command."""

import gzip
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from instructclf import PromptClassifier

ROOT = Path(__file__).parents[1]
GOOD = ["great", "lovely", "fine", "superb", "charming", "bright"]
BAD = ["awful", "dull", "broken", "poor", "dreary", "weak"]
FILLERS = [
    "the",
    "film",
    "book",
    "it",
    "was",
    "a",
    "story",
    "and",
    "of",
    "with",
    "this",
    "seems",
    "one",
]
STARS = ("very negative", "negative", "neutral", "positive", "very positive")
TOPICS = ("Plant", "Film", "Village")
INTENTS = ("pay_bill", "book_flight", "set_alarm")


def sentence(rng, words, n_words=14):
    chosen = [str(rng.choice(FILLERS if rng.random() < 0.6 else words)) for _ in range(n_words)]
    return " ".join(chosen).capitalize() + "."


def labelled(rng, labels, n_rows=700):
    rows = []
    for i in range(n_rows):
        label = labels[i % len(labels)]
        mood = BAD if "neg" in label else GOOD if "pos" in label else FILLERS
        rows.append({"text": f"{sentence(rng, mood)} {label.replace('_', ' ')}", "label": label})
    return rows


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder of the shape of the raw data, small and made up."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    kinds = {"imdb": ("neg", "pos"), "mr": ("negative", "positive"), "sst5": STARS}
    kinds |= {"yelp5": STARS, "clinc150": INTENTS, "dbpedia14": TOPICS}
    for name, labels in kinds.items():
        write(folder / "labelled" / f"{name}.jsonl.gz", labelled(rng, labels))
    texts = [
        {"source": source, "text": " ".join(sentence(rng, mood) for _ in range(3))}
        for source in ("imdb_unsup", "fdu_unlabelled_tokenised", "tinystories_1000")
        for mood in (GOOD, BAD) * 20
    ]
    long = sentence(rng, GOOD, 8_000)
    texts += [{"source": source, "text": long} for source in ("novels100", "wikitext2")]
    write(folder / "text.jsonl.gz", texts)
    prompts = [
        {"template": "xsum_tldr", "prompt": sentence(rng, GOOD), "completion": "good"}
        for _ in range(24)
    ]
    write(folder / "instructions.jsonl.gz", prompts)
    return folder


@pytest.fixture
def load(monkeypatch):
    """Return a function that imports a module of the recipe."""
    monkeypatch.syspath_prepend(ROOT)
    return lambda name: importlib.import_module(f"tools.bundled_model.{name}")


def take_step(*arguments):
    command = [sys.executable, "-m", "tools.bundled_model", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def build(data, work, *options):
    sizes = ["--layers", "1", "--width", "64", "--hidden", "64"]
    sizes += ["--workers", "1", "--micros", "1", "--micro-tokens", "512"]
    folders = ["--data", data, "--work", work, "--out", work / "model"]
    return take_step("build", *folders, *sizes, *options).stderr


@pytest.fixture(scope="module")
def built(data, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    return work, build(data, work, "--tokens", "20e3")


def test_one_command_makes_a_model_that_the_package_loads(built):
    work, _ = built
    texts = ["It was a great film.", "It was a broken film."]
    model = PromptClassifier(str(work / "model"), n_shots=0, calibration=None)
    chances = model.fit(texts, ["positive", "negative"]).predict_proba(texts)
    assert np.allclose(chances.sum(axis=1), 1)


def test_a_model_is_checked_on_rows_that_were_kept_out(built, tmp_path):
    work, _ = built
    texts = {"negative": "It was a broken film.", "positive": "It was a great film."}
    write(tmp_path / "kept.jsonl.gz", [{"text": t, "label": label} for label, t in texts.items()])
    rows = tmp_path / "kept.jsonl.gz"
    done = take_step("check", "--work", work, "--model", work / "model", "--rows", rows)
    assert "kept.jsonl.gz 2 rows, accuracy" in done.stdout


def test_held_out_reviews_are_cut_and_labelled(load, data, tmp_path):
    load("check").write_held_out(data, tmp_path)
    load("check").write_apart(data, data / "labelled" / "clinc150.jsonl.gz", tmp_path)
    names = {path.name.partition(".")[0] for path in tmp_path.iterdir()}
    assert names == {"yelp5", "imdb", "mr", "sst5", "apart"}
    with gzip.open(tmp_path / "imdb.jsonl.gz", "rt", encoding="utf-8") as lines:
        labels = [json.loads(line)["label"] for line in lines]
    assert len(labels) == 500
    assert set(labels) == {"negative", "positive"}


def test_texts_that_share_a_run_of_words_with_an_evaluation_file_are_counted(load, data):
    found = load("sources").count_overlaps(data, [data / "labelled" / "imdb.jsonl.gz"])
    assert found["imdb"] == {"rows": 700, "labelled/imdb.jsonl.gz": 700}
    assert found["novels100"]["labelled/imdb.jsonl.gz"] == 0


def test_a_second_command_goes_on_where_the_first_ended(built, data):
    work, first = built
    log = build(data, work, "--tokens", "40e3")
    assert "resumed at" in log
    assert "ids of unlabelled text" in first
    assert "ids of unlabelled text" not in log


def test_a_run_starts_from_the_weights_of_a_finished_model(built, data):
    work, first = built
    log = build(data, work, "--tokens", "1e3", "--name", "again", "--begin", str(work / "model"))
    assert "resumed" not in log
    assert "linear model of tokens" not in log
    assert "linear model of tokens" in first


def test_the_weights_of_a_model_survive_the_way_there_and_back(load):
    models = load("model")
    shape = models.Shape(vocabulary=50, width=64, layers=2, hidden=32)
    state = models.Decoder(shape).state_dict()
    back = models.from_llama(models.to_llama(state, shape), shape)
    assert set(state) - set(back) == {"probe"}
    assert all(torch.equal(weight, state[name]) for name, weight in back.items())


def test_the_teachers_judgement_up_to_a_word_is_that_of_the_text_up_to_there(load, monkeypatch):
    teachers = load("teacher")
    rng = np.random.default_rng(0)
    texts = [sentence(rng, mood) for mood in (GOOD, BAD) * 60]
    teacher = teachers.Teacher()
    teacher.fit(texts, [1, 0] * 60, texts[:20])
    monkeypatch.setattr(teachers, "DAMPING", 0.0)
    text = "It was a great, great film! And one DULL book."
    ends, chances = teacher.running(text)
    assert [text[:end].rsplit(maxsplit=1)[-1] for end in ends[:4]] == ["It", "was", "a", "great"]
    for end, chance in zip(ends, chances, strict=True):
        (whole,) = teacher.positive([text[:end]])
        assert np.isnan(chance) or np.isclose(chance, whole)


def test_words_indicate_a_feeling_unless_it_is_negated_or_two_are_named(load):
    concepts = load("concepts")
    expected = {
        "She was furious at what they had done to her house.": "anger",
        "In the morning he felt so very lonely in the great town.": "loneliness",
        "She was not furious at what they had done to her house.": None,
        "She was furious and lonely in the great town all day.": None,
        "The furious wind blew over the great town all day.": None,
    }
    windows = [text for text in expected for _ in range(concepts.FEWEST)]
    found = concepts.find({"novels100": windows}, [], np.random.default_rng(0))
    answers = {}
    for entry, pool in zip(found.entries["feeling"], found.pools["feeling"], strict=True):
        answers.update(dict.fromkeys((found.windows[i] for i in pool), entry.names[0]))
    assert answers == {text: label for text, label in expected.items() if label}


def test_the_beginning_of_a_question_indicates_its_kind(load):
    concepts = load("concepts")
    questions = [
        f"{start} {i} of them?" for start in ("Who met", "How many saw") for i in range(70)
    ]
    found = concepts.find({}, questions, np.random.default_rng(0))
    kinds = {
        entry.names[0]: pool
        for entry, pool in zip(found.entries["question"], found.pools["question"], strict=True)
    }
    assert set(kinds) == {"person", "number"}
    assert all(found.windows[i].startswith("Who met") for i in kinds["person"])
    assert all(found.windows[i].startswith("How many") for i in kinds["number"])


def test_a_concept_is_words_that_occur_together_and_texts_with_two_of_them(load):
    concepts = load("concepts")
    rng = np.random.default_rng(0)
    starts = [f"{first}{second}" for first in "bdfgklmnprst" for second in "hlnry"]
    themes = [[f"{s}{x}{y}" for x in "aeiou" for y in ("nt", "rm", "st")] for s in starts]
    windows = [" ".join(rng.choice(themes[i % 60], 8, replace=False)) for i in range(24_000)]
    found = concepts.find({"novels100": windows}, [], rng)
    entries, pools = found.entries["concept"], found.pools["concept"]
    assert len(entries) > 100
    for entry, pool in zip(entries, pools, strict=True):
        assert len({word[:2] for word in entry.words}) == 1
        assert all(len(entry.words & set(found.windows[i].split())) >= 2 for i in pool)


def test_a_model_that_grew_computes_the_same(load):
    models = load("model")
    small = models.Shape(vocabulary=50, width=64, layers=3, hidden=32)
    large = models.Shape(vocabulary=50, width=64, layers=5, hidden=32)
    before, after = models.Decoder(small), models.Decoder(large)
    after.load_state_dict(models.grow(before.state_dict(), after.state_dict(), 3, 5))
    ids = torch.randint(50, (2, 20))
    assert all(torch.equal(a, b) for a, b in zip(before(ids), after(ids), strict=True))


def keep(folder, models, state, shape):
    """Write the parts of a finished model that averaging reads."""
    folder.mkdir()
    sizes = {"vocab_size": "vocabulary", "hidden_size": "width", "intermediate_size": "hidden"}
    sizes |= {"num_hidden_layers": "layers", "max_position_embeddings": "context"}
    config = {theirs: getattr(shape, ours) for theirs, ours in sizes.items()}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    found = {name: weights.half() for name, weights in models.to_llama(state, shape).items()}
    save_file(found, folder / "model.safetensors")
    return folder


def test_a_mean_of_models_is_that_of_their_weights_and_shallower_ones_grow(load, tmp_path):
    models = load("model")
    small = models.Shape(vocabulary=50, width=64, layers=1, hidden=32)
    large = models.Shape(vocabulary=50, width=64, layers=2, hidden=32)
    deep, shallow = models.Decoder(large).state_dict(), models.Decoder(small).state_dict()
    first = keep(tmp_path / "deep", models, deep, large)
    second = keep(tmp_path / "shallow", models, shallow, small)
    load("finished").average([(first, 0.75), (second, 0.25)], tmp_path / "mean")
    grown = models.grow(shallow, deep, 1, 2)
    expected = models.to_llama({n: 0.75 * deep[n] + 0.25 * grown[n] for n in grown}, large)
    found = load_file(tmp_path / "mean" / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, weights in found.items():
        torch.testing.assert_close(weights.float(), expected[name], atol=1e-3, rtol=1e-3)


def test_a_mean_whose_shares_do_not_add_up_to_one_is_refused(load, tmp_path):
    with pytest.raises(ValueError, match=r"add up to 0\.9"):
        load("finished").average([(tmp_path, 0.5), (tmp_path, 0.4)], tmp_path)
