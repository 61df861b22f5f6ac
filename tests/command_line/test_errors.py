"""An error is one line on standard error, and an exit code for scripts."""

from __future__ import annotations

import io
import re
import sys
import warnings

import pytest

from instructclf import PromptClassifier
from instructclf.command_line import main
from instructclf.datasets.writing import write_file
from instructclf.exceptions import DataFormatError
from tests.fixtures import LABELS, TEXTS

ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a working directory with files of all kinds."""
    monkeypatch.chdir(tmp_path)
    write_file(tmp_path / "train.csv", ROWS)
    (tmp_path / "broken.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": "b"\n')
    (tmp_path / "unlabelled.csv").write_text("text,label\na,x\nb,\n")
    (tmp_path / "empty.csv").write_text("text,label\n")
    (tmp_path / "review.csv").write_text("review,label\na,x\n")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "cut.json").write_text("{")
    (tmp_path / "labels.json").write_text('{"negative": "No."}')
    (tmp_path / "full").mkdir()
    (tmp_path / "full.csv").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    return tmp_path


SVM = ["--approach", "svm", "--seeds", "1"]
ERRORS = {
    "no file": ("fit none.csv --save x", "error: none.csv: No such file or directory."),
    "a folder": ("fit full --save x", "error: full does not end in one of .jsonl, "),
    "unknown ending": ("fit a.txt --save x", "error: a.txt does not end in one of .jsonl, .*Conv"),
    "broken": ("fit broken.jsonl --save x", "error: broken.jsonl:2 is not valid JSON: Expecting"),
    "no label": ("fit unlabelled.csv --save x", "unlabelled.csv:3: 'label' is empty, expected a"),
    "no rows": ("fit empty.csv --save x", "empty.csv has no rows. Expected the columns 'text' and"),
    "no column": (
        "fit review.csv --save x",
        "review.csv:2 has no column 'text'. The columns are 'review', 'label'. Name the right one "
        "with --text-column ….",
    ),
    "no label column": (
        "fit train.csv --save x --label-column stars",
        "has no column 'stars'. .* with --label-column ….",
    ),
    "no name": (
        "fit train.csv --save x --label-names bad,good",
        "train.csv:2: 'label' is 'positive', which is neither one of the 2 class names",
    ),
    "taken": ("fit train.csv --save full", "error: 'full' holds something else: there is no 'cla"),
    "no parameter": (
        "fit train.csv --save x --param n_shot=3",
        "PromptClassifier has no parameter 'n_shot'. Its parameters are verbalizer, instruction"
        ".* model_options__dtype.* Did you mean 'n_shots' instead of 'n_shot'?",
    ),
    "no nested parameter": (
        "fit train.csv --save x --approach tuning --param adapter__rnk=3",
        "InstructionTunedClassifier has no parameter 'adapter__rnk'. .* adapter__rank, ",
    ),
    "nested parameter of another classifier": (
        "fit train.csv --save x --param adapter__rank=3",
        "PromptClassifier has no parameter 'adapter__rank'",
    ),
    "wrong nested value": (
        "fit train.csv --save x --approach tuning --param adapter__rank=0",
        r"'rank' parameter of LoRA must be an int in .* Got 0 instead",
    ),
    "wrong value": (
        "fit train.csv --save x --param n_shots=-3",
        r"'n_shots' parameter of PromptClassifier must be an int in .* Got -3 instead",
    ),
    "wrong word": (
        "fit train.csv --save x --param calibration=magic",
        "'calibration' parameter of PromptClassifier must be .* Got 'magic' instead",
    ),
    "an object": (
        "fit train.csv --save x --approach tuning --param adapter=x",
        "'adapter' parameter of InstructionTunedClassifier takes an object. .* --param adapter__r",
    ),
    "another option": (
        "fit train.csv --save x --param model=x",
        "The 'model' parameter is given by --model. Leave out --param model.",
    ),
    "no object": (
        "fit train.csv --save x --definitions list.json",
        "list.json must hold a JSON ob",
    ),
    "no JSON": (
        "fit train.csv --save x --definitions cut.json",
        "cut.json is not valid JSON in UTF-8: Exp",
    ),
    "defined twice": (
        "fit train.csv --save x --definitions labels.json --define negative=Bad",
        "The label 'negative' is defined twice. Leave out one",
    ),
    "texts for prompting": (
        "fit train.csv --save x --unlabelled train.csv",
        "--unlabelled is for --approach tuning, not prompting",
    ),
    "a number of texts without texts": (
        "fit train.csv --save x --approach tuning --texts-per-label 4",
        "--texts-per-label says how many texts of --unlabelled to learn from. Name their file.",
    ),
    "no texts": (
        "fit train.csv --save x --approach tuning --unlabelled empty.csv",
        "empty.csv has no rows. Expected the column 'text'",
    ),
    "no such parameter of either": (
        "fit train.csv --save x --approach tuning --unlabelled train.csv --param shots=2",
        "InstructionTunedClassifier has no parameter 'shots'",
    ),
    "texts and rows from one stream": (
        "fit - --save x --approach tuning --unlabelled -",
        "TRAIN and --unlabelled cannot both be standard input",
    ),
    "two streams": ("fit - --save x --test -", "TRAIN and --test cannot both be standard input"),
    "no classifier": ("predict full train.csv", "no saved classifier in 'full': it has no classif"),
    "nowhere": ("predict none train.csv", "no saved classifier in 'none': it has no classifier"),
    "a pickle": (
        "predict full/thesis.tex train.csv",
        "'full/thesis.tex' is a file, and a saved classifier is a folder: .* Pickles are not read",
    ),
    "on the hub": (
        "predict some/where train.csv",
        "There is no folder 'some/where' here, and the repository of this name could not be "
        "fetched from the hub: .* Check the name and the connection.*HF_TOKEN",
    ),
    "no branch of a folder": (
        "predict full train.csv --revision main",
        "revision='main' is one of a repository on the hub, and 'full' is a folder",
    ),
    "nothing to predict": ("predict full empty.csv", "empty.csv has no rows. Expected the column"),
    "no text": ("predict full review.csv", "no column 'text'. .* with --text-column …."),
    "nowhere to write": (
        "predict full train.csv -o none/out.csv",
        "There is no folder 'none' to write out.csv in. Make it first.",
    ),
    "a folder as output": (
        "predict full train.csv -o full.csv",
        "full.csv is a folder. Name a fil",
    ),
    "another encoding": (
        "fit train.csv --save x --encoding klingon",
        "There is no encoding 'klingon'. Usual ones are 'utf-8', 'utf-16' and 'cp1252'",
    ),
    "another delimiter": (
        "fit train.csv --save x --delimiter ;;",
        "The delimiter must be one character, such as ';', or 'tab'. Got ';;' instead.",
    ),
    "unknown output": ("predict full train.csv -o out.txt", "out.txt does not end in one of"),
    "twice standard input": ("compare - -", "TRAIN and TEST cannot both be standard input"),
    "parameter of no approach": (
        "compare train.csv train.csv --approach svm --param adapter__rank=2",
        "None of the approaches svm has a parameter 'adapter__rank'.",
    ),
    "option for shots": (
        "compare train.csv train.csv --approach prompting --param n_shots=2",
        "The 'n_shots' parameter is given by --shots.",
    ),
    "too many shots": (
        "compare train.csv train.csv --approach svm --shots 17",
        "n_shots=17 is more than the 16 different",
    ),
    "no text to show": ("prompt full x", "no saved classifier in 'full'"),
}


@pytest.mark.parametrize(("arguments", "message"), ERRORS.values(), ids=ERRORS)
def test_errors_of_data_and_parameters_are_one_line_and_code_1(arguments, message, folder, capsys):
    assert main(arguments.split(" ")) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(message, err), err
    assert err.startswith("instructclf: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


USAGE = {
    "no command": ("", "required: COMMAND"),
    "unknown command": ("fits", "invalid choice: 'fits'"),
    "nowhere to save": ("fit train.csv", "required: --save"),
    "no sign": ("fit train.csv --save x --param n_shots", "expected NAME=VALUE, got 'n_shots'"),
    "no name": ("fit train.csv --save x --define =x", "expected NAME=VALUE, got '=x'"),
    "no number": ("compare a.csv b.csv --shots few", "expected a number or 'all', got 'few'"),
    "names": ("fit a.csv --save x --label-names a,,b", "expected different names .* got 'a,,b'"),
    "not a share": ("predict a b.csv --min-label-mass 2", "expected a number from 0 to 1, got '2'"),
    "format": ("predict a b.csv --format xml", "invalid choice: 'xml'"),
}


@pytest.mark.parametrize(("arguments", "message"), USAGE.values(), ids=USAGE)
def test_wrong_arguments_are_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("command", ["fit", "predict", "compare", "prompt"])
def test_help_says_what_every_option_is_for(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    options = capsys.readouterr().out.partition("\npositional arguments:\n")[2]
    entries = re.split(r"\n  (?=\S)", options)
    assert len(entries) > 8
    for entry in entries:
        said = re.sub(r"\(default: .*?\)", "", " ".join(entry.split()))
        assert len(said.split()) > 3, said


def test_debug_shows_the_traceback(folder):
    with pytest.raises(DataFormatError, match=r"broken\.jsonl:2"):
        main(["fit", "broken.jsonl", "--save", "x", "--debug"])


def test_a_bug_of_the_package_shows_its_traceback(folder, monkeypatch):
    monkeypatch.delattr("instructclf.command_line.fit.read_labelled_source")
    with pytest.raises(NameError):
        main(["fit", "train.csv", "--save", "x"])


def test_an_interrupt_is_code_130(folder, monkeypatch, capsys):
    class Interrupted(io.BytesIO):
        def readinto(self, _):
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Interrupted()))
    assert main(["fit", "-", "--save", "x"]) == 130
    assert capsys.readouterr().err == "instructclf: interrupted\n"
    assert not (folder / "x").exists()


def test_a_column_that_would_be_overwritten_is_an_error(folder, model_folder, capsys):
    PromptClassifier(model_folder, n_shots=2).fit(TEXTS, LABELS).save("saved")
    write_file(folder / "new.csv", [{"text": "a", "prediction": "mine"}])
    assert main(["predict", "saved", "new.csv", "--no-progress"]) == 1
    match = r"error: new\.csv has a column 'prediction', which the result would overwrite. Rename"
    assert re.search(match, capsys.readouterr().err)


def test_an_unknown_label_is_an_error(folder, model_folder, capsys):
    PromptClassifier(model_folder, n_shots=2).fit(TEXTS, LABELS).save("saved")
    assert main(["prompt", "saved", "a", "--label", "fine", "--no-progress"]) == 1
    assert "There is no label 'fine'. The classes are" in capsys.readouterr().err


def test_warnings_are_one_line(folder, model_folder, capsys):
    define = ["--define", "neutral=So so.", "--define", "positive=Yes.", "--define", "negative=No."]
    fit = ["fit", "train.csv", "--save", "x", "--model", model_folder, "--param", "n_shots=4"]

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main([*fit, *define, "--no-progress"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("instructclf: warning: label_definitions names ['neutral'], of which y")
    assert err.count("\n") == 1


def test_a_file_that_cannot_be_written_is_an_error_before_a_classifier_is_loaded(folder, capsys):
    (folder / "new.jsonl").write_text('{"text": "a", "id": 1}\n{"text": "b", "id": "x"}\n')
    assert main(["predict", "none", "new.jsonl", "-o", "out.parquet"]) == 1
    assert re.search("out.parquet cannot be written as parquet: .*", capsys.readouterr().err)
    assert main(["predict", "none", "new.jsonl", "--format", "parquet"]) == 1
    assert re.search("output> cannot be written as parquet: .*", capsys.readouterr().err)
    assert not list(folder.glob("out*"))


def test_missing_packages_are_an_error_before_approaches_are_compared(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert main(["compare", "none.csv", "none.csv", "-o", "out.parquet"]) == 1
    assert "Writing out.parquet needs pyarrow. Install it with" in capsys.readouterr().err


def test_values_without_a_parquet_type_are_an_error(folder):
    rows = [{"text": "a"}, {"text": {"b": 1}}]
    with pytest.raises(
        DataFormatError, match=r"out\.parquet cannot be written as parquet: .*jsonl"
    ):
        write_file(folder / "out.parquet", rows)
    assert not list(folder.glob("out*"))
