"""Classifiers are pushed to a hub, a server on this machine, and loaded from it over HTTP.

Everything runs in a separate process, since huggingface_hub reads its address once.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType
from huggingface_hub import ModelCard
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from instructclf import PromptClassifier, load
from instructclf.exceptions import SavedClassifierError
from tests.fixtures import LABELS, TEXTS, make_model, make_tokenizer
from tests.gguf_writer import write_gguf
from tests.hub_server import MAIN, TOKEN, running_hub

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

PROGRAM = """
import json, os, shutil, sys
import numpy as np
import instructclf
from instructclf import (
    BagOfWordsClassifier, BlendedClassifier, InstructionTunedClassifier, LoRA, OrdinalClassifier,
    PromptClassifier, SelectiveClassifier, load,
)
from instructclf.exceptions import InstructClfError

folder, texts, labels = json.loads(sys.argv[1])
found = {}

def error_of(name, call):
    try:
        call()
    except InstructClfError as error:
        found[name] = f"{type(error).__name__}: {error}"

def same(one, other):
    return bool((one.predict_proba(texts) == other.predict_proba(texts)).all())

options = {"learning_rate": 0.01, "max_epochs": 1, "random_state": 0, "n_shots": 4}
options["adapter"] = LoRA(rank=2)
tuned = InstructionTunedClassifier(folder, n_seeds=2, **options).fit(texts, labels)
error_of("local base", lambda: tuned.push_to_hub("me/reviews"))
found["url"] = tuned.push_to_hub(
    "me/reviews", base_model="them/tiny", scores={"accuracy": 0.5}, private=True
)
loaded = load("me/reviews")
found["model"] = loaded.model
found["tuned is the same"] = same(loaded, tuned)

one = InstructionTunedClassifier("them/tiny", **options).fit(texts, labels)
one.push_to_hub("me/reviews", commit_message="One seed")
found["replaced is the same"] = same(load("me/reviews"), one)

prompted = PromptClassifier("them/tiny", n_shots=4, random_state=0).fit(texts, labels)
prompted.push_to_hub("me/reviews", revision="prompted")
found["branch is the same"] = same(load("me/reviews", revision="prompted"), prompted)
found["main has stayed"] = same(load("me/reviews"), one)

prompting = PromptClassifier(folder, n_shots=4, random_state=0)
two = [("prompting", prompting), ("words", BagOfWordsClassifier())]
blend = BlendedClassifier(two, cv=2, random_state=0).fit(texts, labels)
error_of("local base in a blend", lambda: blend.push_to_hub("me/blend"))
blend.push_to_hub("me/blend", base_model="them/tiny", scores={"accuracy": 0.5})
found["blend is the same"] = same(load("me/blend"), blend)
scores = {"negative": 1, "positive": 2}
selective = SelectiveClassifier(
    OrdinalClassifier(prompting, scores=scores), risk=0.9, confidence=0.5, random_state=0
).fit(texts, labels)
selective.push_to_hub("me/selective", base_model="them/tiny")
loaded = load("me/selective")
found["selective is the same"] = same(loaded, selective)
found["selective answers the same"] = (
    loaded.predict(texts).tolist() == selective.predict(texts).tolist()
)
found["model of selective"] = loaded.estimator_.estimator_.model
moved = load("me/selective", estimator__estimator__model=folder)
found["selective on the local model is the same"] = same(moved, selective)
mixed = [("here", prompting), ("there", PromptClassifier("them/tiny", n_shots=2, random_state=0))]
mixed = BlendedClassifier(mixed, cv=2, random_state=0).fit(texts, labels)
mixed.push_to_hub("me/blend", base_model="them/tiny", revision="mixed")
found["mixed is the same"] = same(load("me/blend", revision="mixed"), mixed)
shutil.copytree(folder, "copy")
local = [("one", prompting), ("other", PromptClassifier("copy", n_shots=2, random_state=0))]
local = BlendedClassifier(local, cv=2, random_state=0).fit(texts, labels)
error_of("two local bases", lambda: local.push_to_hub("me/blend", base_model="them/tiny"))

on_adapter = PromptClassifier("me/reviews", n_shots=0).fit(texts, labels)
expected = one.label_log_likelihood(texts)
found["adapter on the hub"] = float(abs(on_adapter.label_log_likelihood(texts) - expected).max())

