"""Command-line arguments → options. Only their form is checked here."""

from __future__ import annotations

import argparse
import sys

from instructclf import __version__

PROGRAM = "instructclf"
FORMATS = ("jsonl", "json", "csv", "tsv", "parquet")
APPROACHES = ("svm", "prompting", "tuning")
_FILE = (
    "in a .csv, .tsv, .jsonl, .json or .parquet file (all but .parquet may end in .gz), or - for "
    "standard input"
)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser. Parsed options have the module of their command as ``command``."""
    parser = argparse.ArgumentParser(
        PROGRAM, description="Classify texts with local language models."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_fit(commands)
    _add_predict(commands)
    _add_compare(commands)
    _add_prompt(commands)
    return parser


def _add_fit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add_command(commands, "fit", "Fit a classifier on labelled rows and save it.")
    parser.add_argument("train", metavar="TRAIN", help=f"labelled rows {_FILE}")
    parser.add_argument(
        "--save", metavar="FOLDER", required=True, help="the folder to save the classifier in"
    )
    parser.add_argument(
        "--approach",
        choices=[name for name in APPROACHES if name != "svm"],
        default="prompting",
        help="prompting shows solved rows in the prompt, tuning trains an adapter on them "
        "(default: %(default)s)",
    )
    parser.add_argument("--test", metavar="FILE", help="labelled rows to measure the accuracy on")
    _add_unlabelled(parser)
    _add_model(parser)
    _add_columns(parser, labels=True)
    _add_lists(parser)
    _add_format(parser)


def _add_unlabelled(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--unlabelled",
        metavar="FILE",
        help="texts without labels: with --approach tuning, the model learns from those of which a "
        "prompted teacher is surest, too, in 2 epochs",
    )
    parser.add_argument(
        "--texts-per-label",
        type=_count_or_all,
        default=argparse.SUPPRESS,  # 'all' is None
        metavar="N",
        help="how many of them to learn from for each label, or 'all' (default: 32)",
    )


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add_command(
        commands, "predict", "Add the predicted labels of each row, and all probabilities."
    )
    _add_classifier(parser)
    parser.add_argument("data", metavar="DATA", help=f"rows with texts {_FILE}")
    parser.add_argument(
        "--output",
        "-o",
        metavar="FILE",
        default="-",
        help="the file to write (default: standard output)",
    )
    parser.add_argument(
        "--min-label-mass",
        type=_share,
        metavar="SHARE",
        help="predict nothing where the likelihoods of all labels add up to less than this, a "
        "number from 0 to 1, and add their sum as a column",
    )
    parser.add_argument(
        "--probabilities",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="add a column with the probability of each label (default: yes)",
    )
    _add_columns(parser, labels=False)
    _add_format(parser)


def _add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add_command(
        commands,
        "compare",
        "Compare approaches that learn from the same few rows, drawn several times.",
    )
    parser.add_argument("train", metavar="TRAIN", help=f"labelled rows to draw from, {_FILE}")
    parser.add_argument("test", metavar="TEST", help="labelled rows to test on, likewise")
    parser.add_argument(
        "--approach",
        choices=APPROACHES,
        action="append",
        help="an approach to compare; may be repeated (default: all three)",
    )
    _add_draws(parser)
    parser.add_argument(
        "--scoring",
        choices=("accuracy", "balanced_accuracy"),
        default="accuracy",
        help="accuracy weighs all texts alike, balanced_accuracy all labels (default: %(default)s)",
    )
    parser.add_argument(
        "--store",
        metavar="FOLDER",
        help="store finished runs in this folder and skip those stored before",
    )
    parser.add_argument(
        "--output", "-o", metavar="FILE", help="also write the unrounded figures to this file"
    )
    _add_model(parser)
    _add_columns(parser, labels=True)
    _add_format(parser)


def _add_draws(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shots",
        type=_count_or_all,
        default=16,
        metavar="N",
        help="the number of rows to learn from, or 'all' (default: %(default)s)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=5,
        metavar="N",
        help="how many times to draw these rows (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="the number that all random draws start from (default: %(default)s)",
    )


def _add_prompt(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add_command(commands, "prompt", "Show the prompt of a text and count its tokens.")
    _add_classifier(parser)
    parser.add_argument("text", metavar="TEXT", help="the text, or - for standard input")
    parser.add_argument(
        "--question",
        metavar="NAME",
        help="the question to ask, of a classifier that answers several (default: the first)",
    )
    parser.add_argument("--label", help="end the prompt with the words of this label")
    parser.add_argument(
        "--tokens", action="store_true", help="also show the tokens that are scored for each label"
    )


def _add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=summary)
    parser.set_defaults(command=name)
    parser.add_argument(
        "--param",
        type=_assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="parameters",
        help="set a parameter of the classifier, such as n_shots=8, adapter__rank=8 or "
        "model_options__device=cpu; may be repeated",
    )
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=sys.stderr.isatty(),
        help="show a progress bar (default: only if standard error is a terminal)",
    )
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    return parser


def _add_classifier(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "classifier",
        metavar="CLASSIFIER",
        help="a folder saved by fit, or the id of a classifier on the hub",
    )
    parser.add_argument("--revision", help="a branch, tag or commit of the classifier on the hub")
    parser.add_argument(
        "--model", help="the base model, if it has moved since the classifier was saved"
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="bundled",
        help="the base model: bundled, a folder, a GGUF file or a hub id (default: %(default)s)",
    )
    parser.add_argument(
        "--define",
        type=_assignment,
        action="append",
        default=[],
        metavar="LABEL=SENTENCE",
        help="define a label by a sentence; with several questions, COLUMN:LABEL=SENTENCE, or "
        "COLUMN=SENTENCE for a column of 0 and 1; may be repeated",
    )
    parser.add_argument(
        "--definitions",
        metavar="FILE",
        help="a JSON file that maps labels to their definitions, or columns to such objects",
    )


def _add_columns(parser: argparse.ArgumentParser, *, labels: bool) -> None:
    parser.add_argument(
        "--text-column",
        default="text",
        metavar="NAME",
        help="the column of texts (default: %(default)s)",
    )
    if not labels:
        return
    parser.add_argument(
        "--label-column",
        action="append",
        default=[],
        metavar="NAME",
        help="the column of labels; fit takes several, each a question (default: label)",
    )
    parser.add_argument(
        "--label-names",
        type=_names,
        metavar="NAME,NAME,…",
        help="the names of the classes 0, 1, …, if the column of labels holds these numbers",
    )


def _add_lists(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--list-column",
        action="append",
        default=[],
        metavar="NAME",
        help="a column with a list of labels in each row, from none to all; may be repeated",
    )
    parser.add_argument(
        "--list-separator",
        type=_separator,
        default=";",
        metavar="CHARACTERS",
        help="what is between labels where a list is a text, as in csv (default: %(default)s)",
    )


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--delimiter",
        metavar="CHARACTER",
        help="the character between the cells of a csv file that is read, or 'tab' (default: "
        "found in the first line)",
    )
    parser.add_argument(
        "--encoding",
        metavar="NAME",
        help="the encoding of a text file that is read, such as cp1252 (default: that of its byte "
        "order mark, or UTF-8)",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="the format of standard input and output (default: that of the other file, or csv)",
    )


def _assignment(argument: str) -> tuple[str, str]:
    name, sign, value = argument.partition("=")
    if not sign or not name:
        msg = f"expected NAME=VALUE, got {argument!r}"
        raise argparse.ArgumentTypeError(msg)
    return name, value


def _names(argument: str) -> list[str]:
    names = [name.strip() for name in argument.split(",")]
    if not all(names) or len(set(names)) < len(names):
        msg = f"expected different names separated by commas, got {argument!r}"
        raise argparse.ArgumentTypeError(msg)
    return names


def _separator(argument: str) -> str:
    if not argument:
        msg = "expected characters, got ''"
        raise argparse.ArgumentTypeError(msg)
    return argument


def _count_or_all(argument: str) -> int | None:
    try:
        return None if argument == "all" else int(argument)
    except ValueError:
        msg = f"expected a number or 'all', got {argument!r}"
        raise argparse.ArgumentTypeError(msg) from None


def _share(argument: str) -> float:
    try:
        share = float(argument)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        msg = f"expected a number from 0 to 1, got {argument!r}"
        raise argparse.ArgumentTypeError(msg)
    return share
