"""The commands in a shell."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import instructclf
from instructclf.command_line import main
from instructclf.datasets.writing import write_file
from tests.fixtures import LABELS, TEXTS

ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
PROGRAM = [sys.executable, "-m", "instructclf"]


def run(*arguments, standard_input=""):
    """Run a command in another process, and return its exit code, output and errors."""
    ended = subprocess.run(
        [*PROGRAM, *arguments],
        input=standard_input,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return ended.returncode, ended.stdout, ended.stderr


def test_fit_predict_prompt_and_compare_run_from_a_shell(model_folder, tmp_path):
    train, saved = str(tmp_path / "train.csv"), str(tmp_path / "saved")
    write_file(Path(train), ROWS)
    model = ["--model", model_folder, "--param", "random_state=0"]
    code, out, err = run("fit", train, "--save", saved, *model, "--param", "n_shots=4")
    assert (code, err) == (0, "")
    assert "PromptClassifier, 4 of 16 rows as shots" in out
    lines = "text\ngood\nbad\n"
    code, out, err = run("predict", saved, "-", standard_input=lines)
    assert (code, err) == (0, "")
    rows = out.splitlines()
    assert rows[0] == "text,prediction,probability_negative,probability_positive"
    assert [row.split(",")[0] for row in rows[1:]] == ["good", "bad"]
    code, out, err = run("prompt", saved, "a text")
    assert (code, err) == (0, "")
    assert "text        │ a text" in out
    model = ["--model", model_folder, "--approach", "prompting", "--approach", "svm"]
    code, out, err = run("compare", train, train, *model, "--shots", "4", "--seeds", "1")
    assert (code, err) == (0, "")
    assert [line.split("  ")[0] for line in out.splitlines()[2:4]] == [
        "prompting",
        "TF-IDF + LinearSVC",
    ]


def test_a_closed_pipe_is_not_an_error(tmp_path):
    write_file(tmp_path / "train.csv", ROWS)
    arguments = ["compare", "train.csv", "train.csv", "--approach", "svm", "--seeds", "1"]
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [*PROGRAM, *arguments], stdout=write, stderr=subprocess.PIPE, check=False, cwd=tmp_path
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_an_error_shows_no_traceback_in_a_shell():
    code, out, err = run("fit", "none.csv", "--save", "x")
    assert (code, out) == (1, "")
    assert err == "instructclf: error: none.csv: No such file or directory.\n"


def test_the_version_is_that_of_the_package():
    assert run("--version")[:2] == (0, f"instructclf {instructclf.__version__}\n")


@pytest.mark.parametrize("command", ["", "fit", "predict", "compare", "prompt"])
def test_help_shows_the_usage(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert f"usage: instructclf {command}".strip() in capsys.readouterr().out


def test_the_program_calls_main():
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["instructclf"].partition(":")
    assert getattr(import_module(module), name) is main
