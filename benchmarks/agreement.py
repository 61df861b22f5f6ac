"""Losses and gradients at equal weights: whether we and the trainers minimise the same.

A trainer minimises the language loss: the negative log-likelihood of the response's tokens, its end
included, as a mean over all tokens of a batch. Ours is a mean over rows of each row's mean over
tokens, plus the loss of the label among the labels. The language losses are equal if all responses
have the same number of tokens; otherwise a loop over single rows gives ours.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import models
import texts
import torch
from fits import DEFINITIONS, our_classifier, render, without_restart
from measuring import Settings
from peers.trainers import (
    TuningSettings,
    add_adapter,
    loop_loss,
    make_trainer,
    tokenised,
)
from peers.trl_sft import make_trl_trainer
from tables import Table, number, small
from torch.optim.optimizer import register_optimizer_step_pre_hook

from instructclf.engine.models.views import shared_view

N_ROWS = 8
EQUAL = {"negative": "negative", "positive": "positive"}
UNEQUAL = {"negative": "negative", "positive": "positive, on the whole"}
"""Verbalizers whose responses have the same number of tokens, and different ones."""


def measure(settings: Settings) -> list[dict[str, Any]]:
    """Compare with responses of equal length on every model, and of unequal length on one."""
    records = []
    for name in settings.models:
        model, tokenizer = models.load(name, toy=settings.toy, seed=settings.seed)
        for verbalizer in (EQUAL, UNEQUAL) if name == models.BUNDLED else (EQUAL,):
            comparison = Comparison(model, tokenizer, verbalizer)
            records.append({"model": name, "words": list(verbalizer.values()), **comparison.run()})
    return records


class Comparison:
    """The rows of one batch, and the losses and gradients of all trainers on them.

    Parameters
    ----------
    model, tokenizer : object
        A base model in float32, and its tokenizer.
    verbalizer : dict of str to str
        The words of each label.
    """

    def __init__(self, model: Any, tokenizer: Any, verbalizer: dict[str, str]) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._verbalizer = verbalizer
        rows = texts.reviews(N_ROWS)
        self._texts, self._labels = rows.texts, rows.labels
        self._settings = TuningSettings(n_epochs=2, batch_size=N_ROWS, learning_rate=1e-2)
        self._rows = self._rendered(self._labels)

    def run(self) -> dict[str, Any]:
        """Return the first losses, and distances of gradients in the second step."""
        weights, gradients, losses = self._tune()
        single = [[example] for example in tokenised(self._rows, self._tokenizer)]
        batch = [example for (example,) in single]
        view = self._view(None)
        with torch.no_grad():
            label_loss = self._label_loss(view).item()
            row_mean = sum(self._loop_loss(view, one).item() for one in single) / len(single)
            token_mean = self._loop_loss(view, batch).item()
        trainer, trainer_gradients = self._trainer(make_trainer, weights)
        trl, trl_gradients = self._trainer(make_trl_trainer, weights)
        loop = self._gradients(weights, lambda model: self._loop_loss(model, batch))
        ours = self._gradients(weights, lambda model: self._our_loss(model, single))
        return {
            "ours_language": losses[0] - label_loss,
            "ours_label": label_loss,
            "loop_over_rows": row_mean,
            "loop_over_tokens": token_mean,
            "trainer": trainer,
            "trl": trl,
            "gradient_ours": _distance(gradients, _clipped(ours)),
            "gradient_trainer": _distance(trainer_gradients, loop),
            "gradient_trl": _distance(trl_gradients, loop),
        }

    def _tune(self) -> tuple[list[Any], list[Any], list[float]]:
        """Tune for two steps. Return adapter and gradients of the second, and both losses."""
        weights: list[Any] = []
        gradients: list[Any] = []

        def keep(optimiser: Any, *_: Any) -> None:
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            weights[:] = [p.detach().clone() for p in parameters]
            gradients[:] = [p.grad.detach().clone() for p in parameters]

        classifier = our_classifier(
            (self._model, self._tokenizer), self._settings, verbalizer=self._verbalizer
        )
        hook = register_optimizer_step_pre_hook(keep)
        try:
            with without_restart():
                classifier.fit(self._texts, self._labels)
        finally:
            hook.remove()
        return weights, gradients, classifier.loss_curve_

    def _trainer(self, make: Callable[..., Any], weights: Sequence[Any]) -> tuple[float, list[Any]]:
        """Return a trainer's loss before it has trained, and its gradients at given weights."""
        with tempfile.TemporaryDirectory() as folder:
            view = shared_view(self._model)
            trainer = make(view, self._tokenizer, self._rows, self._settings, folder)
            batch = next(iter(trainer.get_train_dataloader()))
            n_targets = (batch["labels"] != -100).sum()

            def loss_of(model: Any) -> Any:
                return trainer.compute_loss(model, dict(batch), num_items_in_batch=n_targets)

            first = loss_of(trainer.model).item()
            _put(trainer.model, weights)
            loss_of(trainer.model).backward()
        return first, [p.grad for p in _adapter(trainer.model)]

    def _gradients(self, weights: Sequence[Any], loss_of: Callable[[Any], Any]) -> list[Any]:
        view = self._view(weights)
        loss_of(view).backward()
        return [p.grad for p in _adapter(view)]

    def _view(self, weights: Sequence[Any] | None) -> Any:
        view = add_adapter(shared_view(self._model), self._settings)
        if weights is not None:
            _put(view, weights)
        return view

    def _our_loss(self, model: Any, single: Sequence[Any]) -> Any:
        """Return our loss, from the full logits of full prompts one by one."""
        language = sum(self._loop_loss(model, one) for one in single) / len(single)
        return language + self._label_loss(model)

    def _label_loss(self, model: Any) -> Any:
        """Return the mean negative log-probability of the right label among the labels."""
        columns = []
        for label in DEFINITIONS:
            encoded = tokenised(self._rendered([label] * N_ROWS), self._tokenizer)
            columns.append(torch.stack([self._log_likelihood(model, one) for one in encoded]))
        right = [list(DEFINITIONS).index(label) for label in self._labels]
        return torch.nn.functional.cross_entropy(torch.stack(columns, 1), torch.tensor(right))

    def _log_likelihood(self, model: Any, example: dict[str, list[int]]) -> Any:
        """Return the log-likelihood of a label's tokens, without its end."""
        unended = {name: values[:-1] for name, values in example.items()}
        n_targets = sum(target != -100 for target in unended["labels"])
        return -self._loop_loss(model, [unended]) * n_targets

    def _loop_loss(self, model: Any, batch: Sequence[Any]) -> Any:
        return loop_loss(model, batch, self._tokenizer.pad_token_id)

    def _rendered(self, labels: Sequence[str]) -> list[Any]:
        return render(self._texts, labels, self._verbalizer)


