"""A base model is loaded once per process, however many ask for it."""

from __future__ import annotations

import gc
import os
import shutil
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from instructclf.engine.models import devices
from instructclf.engine.models.registry import N_KEPT_ALIVE, clear_base_models, get_base_model
from instructclf.exceptions import ModelLoadingError
from tests.fixtures import make_model


@pytest.fixture(autouse=True)
def _no_models():
    clear_base_models()
    yield
    clear_base_models()


def test_a_path_is_a_folder_like_any_other(model_folder):
    assert get_base_model(Path(model_folder)) is get_base_model(model_folder)


def test_many_gets_load_once(fresh_folder, n_loads):
    models = {id(get_base_model(fresh_folder)) for _ in range(5)}
    assert len(models) == 1
    assert n_loads() == 1


def test_many_threads_load_once(fresh_folder, n_loads):
    with ThreadPoolExecutor(8) as pool:
        models = list(pool.map(get_base_model, [fresh_folder] * 32))
    assert len({id(model) for model in models}) == 1
    assert n_loads() == 1


def test_names_for_the_same_folder_load_once(fresh_folder, n_loads, monkeypatch):
    monkeypatch.chdir(Path(fresh_folder).parent)
    names = [fresh_folder, "copy", "./copy", "copy/../copy", fresh_folder + os.sep]
    assert len({id(get_base_model(name)) for name in names}) == 1
    assert n_loads() == 1


def test_naming_the_default_device_or_data_type_loads_nothing_new(fresh_folder, n_loads):
    expected = get_base_model(fresh_folder, device="cpu")
    assert get_base_model(fresh_folder, device="cpu", dtype="auto") is expected
    assert get_base_model(fresh_folder, device="cpu", dtype="float32") is expected
    assert n_loads() == 1


def test_another_data_type_is_another_model(fresh_folder, n_loads):
    single = get_base_model(fresh_folder, device="cpu")
    double = get_base_model(fresh_folder, device="cpu", dtype="float64")
    assert single.model.dtype == torch.float32
    assert double.model.dtype == torch.float64
    assert n_loads() == 2


def test_by_default_a_model_keeps_the_precision_it_is_stored_in_where_that_is_fast(
    tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr(devices, "has_bfloat16_instructions", lambda: True)
    folders = {}
    for dtype in (torch.float32, torch.bfloat16):
        folders[dtype] = tmp_path / str(dtype)
        make_model(dtype=dtype).save_pretrained(folders[dtype])
        tokenizer.save_pretrained(folders[dtype])
        assert get_base_model(folders[dtype], device="cpu").model.dtype == dtype


def test_no_more_than_a_few_models_are_kept_alive(model_folder, tmp_path):
    references = []
    for number in range(N_KEPT_ALIVE + 2):
        name = shutil.copytree(model_folder, tmp_path / str(number))
        references.append(weakref.ref(get_base_model(str(name))))
    gc.collect()
    assert [reference() is not None for reference in references] == [False, False, True, True]


def test_the_model_used_last_is_kept_longest(model_folder, tmp_path, n_loads):
    names = [str(shutil.copytree(model_folder, tmp_path / str(n))) for n in range(N_KEPT_ALIVE + 1)]
    for name in [*names[:N_KEPT_ALIVE], names[0], names[-1]]:
        get_base_model(name)
    gc.collect()
    before = n_loads()
    get_base_model(names[0])
    assert n_loads() == before
    get_base_model(names[1])
    assert n_loads() == before + 1


def test_a_model_that_someone_holds_is_found_however_many_came_after(
    model_folder, tmp_path, n_loads
):
    first = get_base_model(str(shutil.copytree(model_folder, tmp_path / "first")))
    for number in range(N_KEPT_ALIVE + 1):
        get_base_model(str(shutil.copytree(model_folder, tmp_path / str(number))))
    before = n_loads()
    assert get_base_model(str(tmp_path / "first")) is first
    assert n_loads() == before


def test_a_model_that_was_cleared_is_freed_and_loaded_again(fresh_folder, n_loads):
    reference = weakref.ref(get_base_model(fresh_folder))
    clear_base_models()
    gc.collect()
    assert reference() is None
    get_base_model(fresh_folder)
    assert n_loads() == 2


def test_clearing_forgets_models_that_somebody_holds(fresh_folder, n_loads):
    held = get_base_model(fresh_folder)
    clear_base_models()
    assert get_base_model(fresh_folder) is not held
    assert n_loads() == 2


# Files that change


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"]
)
def test_a_model_is_loaded_anew_once_a_file_of_it_was_written(name, fresh_folder, n_loads):
    path = Path(fresh_folder) / name
    path.touch()  # the template is optional
    first = get_base_model(fresh_folder)
    assert get_base_model(fresh_folder) is first
    path.write_bytes(path.read_bytes())
    assert get_base_model(fresh_folder) is not first
    assert n_loads() == 2


def test_what_takes_the_place_of_a_file_counts_even_with_its_size_and_time(fresh_folder):
    path = Path(fresh_folder) / "model.safetensors"
    first, times = get_base_model(fresh_folder), path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.with_name("new").write_bytes(content)
    os.utime(path.with_name("new"), ns=(times.st_atime_ns, times.st_mtime_ns))
    path.with_name("new").replace(path)
    assert get_base_model(fresh_folder) is not first


def test_files_that_are_not_read_do_not_count(fresh_folder, n_loads):
    first = get_base_model(fresh_folder)
    (Path(fresh_folder) / "README.md").write_text("A model.")
    assert get_base_model(fresh_folder) is first
    assert n_loads() == 1


@pytest.mark.parametrize("changed", ["config.json", "tokenizer_config.json"])
def test_the_model_below_an_adapter_counts(changed, fresh_folder, tmp_path):
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
    model = AutoModelForCausalLM.from_pretrained(fresh_folder)
    get_peft_model(model, config).save_pretrained(str(tmp_path / "adapter"))
    first = get_base_model(str(tmp_path / "adapter"))
    assert get_base_model(str(tmp_path / "adapter")) is first
    path = Path(fresh_folder) / changed
    path.write_text(path.read_text())
    assert get_base_model(str(tmp_path / "adapter")) is not first


def test_a_failed_load_can_be_tried_again(model_folder, tmp_path):
    folder = tmp_path / "late"
    folder.mkdir()
    with pytest.raises(ModelLoadingError, match=r"has no config\.json"):
        get_base_model(str(folder))
    shutil.copytree(model_folder, folder, dirs_exist_ok=True)
    assert get_base_model(str(folder)).name == str(folder)


def test_loaded_objects_keep_device_and_data_type(model, tokenizer, n_loads):
    base = get_base_model((model, tokenizer), device="cpu", dtype="float64")
    assert base.model is model
    assert base.tokenizer is tokenizer
    assert model.dtype == torch.float32
    assert n_loads() == 0
