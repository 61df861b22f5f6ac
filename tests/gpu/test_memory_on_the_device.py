"""Memory does not grow with the number of texts, and no text is lost when it runs out."""

from __future__ import annotations

import gc
import logging
import os
import resource
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from instructclf import (
    InstructionTunedClassifier,
    ModelOptions,
    PromptClassifier,
    TrainingOptions,
)
from instructclf.datasets import load_reviews
from instructclf.exceptions import ScoringError
from tests.gpu.devices import DEVICE, IS_CUDA, ON_DEVICE, ONLY_CUDA

pytestmark = ON_DEVICE

MIB = 2**20
REVIEWS = load_reviews("test")
MANY = [f"{text} ({i})" for i in range(8) for text in REVIEWS.texts]
"""3,600 texts, no two alike."""


def fit_prompting(max_batch_tokens):
    options = ModelOptions(device=DEVICE, dtype="float32", max_batch_tokens=max_batch_tokens)
    classifier = PromptClassifier(
        n_shots=4, calibration=None, model_options=options, random_state=0
    )
    return classifier.fit(REVIEWS.texts, REVIEWS.labels)


def extra_memory(call):
    """Return the most bytes that a call takes on the device, in addition to those in use."""
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@contextmanager
def no_more_than(n_bytes):
    """Limit the memory that this process can take in addition to what it has."""
    if IS_CUDA:
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(DEVICE).total_memory
        torch.cuda.set_per_process_memory_fraction(
            (torch.cuda.memory_reserved() + n_bytes) / total, torch.cuda.current_device()
        )
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, torch.cuda.current_device())
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(
        resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + n_bytes, before[1])
    )
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@ONLY_CUDA
def test_the_peak_does_not_grow_with_the_number_of_texts():
    classifier = fit_prompting(max_batch_tokens=4096)
    classifier.label_log_likelihood(MANY[:8])  # computes the prefix
    few, many = (
        extra_memory(lambda n=n: classifier.label_log_likelihood(MANY[:n])) for n in (400, 3600)
    )
    assert many <= 1.2 * few


@ONLY_CUDA
def test_the_peak_stays_within_the_budget():
    peaks = {}
    for budget in (1024, 8192):
        classifier = fit_prompting(max_batch_tokens=budget)
        classifier.label_log_likelihood(MANY[:8])
        peaks[budget] = extra_memory(lambda c=classifier: c.label_log_likelihood(MANY))
    config = classifier.open_model().base.config
    bytes_a_token = 4 * (16 * config.hidden_size + 4 * config.intermediate_size)
    for budget, peak in peaks.items():
        logits = 4 * 4 * config.vocab_size * (budget // 8)  # texts have more than 8 tokens
        assert peak <= budget * bytes_a_token + logits


@ONLY_CUDA
def test_tuning_takes_a_small_part_of_the_memory_of_full_logits():
    classifier = InstructionTunedClassifier(
        max_epochs=1,
        training_options=TrainingOptions(target_loss=100.0),
        model_options=ModelOptions(device=DEVICE, dtype="float32"),
        calibration=None,
    )
    classifier.fit(REVIEWS.texts[:16], REVIEWS.labels[:16])
    n_vocabulary = classifier.open_model().base.config.vocab_size
    peak = extra_memory(lambda: classifier.fit(REVIEWS.texts[:64], REVIEWS.labels[:64]))
    # Logits of eight prompts of 150 tokens, in float32, with their gradients.
    assert peak < 512 * MIB + 2 * 4 * n_vocabulary * 8 * 150


def test_a_batch_that_does_not_fit_is_halved_and_no_text_is_lost(caplog):
    some = MANY[:900]
    expected = fit_prompting(max_batch_tokens=2048).label_log_likelihood(some)
    classifier = fit_prompting(max_batch_tokens=10**6)
    classifier.label_log_likelihood(MANY[:2])
    with caplog.at_level(logging.WARNING, "instructclf"), no_more_than(256 * MIB):
        scores = classifier.label_log_likelihood(some)
    np.testing.assert_allclose(scores, expected, atol=1e-3)
    assert "Memory ran out" in caplog.text


@ONLY_CUDA  # a CPU's allocator has freed memory to give
def test_a_text_that_does_not_fit_alone_is_an_error_with_a_way_out():
    classifier = fit_prompting(max_batch_tokens=10**6)
    classifier.label_log_likelihood(MANY[:2])
    long = " ".join(REVIEWS.texts)[:12_000]
    with no_more_than(2 * MIB), pytest.raises(ScoringError, match="Lower max_length"):
        classifier.label_log_likelihood([long])
