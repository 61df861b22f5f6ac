"""Words of a command line → options. Only their form is checked here."""

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
        Its options have the name of a module of this room as ``command``.
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
        help="show rows solved in the prompt, or tune an adapter on them (default: %(default)s)",
    )
    parser.add_argument(
        "--test", metavar="FILE", help="labelled rows to measure the accuracy on, for the card"
    )
    _add_model(parser)
    _add_columns(parser, labels=True)
    _add_format(parser)


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add_command(
        commands, "predict", "Add a column of predictions, and one of probabilities a label."
    )
    _add_classifier(parser)
    parser.add_argument("data", metavar="DATA", help=f"rows with texts: {_FILE}")
    parser.add_argument(
        "--output", "-o", metavar="FILE", default="-", help="where to (default: standard output)"
    )
    parser.add_argument(
        "--min-label-mass",
        type=_share,
        metavar="SHARE",
        help="predict nothing where all labels together are less likely than this, from 0 to 1, "
        "and add a column that says how likely they are",
    )
    parser.add_argument(
        "--chunks", metavar="FOLDER", help="keep each scored chunk here, and go on where it was"
    )
    parser.add_argument(
        "--chunk-size",
        type=int,
        default=4096,
        metavar="N",
        help="how many texts make a chunk (default: %(default)s)",
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
        help="one to compare; say it again for another (default: all three)",
    )
    parser.add_argument(
        "--shots",
        type=_count_or_all,
        default=16,
        metavar="N",
        help="how many rows each learns from, or 'all' (default: %(default)s)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=5,
        metavar="N",
        help="how often they are drawn anew (default: %(default)s)",
    )
    parser.add_argument(
        "--scoring",
        choices=("accuracy", "balanced_accuracy"),
        default="accuracy",
        help="whether texts count alike or labels do (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="where all seeds come from (default: %(default)s)"
    )
    parser.add_argument(
        "--store", metavar="FOLDER", help="keep each finished run here, and go on where it was"
    )
    parser.add_argument(
        "--output", "-o", metavar="FILE", help="write the figures, unrounded, into a file too"
    )
    _add_model(parser)
    _add_columns(parser, labels=True)
    _add_format(parser)


def _add_prompt(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add_command(
        commands, "prompt", "Show what the model reads for a text, and how many tokens that is."
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
        help="a parameter of the classifier, such as n_shots=8 or device=cpu; say it again for "
        "another",
    )
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=sys.stderr.isatty(),
        help="show a progress bar (default: where standard error is a terminal)",
    )
    parser.add_argument(
        "--debug", action="store_true", help="show where in the source an error happened"
    )
    return parser


def _add_classifier(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "classifier",
        metavar="CLASSIFIER",
        help="a folder that fit saved, or the id of one on the hub",
    )
    parser.add_argument("--revision", help="the branch, tag or commit on the hub")
    parser.add_argument(
        "--model", help="where the base model is now, if not where it was when it was saved"
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
        help="what a label means; say it again for each",
    )
    parser.add_argument(
        "--definitions", metavar="FILE", help="a JSON file of labels and what they mean"
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
        help="the names of classes, where the column holds their numbers, from 0",
    )


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="the format of - (default: that of the other file, or csv)",
    )


def _assignment(word: str) -> tuple[str, str]:
    name, sign, value = word.partition("=")
    if not sign or not name:
        msg = f"expected NAME=VALUE, got {word!r}"
        raise argparse.ArgumentTypeError(msg)
    return name, value


def _names(word: str) -> list[str]:
    names = [name.strip() for name in word.split(",")]
    if not all(names) or len(set(names)) < len(names):
        msg = f"expected different names with commas between them, got {word!r}"
        raise argparse.ArgumentTypeError(msg)
    return names


def _count_or_all(word: str) -> int | None:
    try:
        return None if word == "all" else int(word)
    except ValueError:
        msg = f"expected a number or 'all', got {word!r}"
        raise argparse.ArgumentTypeError(msg) from None


def _share(word: str) -> float:
    try:
        share = float(word)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        msg = f"expected a number from 0 to 1, got {word!r}"
        raise argparse.ArgumentTypeError(msg)
    return share
