"""The simulated device fails where CUDA fails, and counts what CUDA does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.simulated_device.machine import DeviceSideAssertError
from tests.simulated_device.simulation import simulated_gpus


@pytest.fixture
def machine():
    with simulated_gpus(2) as simulated:
        yield simulated


def test_numbers_and_gradients_are_those_of_the_cpu(machine):
    weights, inputs = torch.randn(3, 4), torch.randn(4)
    found = []
    for device in ("cpu", "cuda"):
        parameter = weights.to(device).detach().requires_grad_()
        (parameter @ inputs.to(device)).relu().sum().backward()
        found.append(parameter.grad.cpu())
    assert torch.equal(*found)


def test_tensors_on_two_devices_are_an_error(machine):
    one = torch.ones(3, device="cuda:0")
    for other in (torch.ones(3, device="cuda:1"), torch.ones(3)):
        with pytest.raises(RuntimeError, match=f"same device, but .*{other.device}"):
            one + other
    assert (one + torch.tensor(2)).tolist() == [3, 3, 3]  # a number goes along with the launch


def test_a_device_that_does_not_exist_is_an_error(machine):
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.ones(3, device="cuda:2")


def test_after_an_index_out_of_range_every_call_fails(machine):
    one = torch.ones(3, device="cuda")
    with pytest.raises(DeviceSideAssertError):
        one[torch.tensor([7], device="cuda")]
    with pytest.raises(DeviceSideAssertError, match="device-side assert triggered. index at"):
        one + 1


def test_indices_that_the_host_checks_leave_the_device_alone(machine):
    one = torch.ones(3, device="cuda")
    with pytest.raises(IndexError):
        one[7]
    assert (one + 1).tolist() == [2, 2, 2]


def test_memory_is_limited_and_free_when_the_last_view_is_gone():
    with simulated_gpus(n_bytes=1000) as machine:
        one = torch.zeros(200, device="cuda")  # 800 bytes
        view = one[10:]
        with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate 800 bytes"):
            one + 1
        del one
        assert torch.cuda.mem_get_info() == (200, 1000)
        del view
        assert torch.cuda.mem_get_info() == (1000, 1000)
        assert machine.gpus[0].n_peak == 800


def test_a_module_keeps_tied_weights_on_its_way_to_a_device(machine):
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.weight = one.weight
    nn.Sequential(one, other).to("cuda:1")
    assert other.weight is one.weight
    assert one.weight.device == torch.device("cuda:1")


def test_launches_waits_and_uploads_are_counted(machine):
    one = torch.ones(3).to("cuda")
    (one * 2)[one.bool()].sum().item()
    names = {
        kind: [event.operator for event in machine.events if event.kind == kind]
        for kind in ("launch", "synchronisation", "upload")
    }
    assert names == {
        "launch": ["mul", "_to_copy", "index", "sum"],
        "synchronisation": ["index", "_local_scalar_dense"],
        "upload": ["_to_copy"],
    }


def test_each_device_has_its_random_numbers(machine):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, same = (torch.rand(3, device=f"cuda:{i}").cpu() for i in range(2))
    assert torch.equal(one, same)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(torch.rand(3, device="cuda").cpu(), one)


def heads(*shape, dtype=torch.bfloat16):
    return torch.randn(*shape, device="cuda", dtype=dtype)


def flash(query, key, value, **options):
    return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, **options)


def efficient(query, key, value, bias=None, **options):
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, compute_log_sumexp=True, **options
    )


@pytest.mark.parametrize(
    ("attend", "shape", "dtype", "match"),
    [
        (flash, (1, 2, 5, 12), torch.bfloat16, "multiple of 8"),
        (flash, (1, 2, 5, 264), torch.bfloat16, "at most 256"),
        (flash, (1, 2, 5, 8), torch.float32, "only support fp16 and bf16"),
        (efficient, (1, 2, 5, 12), torch.bfloat16, "not correctly aligned"),
        (efficient, (1, 2, 5, 8), torch.float64, "no kernel found"),
    ],
)
def test_fused_attention_refuses_what_its_kernels_refuse(machine, attend, shape, dtype, match):
    with pytest.raises(RuntimeError, match=match):
        attend(*(heads(*shape, dtype=dtype) for _ in range(3)))


def test_old_devices_have_no_flash_attention_and_no_bfloat16():
    with simulated_gpus(capability=(7, 5)):
        assert not torch.cuda.is_bf16_supported(including_emulation=False)
        half = [heads(1, 2, 5, 8, dtype=torch.float16) for _ in range(3)]
        with pytest.raises(RuntimeError, match="only supports Ampere"):
            flash(*half)
        efficient(*half)
        with pytest.raises(RuntimeError, match="no kernel found"):
            efficient(*(heads(1, 2, 5, 8) for _ in range(3)))


def test_the_efficient_kernel_takes_masks_only_at_aligned_addresses(machine):
    inputs = [heads(1, 2, 5, 8) for _ in range(3)]
    mask = torch.zeros(1, 2, 5, 5, device="cuda", dtype=torch.bfloat16)
    with pytest.raises(RuntimeError, match="attn_bias is not correctly aligned"):
        efficient(*inputs, mask)


def test_the_efficient_kernel_pads_its_normalisers(machine):
    _, normaliser, *_ = efficient(*(heads(1, 2, 5, 8) for _ in range(3)))
    assert normaliser.shape == (1, 2, 32)
    assert normaliser.isnan().sum() == 2 * (32 - 5)
