"""Checkpoints are named after all that determines a run, and read back as they were written."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import peft
import pytest
import torch

from instructclf.engine.tuning import checkpoints
from instructclf.engine.tuning.adapters import LoraSettings, PeftSettings
from instructclf.engine.tuning.checkpoints import Checkpoint, Checkpoints
from instructclf.engine.tuning.examples import make_examples
from instructclf.exceptions import CheckpointError
from tests.engine.tuning.test_training import LABELS, LORA, SETTINGS, TEXTS, make_base, make_encoder
from tests.fixtures import make_model, make_tokenizer

START = {"a.lora_A": torch.ones(2, 3), "a.lora_B": torch.zeros(3, 2)}
IA3 = peft.IA3Config(target_modules=["q_proj", "v_proj"], feedforward_modules=[])
STATE = (
    {"n_done": 3, "record": {"loss_curve": [0.5, 0.25]}},
    {"weight.0": torch.arange(6.0).reshape(2, 3), "generator.cpu": torch.get_rng_state()},
)


def name_of(*, seed=0, folder=Path("kept"), **changes):
    """Return the name of the checkpoint of a run, which differs in some ways from a usual one."""
    tokenizer = changes.pop("tokenizer", None) or make_tokenizer()
    base = dataclasses.replace(make_base(tokenizer), **changes.pop("base", {}))
    encoder = make_encoder(tokenizer, changes.pop("words", ("negative", "positive")))
    rows = {"texts": TEXTS, "labels": LABELS, "weights": None, "loss": "lm+label"}
    rows |= {name: changes.pop(name) for name in list(changes) if name in rows}
    texts, labels = rows.pop("texts"), rows.pop("labels")
    examples = make_examples(encoder, texts, labels, **rows)
    options = {"start": None, "shared": [1, 2], "adapter": LORA, "training": SETTINGS} | changes
    return Checkpoints(folder, base, examples, **options).of_seed(seed).path.name


DIFFERENT = {
    "a seed": {"seed": 1},
    "weights of the model": {"base": {"model": make_model(initializer_range=0.1)}},
    "the precision of the model": {"base": {"model": make_model(dtype=torch.bfloat16)}},
    "a text": {"texts": [*TEXTS[:-1], "another"]},
    "the order of texts": {"texts": TEXTS[::-1]},
    "a label": {"labels": 1 - LABELS},
    "a weight": {"weights": np.array([1.0, 1, 1, 1, 1, 2])},
    "the loss": {"loss": "lm"},
    "the words of a label": {"words": ("bad", "good")},
    "an end token": {"tokenizer": make_tokenizer(end=None)},
    "the shared prefix": {"shared": []},
    "a rank": {"adapter": dataclasses.replace(LORA, rank=8)},
    "tuned layers": {"adapter": dataclasses.replace(LORA, n_layers=1)},
    "targets in another form": {"adapter": dataclasses.replace(LORA, target_modules=("q_proj",))},
    "another kind of adapter": {"adapter": PeftSettings(IA3)},
    "a setting of that kind": {
        "adapter": PeftSettings(dataclasses.replace(IA3, init_ia3_weights=False))
    },
    "a learning rate": {"training": dataclasses.replace(SETTINGS, learning_rate=0.02)},
    "a start": {"start": START},
    "a start of another shape": {"start": {name: w.t() for name, w in START.items()}},
    "a start in another precision": {"start": {name: w.bfloat16() for name, w in START.items()}},
    "a start with another number": {"start": START | {"a.lora_A": torch.full((2, 3), 1.0001)}},
}


def test_runs_that_differ_have_different_names():
    names = {name: name_of(**changes) for name, changes in DIFFERENT.items()} | {"": name_of()}
    assert len(set(names.values())) == len(DIFFERENT) + 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"folder": Path("elsewhere")},
        {"base": {"name": "another name"}},
        {"start": START},
        {"adapter": PeftSettings(IA3)},
    ],
    ids=["nothing", "folder", "name of the model", "start", "configuration"],
)
def test_equal_runs_have_equal_names(changes):
    equal = dict(changes)
    if "start" in equal:  # the same weights in another order, and elsewhere in memory
        equal["start"] = {name: START[name].clone() for name in reversed(START)}
    if "adapter" in equal:
        equal["adapter"] = PeftSettings(dataclasses.replace(IA3))
    expected = {name: value for name, value in changes.items() if name in ("start", "adapter")}
    assert name_of(**equal) == name_of(**expected)


def test_another_process_computes_the_same_name():
    """Python salts the hashes of texts in each process, which decides the order of sets."""
    config = peft.LoraConfig(target_modules=[f"layer_{number}" for number in range(20)])
    assert isinstance(config.target_modules, set)
    code = (
        "import peft, tests.engine.tuning.test_checkpoints as t\n"
        "config = peft.LoraConfig(target_modules=[f'layer_{n}' for n in range(20)])\n"
        "print(t.name_of(adapter=t.PeftSettings(config), start=t.START))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert found.stdout.strip() == name_of(adapter=PeftSettings(config), start=START)


# Files


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(tmp_path / "new" / "folder", "0123456789" * 4)


def test_a_run_that_has_not_begun_reads_as_none(checkpoint):
    assert checkpoint.read() is None
    assert not checkpoint.path.parent.exists()


def test_a_state_is_read_as_it_was_written(checkpoint):
    checkpoint.write(STATE)
    values, tensors = checkpoint.read()
    assert {name: values[name] for name in STATE[0]} == STATE[0]
    assert tensors.keys() == STATE[1].keys()
    for name, tensor in STATE[1].items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_the_last_state_replaces_earlier_ones(checkpoint):
    checkpoint.write(STATE)
    checkpoint.write(({"n_done": 4}, {}))
    values, tensors = checkpoint.read()
    assert values["n_done"] == 4
    assert tensors == {}
    assert len(list(checkpoint.path.parent.iterdir())) == 1


def test_a_file_of_another_run_is_an_error_with_a_way_out(checkpoint):
    checkpoint.write(STATE)
    other = Checkpoint(checkpoint.path.parent, "9" * 40)
    checkpoint.path.rename(other.path)
    with pytest.raises(CheckpointError, match="not the checkpoint of the run .* Delete it"):
        other.read()


def test_a_damaged_file_is_an_error_with_a_way_out(checkpoint):
    checkpoint.write(STATE)
    content = bytearray(checkpoint.path.read_bytes())
    content[-1] ^= 1
    checkpoint.path.write_bytes(content)
    with pytest.raises(CheckpointError, match="Delete it, and this part of the fit starts anew"):
        checkpoint.read()


def test_offers_are_taken_at_once_and_then_rarely_enough(checkpoint, monkeypatch):
    """Writing takes a second of this clock, and may take a twentieth of the time."""
    clock = iter([100.0, 101.0, 110.0, 120.9, 121.1, 122.1])
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: next(clock))
    taken = []

    def take():
        taken.append(1)
        return STATE

    for expected in (1, 1, 1, 2):
        checkpoint.offer(take)
        assert len(taken) == expected


def test_settings_of_adapters_are_told_apart_by_kind():
    """Two kinds with equal values are not equal."""
    names = {
        name_of(adapter=settings)
        for settings in (
            LoraSettings(4, 8, 0.0, ("q_proj",)),
            PeftSettings(peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"])),
        )
    }
    assert len(names) == 2
