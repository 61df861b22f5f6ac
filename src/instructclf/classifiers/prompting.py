"""k-shot prompting: the shots stand solved in the prompt, and nothing is trained."""

from __future__ import annotations

from functools import partial
from os import PathLike
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from instructclf.classifiers.base import PromptedClassifier
from instructclf.classifiers.calibration import Calibration, fit_calibration, no_calibration
from instructclf.classifiers.calibration_texts import held_out_rows
from instructclf.classifiers.own_shots import OwnShots
from instructclf.engine.models.loading import BaseModel
from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.label_scoring import LabelScorer
from instructclf.engine.tokens.encoding import PromptEncoder
from instructclf.engine.tokens.variants import VariantEncoder
from instructclf.exceptions import InvalidShotsError
from instructclf.inputs.texts import check_texts
from instructclf.prompts import PromptTemplate
from instructclf.sampling import PerInputSampler, ShotSampler, get_sampler


class PromptClassifier(PromptedClassifier):
    """Classify texts by what a language model finds the likeliest answer to a prompt.

    ``fit`` chooses shots among the labelled rows and writes them, solved, into the prompt. Nothing
    is trained. The tokens that all prompts begin with are computed once, so that a text costs its
    own tokens only. Labels are scored by likelihood, never generated, so no answer can be
    anything but a label.

    Parameters
    ----------
    model : str, path or tuple of (model, tokenizer), default="bundled"
        ``"bundled"`` for the small model that ships, a folder, or a hub id; also those of an
        adapter of PEFT, or of a GGUF file. ``"owner/name@revision"`` pins a branch, tag or commit
        of a hub id. Loaded once per process, whatever the number of classifiers. A pair of
        transformers objects is used as it is, on its device, and shared by clones; such a
        classifier cannot be pickled.
    label_definitions : dict or None, default=None
        What each label means, ``{label: one sentence}``, stated in the prompt. Given, its keys are
        the classes, so that a label that a fold lacks is still known.
    verbalizer : dict or None, default=None
        The words that the model answers with, ``{label: words}``. ``None`` takes ``str(label)``.
        A list of words is several answers for one label: their likelihoods add up, and the first
        is the one that the prompt states.
    instruction : str or None, default=None
        The task in your words. The labels to choose from are stated after it in any case. ``None``
        asks to classify the input.
    template : str or PromptTemplate, default="alpaca"
        What stands around instruction, demonstrations and input: ``"alpaca"``,
        ``"alpaca_legacy"``, ``"alpaca_short"``, ``"chat"`` for the tokenizer's own, or a template.
    n_shots : int or None, default=16
        How many rows are shown solved in the prompt. ``0`` asks without any; ``None`` shows all
        rows. More shots cost time once per ``fit``, and context.
    sampler : str or object with a select method, default="balanced"
        How the shots are chosen among the rows: ``"balanced"``, ``"random"``, ``"kmeans"``,
        ``"facility_location"``, ``"vote_k"``, ``"uncertainty"``, or one of `instructclf.sampling`.
        ``"knn"`` chooses others for each text, the rows most similar to it, which only
        `PromptClassifier` can use.
    label_order : {"sorted", "random"}, default="sorted"
        In which order the instruction states the labels: as in ``classes_``, or drawn from
        ``random_state``, so that several seeds average over orders.
    n_seeds : int, default=1
        How many times shots are drawn, each with a seed of its own, spawned from ``random_state``.
        Predictions are the mean of the calibrated log-probabilities. A prediction takes as many
        times as long, and depends less on the draw.
    calibration : {"auto", "contextual", "domain", "batch"} or None, default="auto"
        ``"auto"`` takes from each label's log-likelihood its class-balanced mean over labelled
        rows, shrunk by what noise would give, and fits a temperature, which few rows leave near 1.
        It uses rows that are no shots, else each shot after a prompt of the others; where shots are
        chosen for each text, rows that are left out of their own prompts.
        ``"contextual"``, ``"domain"`` and ``"batch"`` are for comparison. They take the mean of
        each label's probability: over the texts "N/A", "" and "[MASK]"; over 20 texts of random
        words from the texts of ``fit``; or over the very texts to predict, which is right only
        where labels are equally frequent, and makes an answer depend on its neighbours. The first
        two are an error where shots are chosen for each text. ``None`` only normalises.
    max_length : int or None, default=None
        The most tokens of a prompt with its label. Longer texts are cut in their middle, with a
        warning. ``None`` takes the model's context.
    max_batch_tokens : int, "auto" or None, default="auto"
        The most tokens that go through the model at once, padding included. More takes more
        memory; it does not change scores. ``"auto"`` or ``None`` takes what suits the device.
    device : str or None, default=None
        Where the model runs, such as ``"cpu"`` or ``"cuda:1"``. ``None`` takes CUDA where there is
        one.
    dtype : str or None, default=None
        The precision of the weights, such as ``"float32"`` or ``"bfloat16"``. ``None`` takes
        bfloat16 on CUDA, else float16, and float32 on the CPU. Half precision is faster there,
        and every score is rounded on its way.
    quantization : {"4bit"} or None, default=None
        ``"4bit"`` stores the weights of linear layers in 4 bits (NF4) while loading them, for
        models that do not fit otherwise. They compute in ``dtype``. Scores move, and the less
        redundant a model, the more. Takes the ``quantization`` extra.
    device_map : "auto", dict or None, default=None
        Where the parts of a model that is too large for one device go, instead of ``device``:
        ``"auto"`` fills the GPUs, then the CPU's memory, then the disk; or a device for each part,
        as accelerate takes it. Scores stay the same. An adapter takes a model of which nothing is
        on the CPU or the disk while it runs on a GPU.
    distributed : {"auto"} or None, default="auto"
        Whether several processes share the work. ``"auto"``: where ``torchrun`` or ``accelerate
        launch`` has started several, or torch has a process group, ``fit`` and all predictions must
        be called in each of them with the same rows, and return the same in each. ``None`` works
        in this process alone.
    random_state : int, RandomState instance or None, default=None
        Decides which shots are drawn, and their order.
    verbose : int or bool, default=0
        Whether to show a progress bar on standard error.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    label_words_ : tuple of tuple of str
        The answers that stand for each label, in the order of ``classes_``, the one that the prompt
        states first.
    shots_ : ndarray of shape (n_shots,)
        Which rows of ``X`` became shots, in the order of their use. With a sampler that chooses
        for each text, all rows, since each may become one: ``shots_for`` says when.
    prompt_ : Prompt
        Template, instruction and demonstrations. No demonstrations with a sampler that chooses for
        each text.
    max_length_ : int or None
        The most tokens of a prompt with its label.
    calibration_ : Calibration or BatchCalibration
        What makes log-likelihoods probabilities: its ``bias`` and ``temperature``, or, for
        ``"batch"``, what finds them at prediction.

    estimators_ : list of PromptClassifier
        With ``n_seeds`` above 1, the fitted classifier of each seed. Then ``prompt_`` and
        ``calibration_`` are theirs alone, and ``shots_`` are the rows that any of them shows.

    See Also
    --------
    InstructionTunedClassifier : Trains an adapter on the shots instead, and predicts faster.

    Examples
    --------
    >>> from instructclf import PromptClassifier
    >>> classifier = PromptClassifier(n_shots=4, random_state=0)
    >>> texts = ["Works well.", "Broke at once.", "Lovely.", "A waste.", "Superb.", "Useless."]
    >>> labels = ["positive", "negative"] * 3
    >>> classifier.fit(texts, labels).predict_proba(["Splendid, I would buy it again."]).shape
    (1, 2)
    """

    def __init__(
        self,
        model: str | PathLike[str] | tuple[Any, Any] = "bundled",
        *,
        label_definitions: dict[Any, str] | None = None,
        verbalizer: dict[Any, str | list[str]] | None = None,
        instruction: str | None = None,
        template: str | PromptTemplate = "alpaca",
        n_shots: int | None = 16,
        sampler: str | ShotSampler = "balanced",
        label_order: str = "sorted",
        n_seeds: int = 1,
        calibration: str | None = "auto",
        max_length: int | None = None,
        max_batch_tokens: int | str | None = "auto",
        device: str | None = None,
        dtype: str | None = None,
        quantization: str | None = None,
        device_map: str | dict[str, int | str] | None = None,
        distributed: str | None = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int | bool = 0,
    ) -> None:
        self.model = model
        self.label_definitions = label_definitions
        self.verbalizer = verbalizer
        self.instruction = instruction
        self.template = template
        self.n_shots = n_shots
        self.sampler = sampler
        self.label_order = label_order
        self.n_seeds = n_seeds
        self.calibration = calibration
        self.max_length = max_length
        self.max_batch_tokens = max_batch_tokens
        self.device = device
        self.dtype = dtype
        self.quantization = quantization
        self.device_map = device_map
        self.distributed = distributed
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Choose the shots, write the prompt and calibrate.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,), default=None
            The texts. May be left out with ``n_shots=0`` and ``label_definitions``, where nothing
            is learned from rows.
        y : array-like of shape (n_texts,), default=None
            Their labels.

        Returns
        -------
        PromptClassifier
            The fitted classifier.

        Raises
        ------
        InvalidTextsError
            If ``X`` is no sequence of strings.
        InvalidLabelsError
            If labels are missing, of one class only, or do not fit ``label_definitions`` or
            ``verbalizer``.
        InvalidShotsError
            If there are fewer rows than shots, fewer shots than labels, or ``n_seeds`` seeds
            without anything to draw.
        InvalidTemplateError
            If there is no such template.
        ModelLoadingError
            If the model or its tokenizer cannot be loaded.
        PromptTooLongError
            If instruction, definitions and shots leave no room for a text.
        """
        return self._fit(X, y)

    def _check_seeds(self) -> None:
        sampler = get_sampler(self.sampler)
        draws = bool(self.n_shots) and not isinstance(sampler, PerInputSampler)
        if not draws and self.label_order == "sorted":
            msg = (
                f"n_seeds={self.n_seeds} seeds would all make the same prompt, since "
                f"n_shots={self.n_shots} with sampler={self.sampler!r} leaves nothing to draw. Set "
                "n_shots to fewer than the rows, label_order='random', or n_seeds=1."
            )
            raise InvalidShotsError(msg)

    def _fit_scorer(
        self,
        base: BaseModel,
        shots: list[str],
        codes: NDArray[np.intp],
        rng: np.random.RandomState,  # noqa: ARG002  (nothing here is random)
        weights: NDArray[np.float64] | None,  # noqa: ARG002  (shots in a prompt have none)
    ) -> LabelScorer:
        if self._own_shots is None:
            self._add_demonstrations(base, shots, codes)
            return self._rebuild_scorer(base)
        scorer = self._rebuild_scorer(base)
        scorer.encoder.prompt_for(shots[0])  # so many shots that none fit are an error now
        return scorer

    def _rebuild_scorer(self, base: BaseModel) -> LabelScorer:
        return self._make_scorer(base, shared_view(base.model))

    def _leave_one_out_scores(self, scorer: LabelScorer) -> NDArray[np.float64] | None:
        return scorer.score_demonstrations() if len(self.shots_) else None

    # Shots for each text

    _own_shots: OwnShots | None = None
    """What chooses shots for each text, where the sampler does."""

    def shots_for(self, X: Any) -> list[NDArray[np.intp]]:
        """Return which rows stand solved in the prompt of each text.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,)
            The texts.

        Returns
        -------
        list of ndarray of shape (n_shots,)
            For each text, indices into the ``X`` of ``fit``, in the order of its prompt. They
            differ from text to text with a sampler that chooses for each, such as ``"knn"``, and
            are ``shots_`` with any other.
        """
        check_is_fitted(self)
        texts = check_texts(X)
        self._check_one_prompt()
        if self._own_shots is None:
            return [self.shots_.copy() for _ in texts]
        return self._own_shots.rows(texts)

    def _check_per_input(self, sampler: PerInputSampler) -> None:
        if self.calibration in {"contextual", "domain"}:
            msg = (
                f"calibration={self.calibration!r} measures the bias of one prompt, and "
                f"{type(sampler).__name__} gives each text a prompt of its own. Use "
                "calibration='auto', 'batch' or None, or another sampler."
            )
            raise InvalidShotsError(msg)

    def _choose_shots(
        self,
        texts: list[str],
        codes: NDArray[np.intp],
        sampler: ShotSampler,
        rng: np.random.RandomState,
    ) -> NDArray[np.intp]:
        self._own_shots = None
        if not self.n_shots or not isinstance(sampler, PerInputSampler):
            return super()._choose_shots(texts, codes, sampler, rng)
        seed = int(rng.randint(np.iinfo(np.int32).max))
        self._own_shots = OwnShots(sampler, self._solve(texts, codes), codes, self.n_shots, seed)
        self._own_shots.rows(texts[:1])  # too few rows or shots are an error now, not in predict
        return np.arange(len(texts), dtype=np.intp)

    def _make_encoder(self, base: BaseModel, *, leave_out: bool = False) -> PromptEncoder:
        if self._own_shots is None:
            return super()._make_encoder(base)
        return VariantEncoder(
            base.tokenizer,
            self.prompt_,
            self.label_words_,
            self.max_length_,
            partial(self._own_shots.demonstrations, leave_out=leave_out),
        )

    def _calibrate_by_rows(
        self,
        texts: list[str],
        codes: NDArray[np.intp],
        shots: NDArray[np.intp],
        rng: np.random.RandomState,
    ) -> Calibration:
        if self._own_shots is None:
            return super()._calibrate_by_rows(texts, codes, shots, rng)
        # Every row may be a shot, so a row is held out where it is left out of its own prompt.
        rows = held_out_rows(texts, codes, (), rng)
        if not len(rows):
            return no_calibration(len(self.classes_))
        scorer = LabelScorer(
            self._scorer.model,
            self._make_encoder(self._base, leave_out=True),
            max_batch_tokens=self._token_budget(),
        )
        return fit_calibration(scorer.score([texts[i] for i in rows]), codes[rows])