pinned = PromptClassifier("them/tiny@old", n_shots=4, random_state=0).fit(texts, labels)
found["old weights differ"] = not same(pinned, prompted)
pinned.save("pinned")
found["pinned is the same"] = same(load("pinned"), pinned)
found["card of pinned"] = open("pinned/README.md").read()
error_of("no revision", lambda: PromptClassifier("them/tiny@nowhere").fit(texts, labels))
error_of("taken", lambda: prompted.push_to_hub("them/tiny"))
error_of("no classifier", lambda: load("them/tiny"))
error_of("unknown", lambda: load("me/nothing"))
error_of("no branch", lambda: load("me/reviews", revision="nowhere"))
error_of("no name", lambda: prompted.push_to_hub("me/a/b"))
error_of("old weights", lambda: PromptClassifier("them/pickled").fit(texts, labels))

for name in ("them/adapter", "them/adapter@second"):
    adapted = PromptClassifier(name, n_shots=4, random_state=0).fit(texts, labels)
    found[name] = float(abs(adapted.predict_proba(texts) - pinned.predict_proba(texts)).max())
error_of("no file", lambda: PromptClassifier("them/tiny/none.gguf").fit(texts, labels))
here, there = (
    PromptClassifier(f"{place}/tiny-00001-of-00002.gguf", n_shots=4, random_state=0)
    for place in ("split", "them/split")
)
found["parts are the same"] = same(there.fit(texts, labels), here.fit(texts, labels))
error_of("no part", lambda: PromptClassifier("them/half/tiny-00001-of-00002.gguf").open_model())
error_of("no local file", lambda: PromptClassifier("secret/good.gguf").fit(texts, labels))
error_of("no saved file", lambda: load("secret/saved.json"))
os.environ["HF_TOKEN"] = "hf_of_somebody_else"
error_of("not mine", lambda: prompted.push_to_hub("me/other"))
print(json.dumps(found))
"""


def adapters_on(base, revision, model_folder, home):
    """Return adapters without an effect, and the configuration that a trainer left with one."""
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model_folder),
        LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]),
    )
    model.peft_config["default"].base_model_name_or_path = base
    model.peft_config["default"].revision = revision
    model.save_pretrained(str(home / "adapter"), save_embedding_layers=False)
    files = {
        path.name: path.read_bytes()
        for path in (home / "adapter").iterdir()
        if path.suffix in {".json", ".safetensors"}
    }
    config = (Path(model_folder) / "config.json").read_bytes()
    return {MAIN: files, "second": {**files, "config.json": config}}


def write_parts(folder):
    """Write a model in two GGUF files, and return their contents by name."""
    folder.mkdir()
    model, kind = make_model(intermediate_size=64), GGMLQuantizationType.F32
    write_gguf(folder / "tiny.gguf", model, make_tokenizer(), kind, split_max_tensors=12)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def story(model_folder, tmp_path_factory):
    """Return the hub after the program has run, the program's findings, and its cache."""
    home = tmp_path_factory.mktemp("home")
    with running_hub() as hub:
        weights = {path.name: path.read_bytes() for path in Path(model_folder).iterdir()}
        older = make_model()
        with torch.no_grad():
            older.get_input_embeddings().weight.mul_(2)
        older.save_pretrained(home / "older")
        old = weights | {"model.safetensors": (home / "older" / "model.safetensors").read_bytes()}
        now = {**weights, "tiny.py": b"raise SystemExit"}
        hub.files["them/tiny"] = {MAIN: now, "old": old}
        pickled = {"adapter_config.json": b"{}", "adapter_model.bin": b""}
        hub.files["them/pickled"] = {MAIN: pickled}
        hub.files["them/adapter"] = adapters_on("them/tiny", "old", model_folder, home)
        parts = write_parts(home / "split")
        hub.files["them/split"] = {MAIN: parts}
        hub.files["them/half"] = {MAIN: dict([*parts.items()][:1])}
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": TOKEN,
            "NO_PROXY": "127.0.0.1",
        }
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps([model_folder, TEXTS, LABELS])],
            env=environment,
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    assert ended.returncode == 0, ended.stderr
    return hub, json.loads(ended.stdout.splitlines()[-1]), home


def test_a_pushed_classifier_predicts_the_same_to_the_last_bit(story):
    _, found, _ = story
    assert found["tuned is the same"]
    assert found["replaced is the same"]
    assert found["branch is the same"]


def test_the_base_model_has_its_public_name(story, model_folder):
    hub, found, _ = story
    assert found["model"] == "them/tiny"
    for files in hub.files["me/reviews"].values():
        for content in files.values():
            assert model_folder.encode() not in content


def test_a_pushed_blend_or_wrapper_predicts_the_same_to_the_last_bit(story):
    _, found, _ = story
    assert found["blend is the same"]
    assert found["selective is the same"]
    assert found["selective answers the same"]