def _adapter(model: Any) -> list[Any]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _put(model: Any, weights: Sequence[Any]) -> None:
    with torch.no_grad():
        for parameter, weight in zip(_adapter(model), weights, strict=True):
            parameter.copy_(weight)


def _clipped(gradients: Sequence[Any]) -> list[Any]:
    """Scale gradients to a norm of at most 1, as training does before each step."""
    norm = sum(float(gradient.square().sum()) for gradient in gradients) ** 0.5
    return [gradient / max(norm, 1.0) for gradient in gradients]


def _distance(one: Sequence[Any], other: Sequence[Any]) -> float:
    """Return the largest relative distance of two lists of tensors, tensor by tensor."""
    return max(
        float((a - b).norm() / b.norm().clamp(min=1e-12)) for a, b in zip(one, other, strict=True)
    )


def tabulate(records: Sequence[dict[str, Any]]) -> list[Table]:
    """Return the table of losses and that of gradients."""
    losses = ("ours_language", "loop_over_rows", "loop_over_tokens", "trainer", "trl", "ours_label")
    gradients = ("gradient_ours", "gradient_trainer", "gradient_trl")
    named = [(f"{r['model']}: {' / '.join(r['words'])}", r) for r in records]
    return [
        Table(
            "Agreement with the trainers: loss of the first step",
            ("", "ours, language part", "loop, mean over rows",
             "loop, mean over tokens", "Trainer", "TRL", "ours, label part"),
            [(name, *(number(record[key], 6) for key in losses)) for name, record in named],
            ("Trainers average over the tokens of a batch, we over its rows, which is the same if "
             "all responses have the same length. Only we minimise the label part as well.",),
        ),
        Table(
            "Agreement with the trainers: largest relative distance of a gradient",
            ("", "ours from full prompts", "Trainer from loop", "TRL from loop"),
            [(name, *(small(record[key]) for key in gradients)) for name, record in named],
            ("In the second step, where both factors of the adapter have gradients; ours with both "
             "parts of the loss, against the same from full logits of full prompts.",),
        ),
    ]  # fmt: skip
