"""Threads that share a base model never see each other's adapter, prompt or half-loaded weights."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from instructclf import InstructionTunedClassifier, LoRA, PromptClassifier
from instructclf.engine.models.registry import clear_base_models, get_base_model
from instructclf.engine.tokens.tokenising import WholeStringTokeniser
from tests.fixtures import LABELS, TEXTS, make_chat_tokenizer, make_model

# Random weights learn little in the few steps that these tests take.
pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

ROOT = Path(__file__).parents[2]
N_THREADS = 8
N_TIMES = 2
TUNING = {"learning_rate": 0.01, "max_epochs": 3, "batch_size": 2}
SMALL = LoRA(rank=4)


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory):
    """A model whose tokenizer has a chat template."""
    folder = tmp_path_factory.mktemp("models") / "tiny-chat"
    tokenizer = make_chat_tokenizer()
    make_model(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", autouse=True)
def _switching_often():
    """Switch threads every few instructions, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(*calls):
    """Start all calls at the same moment, each in a thread, and return their results."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def repeatedly(call):
    return lambda: [call() for _ in range(N_TIMES)]


def make_readers(folder):
    """Return eight classifiers on one base model that differ in template, words and adapter."""
    shots = {"n_shots": 4, "random_state": 0}
    return [
        PromptClassifier(folder, **shots),
        PromptClassifier(folder, template="chat", **shots),
        PromptClassifier(folder, n_shots=0, label_definitions={"negative": "b", "positive": "g"}),
        PromptClassifier(folder, verbalizer={"negative": "very bad", "positive": "very good"}),
        InstructionTunedClassifier(folder, adapter=SMALL, **TUNING, random_state=1),
        InstructionTunedClassifier(folder, template="chat", **TUNING, random_state=2),
        InstructionTunedClassifier(folder, adapter=LoRA(n_layers=1), **TUNING, random_state=3),
        InstructionTunedClassifier(folder, n_seeds=2, adapter=SMALL, **TUNING, random_state=4),
    ]


@pytest.mark.parametrize("dropout", [0.0, 0.3], ids=["without dropout", "with dropout"])
def test_eight_predicting_and_two_fitting_threads_answer_as_they_do_alone(chat_folder, dropout):
    readers = [reader.fit(TEXTS, LABELS) for reader in make_readers(chat_folder)]
    learners = [
        InstructionTunedClassifier(
            chat_folder, **TUNING, adapter=LoRA(rank=4, dropout=dropout), random_state=seed
        )
        for seed in (5, 6)
    ]

    def learn(learner):
        return lambda: learner.fit(TEXTS, LABELS).predict_proba(TEXTS)

    expected = [reader.predict_proba(TEXTS) for reader in readers]
    learned = [learn(learner)() for learner in learners]
    # Each makes its view and tries its shortcuts while the others run.
    readers = [pickle.loads(pickle.dumps(reader)) for reader in readers]
    found = at_once(
        *(repeatedly(lambda reader=reader: reader.predict_proba(TEXTS)) for reader in readers),
        *(repeatedly(learn(learner)) for learner in learners),
    )
    for alone, together in zip([*expected, *learned], found, strict=True):
        for one in together:
            np.testing.assert_allclose(one, alone, rtol=0, atol=1e-6)


def test_many_threads_may_use_one_classifier_from_the_first_text_on(make_classifier):
    classifier = make_classifier().fit(TEXTS, LABELS)
    expected = classifier.predict_proba(TEXTS)
    for _ in range(5):
        fresh = pickle.loads(pickle.dumps(classifier))
        found = at_once(*[lambda fresh=fresh: fresh.predict_proba(TEXTS)] * N_THREADS)
        for one in found:
            np.testing.assert_allclose(one, expected, rtol=0, atol=1e-6)


def test_a_fit_is_the_same_while_another_thread_loads_models(model_folder, tmp_path):
    """Loading replaces the functions that initialise weights, and the default data type."""
    folders = [str(shutil.copytree(model_folder, tmp_path / str(number))) for number in range(8)]
    classifier = InstructionTunedClassifier(model_folder, **{**TUNING, "max_epochs": 1})

    def fit():
        fits = (classifier.set_params(random_state=seed).fit(TEXTS, LABELS) for seed in range(8))
        return [{name: w.clone() for name, w in fitted.adapter_.items()} for fitted in fits]

    def load():
        return [get_base_model(folder, dtype="float64") for folder in folders]

    expected = fit()
    _, found = at_once(load, fit)
    clear_base_models()
    for alone, together in zip(expected, found, strict=True):
        assert alone.keys() == together.keys()
        for name, weight in alone.items():
            assert weight.dtype == together[name].dtype
            np.testing.assert_allclose(together[name], weight, rtol=0, atol=1e-6)


def test_threads_that_read_special_tokens_do_not_affect_those_that_do_not():
    tokenizer = make_chat_tokenizer()
    text = "a text with <|im_start|> inside"
    reading, ignoring = (WholeStringTokeniser(tokenizer, frame) for frame in (text, "no marker"))
    (marker,) = tokenizer.convert_tokens_to_ids(["<|im_start|>"])

    def encode(tokenise):
        return lambda: {marker in ids for _ in range(300) for ids in tokenise([text])}

    found = at_once(*[encode(reading), encode(ignoring)] * 4)
    assert found == [{True}, {False}] * 4


HELD = """
import os, threading
from instructclf.engine.running.locks import process_state
held, done = threading.Event(), threading.Event()

def hold():
    with process_state:
        held.set()
        done.wait()

threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if child == 0:
    with process_state, process_state:
        os._exit(7)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
done.set()
print(code)
"""
USED = """
import ctypes, os, sys, torch
torch.set_num_threads(2)
from instructclf import InstructionTunedClassifier, PromptClassifier, PromptFeatures
from tests.fixtures import LABELS, TEXTS
prompting = PromptClassifier(sys.argv[1], n_shots=4, random_state=0).fit(TEXTS, LABELS)
tuning = InstructionTunedClassifier(sys.argv[1], max_epochs=1, random_state=0).fit(TEXTS, LABELS)
features = PromptFeatures(sys.argv[1], labels=["a", "b"]).fit(TEXTS)

def compute():
    probabilities = [one.predict_proba(TEXTS) for one in (prompting, tuning)]
    return [*probabilities, features.transform(TEXTS)]

before = compute()
child = eval(sys.argv[2])()
if child == 0:
    differences = [abs(one - other).max() for one, other in zip(compute(), before)]
    tuning.fit(TEXTS, LABELS)
    os._exit(7 if max(differences) < 1e-6 else 8)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), torch.get_num_threads())
"""


def run_program(program, *arguments):
    """Run a program that forks, with as many threads as it likes; return what it prints."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return ended.stdout.strip()


can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="This system cannot fork.")


@can_fork
def test_a_lock_that_another_thread_held_is_open_in_a_forked_child():
    assert run_program(HELD) == "7"


@can_fork
@pytest.mark.parametrize("fork", ["os.fork", "ctypes.PyDLL(None).fork"], ids=["Python", "C"])
def test_a_child_of_a_process_that_has_computed_with_threads_computes_too(fork, model_folder):
    """Servers that are written in C fork without the hooks of Python."""
    assert run_program(USED, model_folder, fork) == "7 2"
