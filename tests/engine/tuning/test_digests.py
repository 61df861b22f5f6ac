"""Checksums of values: equal for equal ones, in every process, and no others."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from enum import Enum

import peft
import pytest
import torch

from instructclf.engine.tuning.adapters import LoraSettings, PeftSettings
from instructclf.engine.tuning.digests import digest


class Kind(Enum):
    ONE = "one"
    OTHER = "other"


@dataclass
class Pair:
    one: object
    other: object = None


@dataclass
class Other:
    one: object
    other: object = None


WEIGHT = torch.arange(6.0).reshape(2, 3)
DIFFERENT = [
    None,
    1,
    1.5,
    "1",
    "ü\ud800",
    [1],
    {"one": 1},
    {"one", "other"},
    Kind.ONE,
    Kind.OTHER,
    Pair(1),
    Pair(1, 2),
    Other(1),
    Pair(WEIGHT),
    Pair(WEIGHT.reshape(3, 2)),
    Pair(WEIGHT.double()),
    Pair(WEIGHT + torch.tensor([0.0, 0.0, 1e-6])),
    Pair(WEIGHT.bfloat16()),
    PeftSettings(peft.LoraConfig(r=4, target_modules=["a", "b"])),
    PeftSettings(peft.LoraConfig(r=4, target_modules=["a"])),
    PeftSettings(peft.IA3Config(target_modules=["a"], feedforward_modules=[])),
    LoraSettings(rank=4, alpha=8, dropout=0.0, target_modules=("a",)),
    LoraSettings(rank=4, alpha=8, dropout=0.1, target_modules=("a",)),
]


def test_different_values_have_different_checksums():
    assert len({digest(value) for value in DIFFERENT}) == len(DIFFERENT)


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (WEIGHT, WEIGHT.clone()),
        (WEIGHT.t(), WEIGHT.t().contiguous()),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ((1, 2), [1, 2]),
        (PeftSettings(peft.IA3Config()), PeftSettings(peft.IA3Config())),
    ],
    ids=["tensors", "layouts", "dicts", "sequences", "configurations"],
)
def test_equal_values_have_equal_checksums(one, same):
    assert digest(one) == digest(same)


def test_sets_have_the_same_checksum_in_another_process():
    """Texts are hashed with another salt in each process, which decides the order of a set."""
    names = sorted(f"layer_{number}" for number in range(20))
    code = f"from instructclf.engine.tuning.digests import digest; print(digest(set({names!r})))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == digest(set(names))
