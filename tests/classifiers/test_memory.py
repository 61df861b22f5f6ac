"""Memory that really runs out, and memory that fits must not keep."""

from __future__ import annotations

import ctypes
import gc
import importlib
import logging
import multiprocessing
import sys
import weakref

import numpy as np
import psutil
import pytest
import torch

import instructclf
from instructclf import InstructionTunedClassifier, PromptClassifier
from instructclf.engine.models.registry import get_base_model
from instructclf.exceptions import ScoringError
from tests.children import context
from tests.fixtures import LABELS, TEXTS, make_model, make_tokenizer

limits_memory = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="Only Linux limits an address space."
)
MEGABYTE = 2**20
LONG = [f"{text} " + "a rather long text " * 25 for text in TEXTS]
ONE_LONG = ["word " * 1500, "bad"]
OPTIONS = {
    "max_batch_tokens": 100_000,
    "calibration": None,
    "random_state": 0,
    "max_length": 2048,
}
TUNING = {
    "max_epochs": 1,
    "train_batch_size": 16,
    "lora_rank": 2,
    "target_modules": ["q_proj"],
    "class_weight": {"positive": 2.0},
}


def wide_model():
    """A model whose feed-forward layers need 16 KiB for each token and tensor."""
    return make_model(intermediate_size=4096, num_hidden_layers=2), make_tokenizer()


def limit_memory(n_bytes):
    resource = importlib.import_module("resource")  # Windows has none
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed meanwhile would be used again
    now = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (now + n_bytes, resource.RLIM_INFINITY))


def run(job, texts, room, answer):
    """Run in a child: predict or tune with so many bytes more than the process has taken."""
    torch.set_num_threads(1)
    said = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("instructclf.engine.scoring.budgets").addHandler(handler)
    try:
        answer.send((job(texts, room), said))
    except ScoringError as error:
        answer.send((str(error), said))


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
    ("job", "room"), [(predict, 50 * MEGABYTE), (tune, 100 * MEGABYTE)], ids=["predict", "tune"]
)
def test_where_memory_runs_out_batches_are_halved_until_they_fit(job, room):
    expected, nothing = in_child(job, LONG)
    found, said = in_child(job, LONG, room)
    assert nothing == []
    assert said
    assert all("Memory ran out: going on with" in message for message in said)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@limits_memory
@pytest.mark.parametrize("job", [predict, tune])
def test_memory_too_small_for_one_text_is_an_error_that_says_what_to_change(job):
    message, _ = in_child(job, ONE_LONG, 4 * MEGABYTE)
    assert "Memory ran out with a single text of" in message
    assert "Lower max_length, take a smaller model or dtype='bfloat16', or free memory" in message


def test_models_that_nobody_holds_are_freed_when_they_are_cleared(make_prompting, fresh_folder):
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
    """Run in a fresh process: fit 200 times after 200, and say what there was before and after.

    The first hundred and more let the allocator find its size, which a leak would go beyond.

    A forked one would count pages of its parent as its own when it reads them.
    """
    torch.set_num_threads(1)
    before = measure()
    for number in range(400):
        if number == 200:
            before = measure()
        options = {"n_shots": 4, "max_epochs": 2, "lora_rank": 4, "target_loss": 10.0}
        classifier = InstructionTunedClassifier(model, random_state=number, **options)
        classifier.fit(TEXTS, LABELS).predict(TEXTS[:2])
    answer.send((before, measure()))


@limits_memory
@pytest.mark.slow
def test_two_hundred_fits_keep_no_memory(model_folder):
    fresh = multiprocessing.get_context("spawn")
    ours, theirs = fresh.Pipe(duplex=False)
    child = fresh.Process(target=grow, args=(model_folder, theirs))
    child.start()
    (before, n_before), (after, n_after) = ours.recv()
    child.join()
    growth, n_new = after / before - 1, n_after - n_before
    message = "%.1f MiB before, %.1f MiB after 200 fits: %+.2f %%; %+d objects"
    sizes = before / MEGABYTE, after / MEGABYTE
    logging.getLogger(__name__).info(message, *sizes, 100 * growth, n_new)
    assert growth < 0.02
    assert n_new < 200  # not one for each fit
