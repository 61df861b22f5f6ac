"""Equal values have one fingerprint, in every process; different values have different ones."""

from __future__ import annotations

import functools
import os
import random
import re
import subprocess
import sys
from collections import namedtuple
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, PredefinedSplit, RepeatedKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from instructclf.prompts import PromptTemplate
from instructclf.sampling import KMeansSampler
from instructclf.storage import fingerprint


class Words:
    """A tokenizer with a setting."""

    def __init__(self, mark):
        self.mark = mark

    def split(self, text):
        return text.split(self.mark)


class Slotted:
    """Keeps its value outside its ``__dict__``."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


@dataclass(frozen=True)
class Settings:
    size: int
    names: list = field(default_factory=list)

    @cached_property
    def total(self):
        return self.size + len(self.names)


@dataclass(frozen=True)
class OtherSettings(Settings):
    """Differs by its name alone."""


class Kind(Enum):
    ONE = 1
    TWO = 2


Pair = namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, "1"),
        (0.0, -0.0),
        ([1, 2], (1, 2)),
        (Pair(1, 2), (1, 2)),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        ([["a"], "b"], [["a", "b"]]),
        (b"a", "a"),
        ({"a"}, frozenset("a")),
        ({"a", "b"}, {"a", "c"}),
        (np.array([1, 2]), np.array([1.0, 2.0])),
        (np.array([1, 2]), np.array([[1], [2]])),
        (np.array(1), np.array([1])),
        (np.array(["a", "b"], dtype=object), np.array(["a", "c"], dtype=object)),
        (np.array(["a", "b"], dtype="T"), np.array(["a", "c"], dtype="T")),
        (np.float32(1), np.float64(1)),
        (torch.ones(2), torch.zeros(2)),
        (torch.ones(2), torch.ones(2, 1)),
        (torch.ones(2), torch.ones(2, dtype=torch.float64)),
        (torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.float16)),
        (torch.float16, torch.bfloat16),
        (Settings(1), Settings(2)),
        (Settings(1), OtherSettings(1)),
        (Kind.ONE, Kind.TWO),
        (Slotted(1), Slotted(2)),
        (Words(" "), Words("-")),
        (Words(" ").split, Words("-").split),
        (len, sum),
        (np.log, np.exp),
        (np.mean, np.median),
        ({"a": 1}.get, {"a": 2}.get),
        ("a".__add__, "b".__add__),
        (re.compile("a"), re.compile("a", re.IGNORECASE)),
        (re.compile("[a-z]").findall, re.compile("[0-9]").findall),
        (str.lower, bytes.lower),
        (functools.partial(round, ndigits=1), functools.partial(round, ndigits=2)),
        (slice(1, 2), slice(1, 3)),
        (1j, 2j),
        (..., None),
        (range(3), range(4)),
        (Path("a"), "a"),
        (StratifiedKFold(2), StratifiedKFold(3)),
        (RepeatedKFold(n_splits=2), RepeatedKFold(n_splits=3)),
        (PredefinedSplit([0, 1]), PredefinedSplit([1, 0])),
        (make_scorer(f1_score, average="macro"), make_scorer(f1_score, average="micro")),
        (
            PromptTemplate("{instruction} {input} {response}"),
            PromptTemplate("{instruction}{input}{response}"),
        ),
        (LinearSVC, LogisticRegression),
        (LinearSVC(), LinearSVC(C=2)),
        (make_pipeline(LinearSVC()), make_pipeline(LinearSVC(C=2))),
    ],
)
def test_different_values_have_different_fingerprints(one, other):
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    "make",
    [
        lambda: StratifiedKFold(2, shuffle=True, random_state=0),
        lambda: make_scorer(f1_score, average="macro"),
        lambda: functools.partial(round, ndigits=1),
        lambda: Words(" ").split,
        lambda: np.array([["a"], ["b"]]),
        lambda: torch.arange(6).reshape(2, 3).T,
        lambda: Settings(1, ["a"]),
        lambda: {"nested": [{"a": (1, 2)}, {3, 1, 2}]},
    ],
)
def test_objects_made_again_have_the_same_fingerprint(make):
    assert fingerprint(make()) == fingerprint(make())


def test_it_makes_no_difference_whether_parts_are_one_object_or_equal():
    part, array = [1, 2], np.arange(2)
    assert fingerprint([part, part]) == fingerprint([[1, 2], [1, 2]])
    assert fingerprint([array, array]) == fingerprint([np.arange(2), np.arange(2)])


def test_it_makes_no_difference_how_an_array_lies_in_memory():
    array = np.arange(6).reshape(2, 3)
    assert fingerprint(array) == fingerprint(np.asfortranarray(array))
    assert fingerprint(array) == fingerprint(np.repeat(array, 2, axis=1)[:, ::2])


def test_attributes_of_a_fit_or_a_cache_do_not_count():
    before = fingerprint([LinearSVC(), Settings(1)])
    fitted, used = LinearSVC().fit([[0], [1]], [0, 1]), Settings(1)
    assert used.total == 1
    assert before == fingerprint([fitted, used])


def test_the_order_of_a_set_makes_no_difference():
    numbers = [8, 16, 0]  # these collide, so that a set keeps the order of their arrival
    backwards = numbers[::-1]
    assert list(set(numbers)) != list(set(backwards))
    assert fingerprint(set(numbers)) == fingerprint(set(backwards))


PROGRAM = """
import numpy as np, re
from sklearn.svm import LinearSVC
from instructclf.storage import fingerprint
values = [{"b", "a", "c"}, {"x": LinearSVC(C=2)}, re.compile("a").findall, np.arange(3), None]
print(fingerprint(values))
"""


def test_every_process_finds_the_same_fingerprint():
    found = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda path: {"model": path},
        lambda path: {"model": str(path)},
        lambda path: KMeansSampler(embedder=path),
        lambda path: GridSearchCV(LinearSVC(), {"model": ["hub/name", str(path)]}),
    ],
    ids=["path", "text", "embedder", "grid"],
)
@pytest.mark.parametrize("name", ["tiny.gguf", "folder/weights"])
def test_changed_file_of_a_model_is_noticed(tmp_path, make, name):
    file = tmp_path / name
    value = make(tmp_path / name.partition("/")[0])
    found = [fingerprint(value)]
    file.parent.mkdir(exist_ok=True)
    file.write_text("1")
    found.append(fingerprint(value))
    assert found[1] == fingerprint(value)
    file.write_text("22")
    found.append(fingerprint(value))
    os.utime(file, ns=(1, 1))
    assert len({*found, fingerprint(value)}) == 4


@pytest.mark.parametrize("definition", ["long " * 1000, "~nobody of this name/at all", "a\0b"])
def test_text_under_a_key_that_is_called_model_need_not_be_a_path(definition):
    assert fingerprint({"model": definition}) != fingerprint({"model": "other"})


def test_loaded_models_are_refused():
    with pytest.raises(TypeError, match=r"loaded model such as torch\S+Linear .* Give its name"):
        fingerprint({"model": (torch.nn.Linear(1, 1), "tokenizer")})


def test_functions_and_classes_that_cannot_be_imported_are_refused():
    class Local(LinearSVC):
        """Another one each time that the function runs."""

    for value in (lambda text: text, Local, Local(), np.frompyfunc(lambda n: n + 1, 1, 1)):
        with pytest.raises(TypeError, match="cannot be imported under this name. Define it at the"):
            fingerprint([value])


def test_objects_that_cannot_be_pickled_are_refused(tmp_path):
    with (
        (tmp_path / "file").open("w") as file,
        pytest.raises(TypeError, match=r"TextIOWrapper cannot be recognised: cannot pickle"),
    ):
        fingerprint(file)


def test_a_value_that_contains_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(TypeError, match="contains itself or is nested too deeply"):
        fingerprint(value)


def test_generators_count_by_their_state():
    one, other = random.Random(0), random.Random(0)
    assert fingerprint(one) == fingerprint(other)
    other.random()
    assert fingerprint(one) != fingerprint(other)
