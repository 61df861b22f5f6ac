"""How often the host waits for the device, and how many kernels it launches, a batch and a step.

Budgets are the numbers of today: a change that needs more of them has to say why. Beside them
stands what transformers and PEFT launch for the same layers, once over full prompts.
"""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from instructclf import InstructionTunedClassifier, ModelOptions, PromptClassifier
from tests.fixtures import LABELS, TEXTS, make_model, make_tokenizer

pytestmark = [
    pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*deprecated"),
]
NEW_TEXTS = [f"a thing of number {i}" for i in range(12)]
SHORT = {"positive": "positive", "negative": "negative"}
LONG = {"positive": "really very positive", "negative": "rather very bad"}
KINDS = ("launch", "synchronisation", "upload")
HALF, FULL = torch.bfloat16, torch.float32


def counts(machine, work):
    """Return how many events of each kind a piece of work has."""
    machine.events.clear()
    work()
    return {kind: machine.count(kind).total() for kind in KINDS}


def costs_of_more(machine, few, many):
    """Return how many events a larger piece of work has in addition to a small one."""
    small, large = counts(machine, few), counts(machine, many)
    return {kind: large[kind] - small[kind] for kind in KINDS}


def each_layer_and_the_rest(cost, *options):
    """Return the events of one more layer, and those of a model that has two."""
    two, four = (cost(n_layers, *options) for n_layers in (2, 4))
    return {kind: (four[kind] - two[kind]) / 2 for kind in KINDS}, two


def a_model(n_layers, dtype):
    """A model of the shape of Llama, whose heads of keys serve two heads of queries."""
    return make_model(num_hidden_layers=n_layers, hidden_size=64, dtype=dtype).to("cuda")


def predicts_in_batches(machine, classifier, fits):
    """Return the events of one more batch."""
    classifier.set_params(model_options=ModelOptions(max_batch_tokens=1))
    fits(classifier)
    classifier.predict(NEW_TEXTS[:1])  # computes the prefix
    return costs_of_more(
        machine,
        lambda: classifier.predict(NEW_TEXTS[1:2]),
        lambda: classifier.predict(NEW_TEXTS[2:4]),
    )


@pytest.mark.parametrize(
    ("dtype", "words", "n_launches"),
    [(HALF, SHORT, 28), (HALF, LONG, 30), (FULL, SHORT, 32), (FULL, LONG, 32)],
    ids=["half", "half, long labels", "full", "full, long labels"],
)
def test_a_batch_waits_once_and_launches_few_kernels_a_layer(machine, dtype, words, n_launches):
    def cost(n_layers):
        pair = a_model(n_layers, dtype), make_tokenizer()
        classifier = PromptClassifier(pair, n_shots=4, calibration=None, random_state=0)
        classifier.set_params(verbalizer=words)
        return predicts_in_batches(machine, classifier, lambda c: c.fit(TEXTS, LABELS))

    layer, two = each_layer_and_the_rest(cost)
    assert layer == {"launch": n_launches, "synchronisation": 0, "upload": 0}
    assert two["synchronisation"] == 1
    assert two["upload"] <= 4
    assert two["launch"] - 2 * n_launches <= 45


def test_a_layer_launches_fewer_kernels_than_in_transformers(machine):
    """Its norms are one kernel each, which outweighs a second part of attention and its merging."""
    ids = torch.arange(3, 43).view(4, 10).to("cuda")

    @torch.inference_mode()
    def cost(n_layers):
        model = a_model(n_layers, HALF)
        return counts(machine, lambda: model(ids, use_cache=False))

    layer, _ = each_layer_and_the_rest(cost)
    assert layer["launch"] == 38


def tuning(model, max_epochs, words, loss):
    classifier = InstructionTunedClassifier(
        model, n_shots=4, max_epochs=max_epochs, batch_size=4, learning_rate=0.01,
        loss=loss, random_state=0, calibration=None, verbalizer=words,
    )  # fmt: skip
    return classifier.set_params(training_options__target_loss=0.0)


@pytest.mark.parametrize(
    ("dtype", "words", "n_launches"),
    [(HALF, SHORT, 186), (HALF, LONG, 190), (FULL, SHORT, 194), (FULL, LONG, 194)],
    ids=["half", "half, long labels", "full", "full, long labels"],
)
def test_a_step_of_tuning_waits_once_and_launches_few_kernels_a_layer(
    machine, dtype, words, n_launches
):
    """Flash attention takes no mask, as labels of several tokens need, and no full precision."""

    def cost(n_layers):
        pair = a_model(n_layers, dtype), make_tokenizer()

        def tune(max_epochs):
            classifier = tuning(pair, max_epochs, words, "lm+label").fit(TEXTS, LABELS)
            assert len(classifier.loss_curve_) == max_epochs

        tune(4)  # tries strategies
        return costs_of_more(machine, lambda: tune(4), lambda: tune(5))

    layer, two = each_layer_and_the_rest(cost)
    assert layer == {"launch": n_launches, "synchronisation": 0, "upload": 0}
    assert two["synchronisation"] == 1
    assert two["upload"] <= 10
    assert two["launch"] - 2 * n_launches <= 70


def test_a_layer_launches_fewer_kernels_a_step_than_in_peft(machine):
    """Prefix and rows go through it one after the other, and in PEFT all at once."""
    ids = torch.arange(3, 43).view(4, 10).to("cuda")

    def cost(n_layers):
        config = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(a_model(n_layers, HALF), config)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimiser = torch.optim.AdamW(weights, fused=True)

        def step():
            model(ids, labels=ids, use_cache=False).loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            optimiser.zero_grad()

        step()  # makes room for the moments of AdamW
        return counts(machine, step)

    layer, _ = each_layer_and_the_rest(cost)
    assert layer["launch"] == 203


def test_an_adapter_adds_few_kernels_to_a_layer(machine):
    """Two for each of its seven products, less those that queries, keys and values share."""

    def cost(n_layers):
        pair = a_model(n_layers, HALF), make_tokenizer()
        classifier = tuning(pair, 1, SHORT, "label")
        return predicts_in_batches(machine, classifier, lambda c: c.fit(TEXTS, LABELS))

    layer, two = each_layer_and_the_rest(cost)
    assert layer == {"launch": 28 + 4 + 7, "synchronisation": 0, "upload": 0}
    assert two["synchronisation"] == 1
