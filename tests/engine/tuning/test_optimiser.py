"""A step is that of torch's parts, and a loss or gradient that is not finite is an error."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from instructclf.engine.tuning.optimiser import Optimiser, rate_factor
from instructclf.exceptions import TrainingDivergedError


def make_weights():
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in [(3, 4), (5,)]]


def make_optimiser(weights, **changes):
    options = {
        "learning_rate": 0.1,
        "n_steps": 10,
        "warmup_ratio": 0.25,
        "model_dtype": torch.float32,
    }
    return Optimiser(weights, **(options | changes))


def loss_of(weights, step):
    return sum(((weight - step) ** 2).sum() for weight in weights)


def train(optimiser, weights, steps):
    for step in steps:
        loss = loss_of(weights, step)
        optimiser.scale(loss).backward()
        assert optimiser.step(loss.detach().reshape(1)) == [loss.item()]


def test_steps_are_those_of_adamw_with_a_schedule_and_clipping():
    """The slow twin is assembled from torch's parts."""
    weights, twins = make_weights(), make_weights()
    train(make_optimiser(weights), weights, range(10))
    adamw = torch.optim.AdamW(twins, lr=0.1, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(adamw, lambda step: rate_factor(step, 10, 0.25))
    for step in range(10):
        adamw.zero_grad()
        loss_of(twins, step).backward()
        nn.utils.clip_grad_norm_(twins, 1.0)
        adamw.step()
        schedule.step()
    for weight, twin in zip(weights, twins, strict=True):
        torch.testing.assert_close(weight, twin)


def test_the_rate_rises_and_falls_to_0():
    factors = [rate_factor(step, 10, 0.25) for step in range(11)]
    assert factors[:3] == [1 / 3, 2 / 3, 1.0]
    assert factors[3] == 1.0
    assert factors[3:] == sorted(factors[3:], reverse=True)
    assert factors[10] == 0.0
    assert rate_factor(0, 10, 0.0) == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_restored_optimiser_takes_the_same_steps(dtype):
    weights = make_weights()
    whole = make_optimiser(weights, model_dtype=dtype)
    train(whole, weights, range(4))
    values, tensors = whole.state()
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    train(whole, weights, range(4, 10))
    others = make_weights()
    restored = make_optimiser(others, model_dtype=dtype)
    restored.restore(values, kept)
    assert restored.n_done == 4
    train(restored, others, range(4, 10))
    for weight, other in zip(weights, others, strict=True):
        assert torch.equal(weight, other)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_it_with_step_rate_and_remedy(value):
    weights = make_weights()
    optimiser = make_optimiser(weights)
    train(optimiser, weights, range(2))
    loss_of(weights, 0).backward()
    match = rf"loss became {value} at step 3 of 10 .* rate of 0\.1\. Use a lower learning_rate"
    with pytest.raises(TrainingDivergedError, match=match):
        optimiser.step(torch.tensor([value]))


def test_a_gradient_that_is_no_number_ends_it_before_a_weight_has_changed():
    weights = make_weights()
    before = [weight.detach().clone() for weight in weights]
    optimiser = make_optimiser(weights)
    (weights[0].sum() * float("inf")).backward()
    with pytest.raises(TrainingDivergedError, match=r"loss was 1 and its gradient inf at step 1"):
        optimiser.step(torch.tensor([1.0]))
    assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))


def test_gradients_that_overflow_in_half_precision_lower_the_scale_and_change_no_weight():
    """With a scale of 65,536 this gradient is beyond 65,504; with half of it, it is not."""
    weight = nn.Parameter(torch.zeros(1))
    optimiser = make_optimiser([weight], model_dtype=torch.float16)

    def step():
        optimiser.scale(weight.half().sum() * 1.5).backward()
        return optimiser.step(torch.tensor([1.0]))

    assert step() is None
    assert (weight.item(), optimiser.n_done) == (0.0, 0)
    assert step() == [1.0]
    assert optimiser.n_done == 1
    assert weight.item() < 0.0


def test_gradients_that_overflow_at_any_scale_end_it():
    weight = nn.Parameter(torch.zeros(1))
    optimiser = make_optimiser([weight], model_dtype=torch.float16)

    def step():
        optimiser.scale(weight.sum() * float("inf")).backward()
        return optimiser.step(torch.tensor([1.0]))

    assert [step() for _ in range(16)] == [None] * 16  # as often as 65,536 is halved to 1
    with pytest.raises(TrainingDivergedError, match="its gradient inf at step 1 of 10"):
        step()
    assert weight.item() == 0.0


def test_in_full_precision_losses_are_not_scaled():
    loss = torch.tensor(1.0)
    assert make_optimiser(make_weights()).scale(loss) is loss