def test_the_base_model_inside_a_blend_or_wrapper_has_its_public_name(story, model_folder):
    hub, found, _ = story
    assert found["model of selective"] == "them/tiny"
    assert found["mixed is the same"]
    for repo in ("me/blend", "me/selective"):
        for files in hub.files[repo].values():
            assert not any(model_folder.encode() in content for content in files.values())
    assert 'load("me/blend")' in hub.files["me/blend"][MAIN]["README.md"].decode()
    assert hub.messages[3:] == [
        "Add BlendedClassifier",
        "Add SelectiveClassifier",
        "Add BlendedClassifier",
    ]


def test_a_base_model_inside_can_be_replaced_while_loading_from_the_hub(story):
    _, found, _ = story
    assert found["selective on the local model is the same"]


def test_one_name_for_two_base_models_is_an_error(story, model_folder):
    _, found, _ = story
    assert found["two local bases"].startswith(
        "SavedClassifierError: base_model='them/tiny' names one base model, and this classifier "
        f"has several: {model_folder!r}, 'copy'. Give each its own hub id as 'model'"
    )


def test_a_local_base_model_is_an_error_with_a_remedy(story, model_folder):
    _, found, _ = story
    assert found["local base"].startswith(
        f"SavedClassifierError: 'model' is {model_folder!r}, on this machine, where nobody else"
    )
    assert "push_to_hub(..., base_model='owner/name')" in found["local base"]
    assert found["local base in a blend"] == found["local base"]


def test_a_branch_leaves_the_main_branch_unchanged(story):
    hub, found, _ = story
    assert found["main has stayed"]
    assert set(hub.files["me/reviews"]) == {MAIN, "prompted"}
    assert "adapter_model.safetensors" in hub.files["me/reviews"][MAIN]


def test_pushing_again_replaces_all_data_in_one_commit(story):
    hub, _, _ = story
    assert set(hub.files["me/reviews"][MAIN]) == {
        ".gitattributes",
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "classifier.json",
    }
    assert hub.messages[:3] == [
        "Add InstructionTunedClassifier",
        "One seed",
        "Add PromptClassifier",
    ]


def test_the_repository_is_private_on_request(story):
    hub, found, _ = story
    assert hub.visibility["me/reviews"] == "private"
    assert found["url"].startswith(f"{hub.address}/me/reviews/commit/")


def test_the_hub_accepts_the_card(story):
    hub, _, _ = story
    several_adapters, one_adapter, no_adapter, *without_prompt = hub.cards
    assert one_adapter == {
        "library_name": "peft",
        "base_model": "them/tiny",
        "pipeline_tag": "text-classification",
        "tags": ["instructclf", "lora"],
    }
    assert len(without_prompt) == 3
    for card in (several_adapters, no_adapter, *without_prompt):  # PEFT finds none at the top
        assert card == {**one_adapter, "library_name": "instructclf", "tags": ["instructclf"]}
    card = hub.files["me/reviews"]["prompted"]["README.md"].decode()
    assert 'instructclf.load("me/reviews")' in card
    assert ModelCard(card).data.base_model == "them/tiny"


def test_an_adapter_is_put_on_the_revision_of_its_model_that_it_states(story):
    _, found, _ = story
    assert found["old weights differ"]
    assert found["them/adapter"] < 1e-5


def test_an_adapter_of_a_branch_may_lie_next_to_a_configuration(story):
    _, found, _ = story
    assert found["them/adapter@second"] < 1e-5


def test_a_file_that_a_repository_does_not_have_is_an_error(story):
    _, found, _ = story
    match = "ModelLoadingError: The repository 'them/tiny' has no file 'none.gguf'"
    assert found["no file"].startswith(match)


def test_all_parts_of_a_model_are_fetched(story):
    _, found, _ = story
    assert found["parts are the same"]
    match = "ModelLoadingError: The repository 'them/half' has no file 'tiny-00002-of-00002.gguf'"
    assert found["no part"].startswith(match)


def test_names_of_files_are_never_told_to_the_hub(story):
    hub, found, _ = story
    assert found["no local file"].startswith("ModelLoadingError: There is no file 'secret/good")
    assert found["no saved file"].startswith("SavedClassifierError: There is no saved classifier")
    assert any("them/tiny" in request for request in hub.requests)
    assert not any("secret" in request for request in hub.requests)


