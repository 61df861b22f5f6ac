"""Constructor parameters that several estimators share: their constraints and their docs."""

from __future__ import annotations

from numbers import Integral, Real
from os import PathLike
from textwrap import dedent, indent
from typing import Any, TypeVar

from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from instructclf.classifiers.options import ModelOptions
from instructclf.prompts import PromptTemplate
from instructclf.sampling import ShotSampler

_Estimator = TypeVar("_Estimator", bound=type)

MODEL_CONSTRAINTS: dict[str, Any] = {
    "model": [str, PathLike, tuple, HasMethods(["label_scorer"])],
    "model_options": [ModelOptions, None],
    "verbose": ["verbose", Interval(Real, 0, None, closed="left")],
}
PROMPT_CONSTRAINTS: dict[str, Any] = {
    **MODEL_CONSTRAINTS,
    "label_definitions": [dict, None],
    "verbalizer": [dict, None],
    "instruction": [str, None],
    "template": [str, PromptTemplate],
}
CLASSIFIER_CONSTRAINTS: dict[str, Any] = {
    **PROMPT_CONSTRAINTS,
    "n_shots": [Interval(Integral, 0, None, closed="left"), None],
    "sampler": [str, ShotSampler],
    "label_order": [StrOptions({"sorted", "random", "cyclic", "unordered"}), list, tuple],
    "n_seeds": [Interval(Integral, 1, None, closed="left")],
    "calibration": [StrOptions({"auto"}), HasMethods(["calibrate"]), None],
    "random_state": ["random_state"],
}

_PARAMETERS = """
    model : str, path, tuple of (model, tokenizer) or LanguageModel, default="bundled"
        The language model: ``"bundled"`` for the small model that ships, a folder, a GGUF file or a
        hub id. ``"owner/name@revision"`` pins a branch, tag or commit. A folder or an id may also
        be an adapter of PEFT. Take a larger model for tasks other than the sentiment of reviews. A
        model is loaded once per process, however many estimators use it. A pair of transformers
        objects is used as it is, on its device, and shared by clones; such an estimator cannot be
        pickled.
    label_definitions : dict or None, default=None
        What each label means, ``{label: one sentence}``. The prompt states it. Set it if names do
        not explain the labels, or to ask without labelled rows. Its keys are then the classes, so a
        label that is missing from a fold is still known. ``None`` states the names only.
    verbalizer : dict or None, default=None
        The words that the model answers with, ``{label: words}``. Set it if labels are numbers or
        codes. ``None`` takes ``str(label)``. A list of words gives one label several answers: their
        likelihoods add up, and the prompt states the first.
    instruction : str or None, default=None
        The task in your words, such as a question about the text. The prompt always lists the
        labels after it. ``None`` asks to classify the input.
    template : str or PromptTemplate, default="alpaca"
        The text around instruction, demonstrations and input: ``"alpaca"``, ``"alpaca_legacy"``,
        ``"alpaca_short"`` without the introduction, which saves tokens, ``"chat"`` for the
        tokenizer's chat template, or a template object. Try ``"chat"`` with models that were tuned
        on conversations. The default is common in instruction tuning, and needs no chat template.
    sampler : str or object with a select method, default="balanced"
        How shots are chosen among the rows: ``"balanced"``, ``"random"``, ``"kmeans"``,
        ``"facility_location"``, ``"vote_k"``, ``"uncertainty"``, or one of `instructclf.sampling`.
        ``"knn"`` chooses the most similar rows for each text, which only `PromptClassifier` can
        use: for many labels, at the cost of slower predictions. The default draws equally many rows
        of each label, and needs no model to compare texts.
    label_order : {"sorted", "random", "cyclic", "unordered"} or list of labels, default="sorted"
        The order in which the instruction states the labels: as in ``classes_``, drawn from
        ``random_state``, or as listed. ``"unordered"`` lets the model read the labels side by side,
        so that none comes before another and no order can sway it; only `PromptClassifier` does
        that. To average over orders, take ``"cyclic"`` with ``n_seeds`` at the number of labels:
        each seed shifts the sorted order by one, so that each label stands once at each place. With
        fewer seeds take ``"random"``. The default states the same order under every seed.
    model_options : ModelOptions or None, default=None
        How the model is loaded and run: precision, device, quantization, context and batches. Set
        it if memory is short or a device is shared. ``None`` takes all defaults. Nested names
        reach it, such as ``model_options__dtype``.
    verbose : int or bool, default=0
        Whether to show progress bars on standard error, and which model is loaded if that takes
        more than about two seconds.

    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    label_words_ : tuple of tuple of str
        The answers that stand for each label, in the order of ``classes_``, the one that the prompt
        states first.
    prompt_ : Prompt
        Template, instruction and demonstrations.
    max_length_ : int or None
        The largest number of tokens of a prompt with its label.
    calibration_ : Calibration
        What turns log-likelihoods into probabilities: its ``bias`` and ``temperature``.
    labeller_ : Labeller or LabellerEnsemble
        Everything that ``fit`` learned, as one frozen value. The other attributes read it.
"""


def _split_entries(text: str) -> dict[str, str]:
    """Return the entry of each name."""
    entries: dict[str, str] = {}
    name = ""
    for line in dedent(text).strip().splitlines():
        if line and not line.startswith(" "):
            name = line.split(" : ")[0]
        entries[name] = f"{entries[name]}\n{line}" if name in entries else line
    return {name: entry.strip() for name, entry in entries.items()}


_ENTRIES = _split_entries(_PARAMETERS)


def documented(estimator: _Estimator) -> _Estimator:
    """Fill in the shared parts of a class's docstring: lines that say ``{name}`` and nothing else.

    Parameters
    ----------
    estimator : type
        A class whose docstring has such lines.

    Returns
    -------
    type
        The same class.
    """
    doc = estimator.__doc__ or ""
    for name, entry in _ENTRIES.items():
        doc = doc.replace(f"    {{{name}}}\n", f"{indent(entry, '    ')}\n")
    estimator.__doc__ = doc
    return estimator
