"""Freed memory goes back to the system, and compiled products do not pile up."""

from __future__ import annotations

import ctypes
import os
import sys

import psutil
import pytest

from instructclf.engine.models.registry import get_base_model
from instructclf.engine.running.memory import give_back_free_memory

CAPACITIES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY")
N_BLOCKS, SIZE = 20_000, 4096


@pytest.fixture
def unset_capacity(monkeypatch):
    for name in CAPACITIES:
        monkeypatch.setenv(name, "")  # so that whatever is set afterwards goes away again
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("unset_capacity")
def test_opening_a_model_bounds_the_products_that_are_kept(model_folder):
    get_base_model(model_folder)
    assert 15 <= int(os.environ[CAPACITIES[0]]) < 1024


@pytest.mark.usefixtures("unset_capacity")
def test_a_pair_of_objects_bounds_them_too(model, tokenizer):
    get_base_model((model, tokenizer))
    assert CAPACITIES[0] in os.environ


@pytest.mark.usefixtures("unset_capacity")
@pytest.mark.parametrize("name", CAPACITIES)
def test_a_bound_that_the_user_has_set_stays(model_folder, monkeypatch, name):
    monkeypatch.setenv(name, "7")
    get_base_model(model_folder)
    assert [os.environ.get(known) for known in CAPACITIES if known in os.environ] == ["7"]


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="only glibc gives memory back on request",
)
def test_memory_that_was_freed_below_a_piece_in_use_goes_back():
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    blocks = [library.malloc(ctypes.c_size_t(SIZE)) for _ in range(N_BLOCKS)]
    for block in blocks:
        ctypes.memset(ctypes.c_void_p(block), 1, SIZE)
    *most, last = blocks  # with the last one in use, the heap cannot shrink by itself
    for block in most:
        library.free(ctypes.c_void_p(block))
    before = psutil.Process().memory_info().rss
    give_back_free_memory()
    assert before - psutil.Process().memory_info().rss > N_BLOCKS * SIZE / 2
    library.free(ctypes.c_void_p(last))
