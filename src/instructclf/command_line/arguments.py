"""Command-line arguments → options. Only their form is checked here."""

from __future__ import annotations

import argparse
import sys

from instructclf import __version__

PROGRAM = "instructclf"
FORMATS = ("jsonl", "csv", "parquet")
APPROACHES = ("svm", "prompting", "tuning")
_FILE = ".csv, .jsonl or .parquet (.csv and .jsonl also .gz), or - for standard input"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands.

    Returns
    -------
    argparse.ArgumentParser
        Parsed options have the name of the command's module as ``command``.
    """
    parser = argparse.ArgumentParser(
        PROGRAM, description="Local language models as text classifiers."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_fit(commands)
    _add_predict(commands)
    _add_compare(commands)
    _add_prompt(commands)
    return parser


def _add_fit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add_command(commands, "fit", "Fit a classifier on labelled rows, and save it.")
    parser.add_argument("train", metavar="TRAIN", help=f"labelled rows: {_FILE}")
    parser.add_argument(
        "--save", metavar="FOLDER", required=True, help="the folder to save the classifier in"
    )
    parser.add_argument(
        "--approach",
        choices=[name for name in APPROACHES if name != "svm"],
        default="prompting",
        help="show solved rows in the prompt, or tune an adapter on them (default: %(default)s)",
    )
    parser.add_argument(
        "--test", metavar="FILE", help="labelled rows for the accuracy in the model card"
    )
    _add_model(parser)
    _add_columns(parser, labels=True)
    _add_format(parser)


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add_command(
        commands, "predict", "Add a column of predictions, and the probabilities of each label."
    )
    _add_classifier(parser)
    parser.add_argument("data", metavar="DATA", help=f"rows with texts: {_FILE}")
    parser.add_argument(
        "--output", "-o", metavar="FILE", default="-", help="(default: standard output)"
    )
    parser.add_argument(
        "--min-label-mass",
        type=_share,
        metavar="SHARE",
        help="predict nothing if the likelihood of all labels together is below this, from 0 to 1, "
        "and add a column with that likelihood",
    )
    _add_columns(parser, labels=False)
    _add_format(parser)


def _add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add_command(
        commands, "compare", "Compare approaches that learn from the same few rows, over seeds."
    )
    parser.add_argument("train", metavar="TRAIN", help=f"labelled rows to draw from: {_FILE}")
    parser.add_argument("test", metavar="TEST", help="labelled rows to test on")
    parser.add_argument(
        "--approach",
        choices=APPROACHES,
        action="append",
        help="an approach to compare; repeat for more (default: all three)",
    )
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
        help="the number of draws of these rows (default: %(default)s)",
    )
    parser.add_argument(
        "--scoring",
        choices=("accuracy", "balanced_accuracy"),
        default="accuracy",
        help="whether texts or labels have equal weight (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="the source of all seeds (default: %(default)s)"
    )
    parser.add_argument(
        "--store", metavar="FOLDER", help="store finished runs here, and skip those stored before"
    )
    parser.add_argument(
        "--output", "-o", metavar="FILE", help="also write the unrounded figures to a file"
    )
    _add_model(parser)
    _add_columns(parser, labels=True)
    _add_format(parser)


def _add_prompt(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add_command(
        commands, "prompt", "Show the prompt of a text, and its number of tokens."
    )
    _add_classifier(parser)
    parser.add_argument("text", metavar="TEXT", help="the text, or - for standard input")
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
        help="a parameter of the classifier, such as n_shots=8, adapter__rank=8 or "
        "model_options__device=cpu; repeat for more",
    )
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=sys.stderr.isatty(),
        help="show a progress bar (default: if standard error is a terminal)",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _add_classifier(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "classifier",
        metavar="CLASSIFIER",
        help="a folder saved by fit, or the id of a classifier on the hub",
    )
    parser.add_argument("--revision", help="the branch, tag or commit on the hub")
    parser.add_argument(
        "--model", help="the base model, if it has moved since the classifier was saved"
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="bundled",
        help="the base model: bundled, a folder or a hub id (default: %(default)s)",
    )
    parser.add_argument(
        "--define",
        type=_assignment,
        action="append",
        default=[],
        metavar="LABEL=SENTENCE",
        help="the definition of a label; repeat for more",
    )
    parser.add_argument(
        "--definitions", metavar="FILE", help="a JSON file of labels and their definitions"
    )


def _add_columns(parser: argparse.ArgumentParser, *, labels: bool) -> None:
    parser.add_argument(
        "--text-column", default="text", metavar="NAME", help="(default: %(default)s)"
    )
    if not labels:
        return
    parser.add_argument(
        "--label-column", default="label", metavar="NAME", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--label-names",
        type=_names,
        metavar="NAME,NAME,…",
        help="class names, if the column holds class numbers from 0",
    )


def _add_format(parser: argparse.ArgumentParser) -> None:
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