UNREACHABLE = """
import logging, time
time.sleep = lambda seconds: None
from instructclf import PromptClassifier
from instructclf.exceptions import ModelLoadingError

retries = []
handler = logging.Handler()
handler.emit = lambda record: retries.append(record.getMessage())
logging.getLogger("huggingface_hub").addHandler(handler)
for name in ("me/none", "me/none@v1", "me/none/file.gguf", "none"):
    retries.clear()
    try:
        PromptClassifier(name).fit(["a", "b"], ["c", "d"])
    except ModelLoadingError as error:
        print(sum("Retry 1/" in message for message in retries), error)
"""


def test_a_hub_that_cannot_be_reached_is_asked_in_one_round_of_retries(tmp_path):
    environment = {
        **os.environ,
        "HF_ENDPOINT": "http://127.0.0.1:9",  # where nobody answers
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1",
    }
    ended = subprocess.run(
        [sys.executable, "-c", UNREACHABLE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    lines = ended.stdout.splitlines()
    assert len(lines) == 4, ended.stderr
    for line in lines:
        assert re.match(r"1 The model '.*none.*' could not be loaded.*connect", line)


def test_no_executable_file_is_fetched(story):
    _, _, home = story
    endings = {path.suffix for path in home.rglob("snapshots/*/*") if path.is_file()}
    assert ".safetensors" in endings
    assert endings <= {".json", ".safetensors", ".jinja", ".gguf"}


def test_access_tokens_are_written_to_no_file(story):
    hub, _, _ = story
    for branches in hub.files.values():
        for files in branches.values():
            assert not any(TOKEN.encode() in content for content in files.values())


def test_an_adapter_on_the_hub_is_a_base_model(story):
    _, found, _ = story
    assert found["adapter on the hub"] < 1e-5


def test_a_base_model_is_taken_from_the_revision_in_its_name(story):
    _, found, _ = story
    assert found["old weights differ"]
    assert found["pinned is the same"]
    assert 'base_model: "them/tiny"' in found["card of pinned"]
    assert "`them/tiny@old`" in found["card of pinned"]
    assert "The model 'them/tiny@nowhere' could not be loaded" in found["no revision"]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("taken", "'them/tiny' holds something else, such as 'config.json': there is no 'classifi"),
        (
            "no classifier",
            "The repository 'them/tiny' holds no saved classifier: it has no classif",
        ),
        ("unknown", "There is no folder 'me/nothing' here, and the repository of this name could"),
        ("no branch", "'me/reviews' here, and the repository of this name could not be fetched"),
        ("no name", "The classifier could not be pushed to 'me/a/b': "),
        ("not mine", "The classifier could not be pushed to 'me/other': "),
        ("old weights", "has no safetensors weights"),
    ],
)
def test_errors_are_one_line_with_a_remedy(case, message, story):
    _, found, _ = story
    assert message in found[case]
    assert "\n" not in found[case]


def test_errors_of_the_connection_say_how_to_log_in(story):
    _, found, _ = story
    for case in ("unknown", "no branch", "not mine"):
        assert "log in with `hf auth login` or set HF_TOKEN" in found[case]


# Without a connection


def test_a_repository_that_was_never_fetched_is_an_error_offline():
    match = (
        r"There is no folder 'me/reviews' here, and .* could not be fetched from the hub: .*HF_TO"
    )
    with pytest.raises(SavedClassifierError, match=match):
        load("me/reviews")


def test_pushing_is_an_error_offline(make_prompting):
    classifier = make_prompting().fit(TEXTS, LABELS)
    with pytest.raises(SavedClassifierError, match=r"could not be pushed to 'me/x': .*offline"):
        classifier.push_to_hub("me/x", base_model="them/tiny")


def test_the_bundled_model_is_not_mistaken_for_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundled").mkdir()
    classifier = PromptClassifier(n_shots=2, random_state=0, calibration=None).fit(TEXTS, LABELS)
    with pytest.raises(SavedClassifierError, match="could not be pushed to 'me/x'"):
        classifier.push_to_hub("me/x")


def test_a_folder_takes_precedence_over_a_repository(make_prompting, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_prompting().fit(TEXTS, LABELS).save("me/reviews")
    assert load("me/reviews").classes_.tolist() == ["negative", "positive"]
    with pytest.raises(SavedClassifierError, match="revision='main' is one of a repository on the"):
        load("me/reviews", revision="main")


def test_a_pair_of_objects_cannot_be_pushed(model, tokenizer):
    classifier = PromptClassifier((model, tokenizer), n_shots=2).fit(TEXTS, LABELS)
    with pytest.raises(SavedClassifierError, match="give that folder as 'model'"):
        classifier.push_to_hub("me/x")
