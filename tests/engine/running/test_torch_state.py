"""The state of torch inside the block, after it, in several threads and after a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from instructclf.engine.running.locks import process_state
from instructclf.engine.running.torch_state import own_torch_state

can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="This system cannot fork.")


@pytest.fixture
def double():
    """Make float64 the default data type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_gradients_are_recorded_unless_it_is_inference():
    for outer in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with outer():
            was = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            with own_torch_state(inference=False):
                assert torch.is_grad_enabled()
                assert not torch.is_inference_mode_enabled()
            with own_torch_state(inference=True):
                assert torch.is_inference_mode_enabled()
            assert was == (torch.is_grad_enabled(), torch.is_inference_mode_enabled())


def test_autocast_of_any_device_is_off_inside():
    for device in ("cpu", "cuda", "mps", "xpu"):
        torch.set_autocast_enabled(device, True)
        try:
            with own_torch_state(inference=True):
                assert not torch.is_autocast_enabled(device)
            assert torch.is_autocast_enabled(device)
        finally:
            torch.set_autocast_enabled(device, False)


def test_new_tensors_are_in_float32_on_the_cpu(double):
    with torch.device("meta"):
        with own_torch_state(inference=True), own_torch_state(inference=False):
            inside = torch.ones(1)
        after = torch.ones(1)
    assert (inside.dtype, inside.device.type) == (torch.float32, "cpu")
    assert (after.dtype, after.device.type) == (torch.float64, "meta")


def test_an_error_restores_the_state(double):
    with torch.autocast("cpu"), torch.no_grad():
        with pytest.raises(KeyError), own_torch_state(inference=False):
            raise KeyError
        assert torch.is_autocast_enabled("cpu")
        assert not torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float64


def test_the_default_type_stays_until_the_last_thread_is_done(double):
    entered, may_leave = threading.Event(), threading.Event()

    def compute():
        with own_torch_state(inference=True):
            entered.set()
            may_leave.wait(60)

    other = threading.Thread(target=compute)
    with own_torch_state(inference=True):
        other.start()
        assert entered.wait(60)
    assert torch.get_default_dtype() == torch.float32
    may_leave.set()
    other.join()
    assert torch.get_default_dtype() == torch.float64


def test_threads_that_come_and_go_never_see_the_type_of_the_caller(double):
    def compute(_):
        seen = set()
        for _ in range(300):
            with own_torch_state(inference=True):
                seen.add(torch.get_default_dtype())
        return seen

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(6) as pool:
            assert set().union(*pool.map(compute, range(6))) == {torch.float32}
    finally:
        sys.setswitchinterval(before)
    assert torch.get_default_dtype() == torch.float64


def test_a_thread_waits_while_another_one_loads_a_model_of_another_type():
    loading, found = threading.Event(), []

    def load():  # as transformers does
        with process_state:
            torch.set_default_dtype(torch.bfloat16)
            loading.set()
            time.sleep(0.2)
            found.append(torch.get_default_dtype())
            torch.set_default_dtype(torch.float32)

    thread = threading.Thread(target=load)
    thread.start()
    assert loading.wait(60)
    with own_torch_state(inference=True):
        found.append(torch.get_default_dtype())
    thread.join()
    assert [*found, torch.get_default_dtype()] == [torch.bfloat16, torch.float32, torch.float32]


FORKING = """
import os, sys, torch
from instructclf.engine.running.torch_state import own_torch_state
torch.set_num_threads(int(sys.argv[1]))
with own_torch_state(inference=True):
    torch.ones(1000, 1000) @ torch.ones(1000, 1000)
torch.set_num_threads(int(sys.argv[2]))
child = os.fork()
if child == 0:
    for _ in range(2):
        with own_torch_state(inference=True):
            torch.ones(1000, 1000) @ torch.ones(1000, 1000)
    grandchild = os.fork()
    if grandchild == 0:
        torch.set_num_threads(int(sys.argv[2]))
        with own_torch_state(inference=True):
            torch.ones(1000, 1000) @ torch.ones(1000, 1000)
        os._exit(torch.get_num_threads())
    n_threads = os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
    os._exit(10 * torch.get_num_threads() + n_threads)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@can_fork
@pytest.mark.parametrize(
    ("before", "after", "found", "n_lines"), [(2, 2, 11, 2), (1, 2, 21, 1), (1, 1, 11, 0)]
)
def test_a_child_computes_with_one_thread_if_its_parent_had_several(before, after, found, n_lines):
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, str(before), str(after)],
        env={name: v for name, v in os.environ.items() if name != "OMP_NUM_THREADS"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ended.stdout.strip() == str(found)
    lines = ended.stderr.splitlines()
    assert len([line for line in lines if "It computes with one." in line]) == n_lines
