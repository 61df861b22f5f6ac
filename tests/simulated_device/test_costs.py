"""How often the host waits for the device, and how many kernels it launches, a batch and a step.

The numbers are those of today. A change that needs more of them has to say why.
"""

from __future__ import annotations

import pytest

from instructclf import InstructionTunedClassifier, ModelOptions, PromptClassifier
from tests.fixtures import LABELS, TEXTS, make_model, make_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")
NEW_TEXTS = [f"a thing of number {i}" for i in range(12)]


def costs_of_more(machine, few, many):
    """Return how many events of each kind a larger piece of work has in addition to a small one."""
    counts = []
    for work in (few, many):
        machine.events.clear()
        work()
        kinds = ("launch", "synchronisation", "upload")
        counts.append({kind: machine.count(kind).total() for kind in kinds})
    return {kind: counts[1][kind] - counts[0][kind] for kind in counts[0]}


def pair(n_layers):
    return make_model(num_hidden_layers=n_layers).to("cuda"), make_tokenizer()


def cost_of_a_batch(machine, n_layers):
    classifier = PromptClassifier(pair(n_layers), n_shots=4, calibration=None, random_state=0)
    classifier.set_params(model_options=ModelOptions(max_batch_tokens=1)).fit(TEXTS, LABELS)
    classifier.predict(NEW_TEXTS[:1])  # computes the prefix
    return costs_of_more(
        machine,
        lambda: classifier.predict(NEW_TEXTS[1:2]),
        lambda: classifier.predict(NEW_TEXTS[2:4]),
    )


def test_a_batch_waits_twice_and_launches_few_kernels_a_layer(machine):
    two, four = (cost_of_a_batch(machine, n_layers) for n_layers in (2, 4))
    assert two["synchronisation"] <= 2
    assert two["upload"] <= 6
    assert (four["launch"] - two["launch"]) / 2 <= 55
    assert four["synchronisation"] == two["synchronisation"]
    assert four["upload"] == two["upload"]


def cost_of_a_step(machine, n_layers):
    model = pair(n_layers)

    def tune(max_epochs):
        classifier = InstructionTunedClassifier(
            model, n_shots=4, max_epochs=max_epochs, batch_size=4, learning_rate=0.01,
            loss="lm+label", random_state=0, calibration=None,
        )  # fmt: skip
        classifier.set_params(training_options__target_loss=0.0).fit(TEXTS, LABELS)
        assert len(classifier.loss_curve_) == max_epochs

    tune(4)  # tries strategies
    return costs_of_more(machine, lambda: tune(4), lambda: tune(5))


def test_a_step_of_tuning_waits_as_often_whatever_the_number_of_layers(machine):
    two, four = (cost_of_a_step(machine, n_layers) for n_layers in (2, 4))
    assert two["synchronisation"] <= 3
    assert two["upload"] <= 12
    assert (four["launch"] - two["launch"]) / 2 <= 415
    assert four["synchronisation"] == two["synchronisation"]
    assert four["upload"] == two["upload"]
