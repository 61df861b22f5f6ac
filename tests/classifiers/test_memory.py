"""Memory that runs out, and memory that fits must release."""

from __future__ import annotations

import ctypes
import gc
import importlib
import logging
import multiprocessing
import sys
import weakref
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

import instructclf
from instructclf import (
    InstructionTunedClassifier,
    LoRA,
    ModelOptions,
    PromptClassifier,
    TrainingOptions,
)
from instructclf.engine.models.registry import get_base_model
from instructclf.exceptions import ScoringError
from tests.children import context
from tests.fixtures import LABELS, TEXTS, make_model, make_tokenizer

limits_memory = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="Only Linux limits an address space."
)
MEGABYTE = 2**20
LONG = [f"{text} " + "a rather long text " * 25 for text in TEXTS]
ONE_LONG = ["word " * 1900, "bad"]
OPTIONS = {
    "calibration": None,
    "random_state": 0,
    "model_options": ModelOptions(max_batch_tokens=100_000, max_length=2048),
}
TUNING = {
    "max_epochs": 1,
    "batch_size": 16,
    "adapter": LoRA(rank=2, target_modules=["q_proj"]),
    "class_weight": {"positive": 2.0},
}


def wide_model():
    """A model whose feed-forward layers need 16 KiB for each token and tensor."""
    return make_model(intermediate_size=4096, num_hidden_layers=2), make_tokenizer()


def limit_memory(n_bytes):
    resource = importlib.import_module("resource")  # Windows has none
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # otherwise freed memory would be reused
    now = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (now + n_bytes, resource.RLIM_INFINITY))


def run(job, texts, room, answer):
    """Run in a child: predict or tune with a limit on the bytes that the process may add."""
    torch.set_num_threads(1)
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("instructclf.engine.scoring.budgets").addHandler(handler)
    try:
        answer.send((job(texts, room), messages))
    except ScoringError as error:
        answer.send((str(error), messages))


def predict(texts, room):
    classifier = PromptClassifier(wide_model(), n_shots=2, **OPTIONS).fit(TEXTS, LABELS)
    classifier.predict_log_proba(TEXTS)
    if room is not None:
        limit_memory(room)
    return classifier.predict_log_proba(texts)


def tune(texts, room):
    labels = LABELS if len(texts) == len(LABELS) else ["positive", "negative"]
    classifier = InstructionTunedClassifier(wide_model(), **OPTIONS, **TUNING)
    classifier.fit(TEXTS, LABELS)
    if room is not None:
        limit_memory(room)
    return np.array(classifier.fit(texts, labels).loss_curve_)


def in_child(job, texts, room=None):
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=run, args=(job, texts, room, theirs))
    child.start()
    theirs.close()
    answer = ours.recv()
    child.join()
    return answer


@limits_memory
@pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")
@pytest.mark.parametrize(
    ("job", "room"), [(predict, 120 * MEGABYTE), (tune, 160 * MEGABYTE)], ids=["predict", "tune"]
)
def test_batches_are_halved_until_they_fit_in_memory(job, room):
    expected, no_messages = in_child(job, LONG)
    found, messages = in_child(job, LONG, room)
    assert no_messages == []
    assert messages
    assert all("Memory ran out: " in message for message in messages)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@limits_memory
@pytest.mark.parametrize("job", [predict, tune])
def test_too_little_memory_for_one_text_is_an_error_with_remedies(job):
    # Less than the 30 MB of one layer, and enough for small tensors and the libraries themselves.
    message, _ = in_child(job, ONE_LONG, 24 * MEGABYTE)
    assert "Memory ran out with a single text of" in message
    assert "Lower max_length, take a smaller model or dtype='bfloat16', or free memory" in message


def test_cleared_models_are_freed_unless_a_classifier_holds_them(make_prompting, fresh_folder):
    classifier = make_prompting().set_params(model=fresh_folder).fit(TEXTS, LABELS)
    expected = classifier.predict_log_proba(TEXTS)
    reference = weakref.ref(get_base_model(fresh_folder))
    instructclf.clear_models()
    np.testing.assert_array_equal(classifier.predict_log_proba(TEXTS), expected)
    instructclf.clear_models()
    gc.collect()
    assert reference() is not None  # the classifier holds it
    del classifier
    gc.collect()
    assert reference() is None


def measure():
    """Return how much memory and how many objects there are."""
    gc.collect()
    return psutil.Process().memory_info().rss, len(gc.get_objects())


def grow(model, answer):
    """Run in a fresh process: measure memory after 200 fits and after 200 more.

    The first hundred and more let the allocator find its size, which a leak would exceed. A forked
    process would count pages of its parent when it reads them.
    """
    torch.set_num_threads(1)
    before = measure()
    for number in range(400):
        if number == 200:
            before = measure()
        options = {
            "n_shots": 4,
            "max_epochs": 2,
            "training_options": TrainingOptions(target_loss=10),
        }
        classifier = InstructionTunedClassifier(model, random_state=number, **options)
        classifier.set_params(adapter__rank=4)
        classifier.fit(TEXTS, LABELS).predict(TEXTS[:2])
    answer.send((before, measure()))


@limits_memory
@pytest.mark.slow
def test_two_hundred_fits_keep_no_memory(model_folder, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # which the fresh process inherits
    fresh = multiprocessing.get_context("spawn")
    ours, theirs = fresh.Pipe(duplex=False)
    child = fresh.Process(target=grow, args=(model_folder, theirs))
    child.start()
    theirs.close()  # so that a child that fails is an error here
    (before, n_before), (after, n_after) = ours.recv()
    child.join()
    growth, n_new = after / before - 1, n_after - n_before
    message = "%.1f MiB before, %.1f MiB after 200 fits: %+.2f %%; %+d objects"
    sizes = before / MEGABYTE, after / MEGABYTE
    logging.getLogger(__name__).info(message, *sizes, 100 * growth, n_new)
    assert growth < 0.02
    assert n_new < 200  # not one for each fit
