"""Saved classifiers predict the same elsewhere; damaged and foreign folders are errors."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from peft import IA3Config, LoraConfig, PeftModel
from sklearn.exceptions import NotFittedError
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import instructclf
from instructclf import PromptClassifier, PromptTemplate, load
from instructclf.calibration import LabelledRowsCalibrator
from instructclf.engine.local_models import open_language_model
from instructclf.exceptions import ModelLoadingError, SavedClassifierError
from instructclf.sampling import FacilityLocationSampler, KMeansSampler
from tests.fixtures import LABELS, TEXTS, make_model, make_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")

UNSEEN = ["good", "", "bad {input} </s>", "a film that is long and not so good"]
OPTIONS = {
    "default": {},
    "definitions": {"label_definitions": {"positive": "They like it.", "negative": "No | <b>."}},
    "several words": {"verbalizer": {"positive": ["good", "fine"], "negative": ("bad",)}},
    "a template": {"template": PromptTemplate("{instruction}\nText: {input}\nVerdict: {response}")},
    "a sampler": {"sampler": KMeansSampler()},
    "a calibrator": {"calibration": LabelledRowsCalibrator(standard_error=0.3)},
    "seeds": {"n_seeds": 2},
    "an order of labels": {"label_order": ["positive", "negative"]},
    "cyclic orders": {"n_seeds": 2, "label_order": "cyclic"},
    "model options": {"model_options__max_length": 200, "model_options__dtype": "float64"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_predictions_are_the_same_to_the_last_bit(options, make_classifier, tmp_path):
    classifier = make_classifier(**options).fit(TEXTS, LABELS)
    classifier.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert type(loaded) is type(classifier)
    assert repr(loaded) == repr(classifier)
    np.testing.assert_array_equal(
        loaded.label_log_likelihood(UNSEEN), classifier.label_log_likelihood(UNSEEN)
    )
    np.testing.assert_array_equal(
        loaded.predict_log_proba(UNSEEN), classifier.predict_log_proba(UNSEEN)
    )
    np.testing.assert_array_equal(loaded.predict(UNSEEN), classifier.predict(UNSEEN))


def test_one_adapter_of_several_seeds_is_saved_too(make_tuning, tmp_path):
    classifier = make_tuning(n_seeds=2, training_options__seed_average="adapter").fit(TEXTS, LABELS)
    classifier.save(tmp_path / "saved")
    np.testing.assert_array_equal(
        load(tmp_path / "saved").predict_log_proba(UNSEEN), classifier.predict_log_proba(UNSEEN)
    )


@pytest.mark.parametrize(
    "options", [{}, {"n_seeds": 2, "label_order": "random"}], ids=["one seed", "seeds"]
)
def test_shots_per_text_are_saved_with_the_rows_to_choose_from(options, make_prompting, tmp_path):
    classifier = make_prompting(sampler="knn", **options).fit(TEXTS, LABELS)
    classifier.save(tmp_path / "saved")
    np.testing.assert_array_equal(
        load(tmp_path / "saved").predict_log_proba(UNSEEN), classifier.predict_log_proba(UNSEEN)
    )


@pytest.mark.parametrize("n_seeds", [1, 2])
@pytest.mark.parametrize(
    "config",
    [LoraConfig(r=2, use_dora=True, target_modules="all-linear"), IA3Config()],
    ids=["DoRA", "IA3"],
)
def test_an_adapter_of_any_kind_is_saved_with_its_configuration(
    config, n_seeds, make_tuning, tmp_path
):
    classifier = make_tuning(adapter=config, n_seeds=n_seeds).fit(TEXTS, LABELS)
    classifier.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert type(loaded.adapter) is type(config)
    np.testing.assert_array_equal(
        loaded.predict_log_proba(UNSEEN), classifier.predict_log_proba(UNSEEN)
    )


def test_a_loaded_classifier_can_start_warm(make_tuning, tmp_path):
    classifier = make_tuning(training_options__warm_start=True).fit(TEXTS, LABELS)
    classifier.save(tmp_path / "saved")
    again = load(tmp_path / "saved").fit(TEXTS, LABELS)
    classifier.fit(TEXTS, LABELS)
    assert again.loss_curve_ == classifier.loss_curve_


@pytest.mark.parametrize(
    "labels",
    [[3, 1], [True, False], ["z", "ä"], [2.0, 1.0], np.array(["z", "a"], dtype=object)],
    ids=["int", "bool", "str", "float", "object"],
)
def test_labels_keep_their_type(labels, make_prompting, tmp_path):
    y = np.repeat(labels, 8)
    words = {labels[0]: "good", labels[1]: "bad"}
    classifier = make_prompting(verbalizer=words).fit(TEXTS, y)
    classifier.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert loaded.classes_.dtype == classifier.classes_.dtype
    assert loaded.verbalizer == words
    np.testing.assert_array_equal(loaded.predict(UNSEEN), classifier.predict(UNSEEN))


def test_a_loaded_classifier_may_be_fitted_again(make_classifier, tmp_path):
    classifier = make_classifier().fit(TEXTS, LABELS)
    classifier.save(tmp_path / "saved")
    again = load(tmp_path / "saved").fit(TEXTS, LABELS)
    np.testing.assert_array_equal(
        again.predict_log_proba(UNSEEN), classifier.predict_log_proba(UNSEEN)
    )


def test_a_fresh_process_predicts_the_same(make_tuning, tmp_path):
    classifier = make_tuning().fit(TEXTS, LABELS)
    classifier.save(tmp_path / "saved")
    program = (
        "import json, sys, instructclf\n"
        "loaded = instructclf.load(sys.argv[1])\n"
        "print(json.dumps(loaded.predict_proba(json.loads(sys.argv[2])).tolist()))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "saved"), json.dumps(UNSEEN)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    np.testing.assert_allclose(json.loads(printed), classifier.predict_proba(UNSEEN), rtol=1e-5)


def test_a_classifier_is_loaded_from_the_current_folder(make_prompting, tmp_path, monkeypatch):
    classifier = make_prompting().fit(TEXTS, LABELS)
    classifier.save(tmp_path / "saved")
    monkeypatch.chdir(tmp_path / "saved")
    np.testing.assert_array_equal(load(".").predict(UNSEEN), classifier.predict(UNSEEN))


def test_saving_again_replaces_what_was_there(make_prompting, tmp_path):
    make_prompting(n_shots=2).fit(TEXTS, LABELS).save(tmp_path / "saved")
    make_prompting(n_shots=4).fit(TEXTS, LABELS).save(tmp_path / "saved")
    assert load(tmp_path / "saved").n_shots == 4


def test_control_characters_survive(make_prompting, tmp_path):
    texts = [f"{text} \x00 \u2028 \u202e" for text in TEXTS]
    classifier = make_prompting().fit(texts, LABELS)
    classifier.save(tmp_path / "saved")
    assert load(tmp_path / "saved").prompt_ == classifier.prompt_


# Files


def test_a_folder_holds_json_markdown_and_safetensors(make_tuning, tmp_path):
    make_tuning().fit(TEXTS, LABELS).save(tmp_path / "saved")
    names = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert names == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "classifier.json",
    ]


def test_peft_loads_the_adapter_and_gives_the_same_scores(
    make_tuning, model_folder, tokenizer, tmp_path
):
    classifier = make_tuning(calibration=None).fit(TEXTS, LABELS)
    classifier.save(tmp_path / "saved")
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    tuned = PeftModel.from_pretrained(base, str(tmp_path / "saved")).merge_and_unload()
    scorer = open_language_model((tuned, tokenizer)).label_scorer(classifier.labeller_.question)
    expected = classifier.label_log_likelihood(UNSEEN)
    np.testing.assert_allclose(scorer.score(UNSEEN), expected, rtol=0, atol=1e-5)


def test_a_record_of_another_kind_is_refused(make_prompting, tmp_path):
    folder = save(make_prompting, tmp_path)
    edit(folder, lambda record: record["fitted"].update(prompt={"record": "Popen"}))
    with pytest.raises(SavedClassifierError, match="'Popen'.* which this version cannot read"):
        load(folder)
    folder = save(make_prompting, tmp_path)
    stranger = {"estimator": "Popen", "parameters": {"dict": []}}
    edit(folder, lambda record: record["parameters"].update(sampler=stranger))
    with pytest.raises(SavedClassifierError, match="'Popen'.* which this version cannot read"):
        load(folder)
    edit(folder, lambda record: record.update({"class": "Popen"}))
    with pytest.raises(SavedClassifierError, match="is of a 'Popen'. There are: Instruction"):
        load(folder)


# What goes wrong


def save(make, tmp_path):
    folder = tmp_path / "saved"
    make().fit(TEXTS, LABELS).save(folder)
    return folder


def edit(folder, change):
    path = folder / "classifier.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_an_unfitted_classifier_is_not_saved(make_classifier, tmp_path):
    with pytest.raises(NotFittedError):
        make_classifier().save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_model_given_as_objects_cannot_be_saved(model, tokenizer, tmp_path):
    classifier = PromptClassifier((model, tokenizer), n_shots=2).fit(TEXTS, LABELS)
    with pytest.raises(SavedClassifierError, match="give that folder as 'model'"):
        classifier.save(tmp_path / "saved")


def test_a_parameter_that_cannot_be_saved_is_an_error_with_its_name(make_prompting, tmp_path):
    classifier = make_prompting(random_state=np.random.RandomState(0)).fit(TEXTS, LABELS)
    with pytest.raises(SavedClassifierError, match="random_state=.* cannot be saved.*Give an int"):
        classifier.save(tmp_path / "saved")

    class Sampler(FacilityLocationSampler):
        pass

    classifier = make_prompting(sampler=Sampler()).fit(TEXTS, LABELS)
    with pytest.raises(SavedClassifierError, match="sampler=.* Only estimators of this package"):
        classifier.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_folder_without_a_classifier_is_an_error(tmp_path):
    with pytest.raises(SavedClassifierError, match="it has no classifier.json"):
        load(tmp_path)
    (tmp_path / "classifier.json").write_text("{")
    with pytest.raises(SavedClassifierError, match="no JSON, so it is truncated or corrupt"):
        load(tmp_path)
    (tmp_path / "classifier.json").write_text('{"format": "something else"}')
    with pytest.raises(SavedClassifierError, match="its format is not 'instructclf classifier'"):
        load(tmp_path)


def test_a_changed_or_missing_file_is_an_error_with_its_name(make_tuning, tmp_path):
    folder = save(make_tuning, tmp_path)
    weights = folder / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(SavedClassifierError, match=r"adapter_model.safetensors is not the file"):
        load(folder)
    weights.unlink()
    with pytest.raises(SavedClassifierError, match=r"adapter_model.safetensors is missing"):
        load(folder)


def test_a_card_may_be_edited(make_prompting, tmp_path):
    folder = save(make_prompting, tmp_path)
    (folder / "README.md").write_text("My own words.")
    assert load(folder).classes_.tolist() == ["negative", "positive"]


def test_a_newer_schema_is_an_error_that_asks_for_an_upgrade(make_prompting, tmp_path):
    folder = save(make_prompting, tmp_path)
    edit(folder, lambda record: record.update(schema=99))
    with pytest.raises(SavedClassifierError, match="schema 99.*Upgrade instructclf"):
        load(folder)


def test_an_unknown_parameter_is_an_error_with_its_name(make_prompting, tmp_path):
    folder = save(make_prompting, tmp_path)
    with pytest.raises(SavedClassifierError, match="PromptClassifier has no parameter 'modle'"):
        load(folder, modle="x")


# The base model


CHANGES = [{"adapter__alpha": 64}, {"adapter__rank": 8}, {"n_seeds": 3}]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_parameters_set_after_fit_do_not_change_predictions(change, make_tuning, tmp_path):
    classifier = make_tuning().fit(TEXTS, LABELS)
    expected = classifier.predict_proba(UNSEEN)
    classifier.set_params(**change)
    restored = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(restored.predict_proba(UNSEEN), expected)
    with pytest.raises(SavedClassifierError, match="describe another adapter.*Set them back"):
        classifier.save(tmp_path / "saved")


@pytest.mark.parametrize("change", [*CHANGES, {"sampler": "random"}], ids=str)
def test_parameters_of_the_fit_cannot_be_set_while_loading(change, make_tuning, tmp_path):
    folder = save(make_tuning, tmp_path)
    with pytest.raises(SavedClassifierError, match=r"cannot be set while loading.*fit again"):
        load(folder, **change)


def test_a_base_model_that_has_moved_is_found_by_its_new_path(
    make_prompting, fresh_folder, tmp_path
):
    classifier = make_prompting().fit(TEXTS, LABELS)
    classifier.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved", model=fresh_folder)
    assert loaded.model == fresh_folder
    np.testing.assert_array_equal(loaded.predict_proba(UNSEEN), classifier.predict_proba(UNSEEN))


# Paths


@pytest.fixture
def project(model_folder, tmp_path, monkeypatch):
    """Return a folder with a model, which is the current folder and the home folder."""
    shutil.copytree(model_folder, tmp_path / "project" / "models" / "tiny")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("HOME", str(tmp_path / "project"))
    return tmp_path / "project"


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("models/tiny", "saved"),
        ("./models/tiny", "results/today/saved"),
        (Path("models", "tiny"), "saved"),
    ],
)
@pytest.mark.usefixtures("project")
def test_a_relative_model_is_found_from_another_folder(name, saved, make_classifier, monkeypatch):
    project = Path.cwd()
    classifier = make_classifier().set_params(model=name).fit(TEXTS, LABELS)
    classifier.save(saved)
    monkeypatch.chdir(project.parent)
    loaded = load(f"project/{saved}")
    assert Path(loaded.model).samefile(project / "models" / "tiny")
    np.testing.assert_array_equal(loaded.predict_proba(UNSEEN), classifier.predict_proba(UNSEEN))


def test_a_model_that_moved_along_with_the_folder_is_found(
    make_tuning, project, tmp_path, monkeypatch
):
    tuned = make_tuning().set_params(model=str(project / "models" / "tiny")).fit(TEXTS, LABELS)
    tuned.save("saved")
    monkeypatch.chdir(tmp_path)
    project.rename(tmp_path / "elsewhere")
    assert (load("elsewhere/saved").predict_proba(UNSEEN) == tuned.predict_proba(UNSEEN)).all()


def test_a_model_is_found_in_the_saved_folder(make_prompting, project, tmp_path, monkeypatch):
    make_prompting(model="models/tiny").fit(TEXTS, LABELS).save("saved")
    (project / "saved" / "models").mkdir()
    (project / "models" / "tiny").rename(project / "saved" / "models" / "tiny")
    (project / "saved").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert Path(load("moved").model).samefile(tmp_path / "moved" / "models" / "tiny")


def test_a_name_that_is_valid_here_stays_as_it_is(make_prompting, project):
    make_prompting(model="models/tiny").fit(TEXTS, LABELS).save("saved")
    assert load(project / "saved").model == "models/tiny"


def test_a_relative_model_that_is_gone_is_an_error_with_a_remedy(
    make_tuning, project, tmp_path, monkeypatch
):
    make_tuning(max_epochs=1).set_params(model="models/tiny").fit(TEXTS, LABELS).save("saved")
    (project / "models").rename(project / "gone")
    monkeypatch.chdir(tmp_path)
    match = (
        r"'models/tiny' of .* is not here: .* Say where it is: load\('project/saved', model=\.\.\."
    )
    with pytest.raises(ModelLoadingError, match=match):
        load("project/saved")
    assert load("project/saved", model="project/gone/tiny").model == "project/gone/tiny"
    with pytest.raises(
        ModelLoadingError, match="on 'models/tiny', which is a path that does not ex"
    ):
        PromptClassifier("project/saved").fit(TEXTS, LABELS)


def test_a_tuned_classifier_with_a_relative_model_is_a_base_from_another_folder(
    make_tuning, project, tmp_path, monkeypatch
):
    tuned = make_tuning().set_params(model="models/tiny", calibration=None).fit(TEXTS, LABELS)
    tuned.save("results/saved")
    monkeypatch.chdir(tmp_path)
    prompted = PromptClassifier("project/results/saved", n_shots=0, calibration=None)
    prompted.fit(TEXTS, LABELS)
    expected = tuned.label_log_likelihood(UNSEEN)
    np.testing.assert_allclose(prompted.label_log_likelihood(UNSEEN), expected, rtol=0, atol=1e-5)


def test_the_error_about_a_model_on_the_hub_says_how_to_name_another(make_prompting, tmp_path):
    folder = save(make_prompting, tmp_path)
    path = folder / "classifier.json"
    record = json.loads(path.read_text())
    record["parameters"]["model"], record["base_path"] = "nobody/none", None
    path.write_text(json.dumps(record))
    with pytest.raises(ModelLoadingError, match=r"'nobody/none' could .* model=\.\.\.\)\.$"):
        load(folder)
    with pytest.raises(ModelLoadingError, match=r"'nobody/other' could(?!.*model=)"):
        load(folder, model="nobody/other")


@pytest.mark.parametrize("folder", ["saved", "a/b/saved"])
def test_the_home_folder_is_found(folder, make_tuning, project):
    options = {"model": "~/models/tiny", "training_options__checkpoint_dir": "~/kept"}
    tuned = make_tuning(**options).fit(TEXTS, LABELS)
    assert list((project / "kept").iterdir())
    tuned.save(f"~/{folder}")
    tuned.export(f"~/{folder}-model")
    assert (project / folder / "classifier.json").is_file()
    assert (project / f"{folder}-model" / "config.json").is_file()
    assert not (project / "~").exists()
    loaded = load(f"~/{folder}")
    np.testing.assert_array_equal(loaded.predict_proba(UNSEEN), tuned.predict_proba(UNSEEN))


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "~nobody-of-this-name/saved", "models/a.gguf"])
def test_a_name_of_no_folder_is_an_error(name):
    with pytest.raises(SavedClassifierError, match="is no path of|There is no saved classifier in"):
        load(name)


# Other base models


def test_another_base_model_is_an_error(make_prompting, tokenizer, tmp_path):
    folder = save(make_prompting, tmp_path)
    other = make_model()
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.001)
    other.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(SavedClassifierError, match="another base model.*the weights differs"):
        load(folder, model=str(tmp_path / "other"))


def test_a_base_model_that_changed_after_fit_is_noticed(make_classifier, fresh_folder, tmp_path):
    classifier = make_classifier(n_shots=4).set_params(model=fresh_folder).fit(TEXTS, LABELS)
    other = make_model()
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.001)
    other.save_pretrained(fresh_folder)
    classifier.save(tmp_path / "saved")
    with pytest.raises(SavedClassifierError, match="another base model.*the weights differs"):
        load(tmp_path / "saved")


def test_another_tokenizer_is_an_error(make_prompting, model, tokenizer, tmp_path):
    folder = save(make_prompting, tmp_path)
    model.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    path = tmp_path / "other" / "tokenizer.json"
    path.write_text(
        path.read_text().replace('"add_prefix_space": false', '"add_prefix_space": true')
    )
    with pytest.raises(SavedClassifierError, match="another base model.*the tokenizer differs"):
        load(folder, model=str(tmp_path / "other"))


def test_another_precision_is_the_same_base_model(make_prompting, tmp_path):
    folder = save(make_prompting, tmp_path)
    loaded = load(folder, model_options__dtype="bfloat16")
    assert loaded.predict(UNSEEN).shape == (4,)


# One model for transformers alone


@pytest.mark.parametrize(
    "options", [{}, {"n_seeds": 2, "training_options__seed_average": "adapter"}], ids=str
)
def test_an_exported_model_gives_the_same_scores(options, make_tuning, tmp_path):
    classifier = make_tuning(**options).fit(TEXTS, LABELS)
    classifier.export(tmp_path / "model")
    prompted = PromptClassifier(str(tmp_path / "model"), n_shots=0).fit(TEXTS, LABELS)
    expected = classifier.label_log_likelihood(UNSEEN)
    actual = prompted.label_log_likelihood(UNSEEN)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_a_tied_output_layer_is_exported_on_its_own(make_tuning, tmp_path):
    make_model(tie_word_embeddings=True).save_pretrained(tmp_path / "tied")
    make_tokenizer().save_pretrained(tmp_path / "tied")
    adapter = LoraConfig(target_modules=["q_proj", "lm_head"])
    classifier = make_tuning(model=str(tmp_path / "tied"), adapter=adapter).fit(TEXTS, LABELS)
    classifier.export(tmp_path / "model")
    prompted = PromptClassifier(str(tmp_path / "model"), n_shots=0).fit(TEXTS, LABELS)
    expected = classifier.label_log_likelihood(UNSEEN)
    np.testing.assert_allclose(prompted.label_log_likelihood(UNSEEN), expected, rtol=0, atol=1e-5)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["tie_word_embeddings"] is False


def test_a_model_given_in_4_bits_is_exported_in_full_precision(make_tuning, model_folder, tmp_path):
    pytest.importorskip("bitsandbytes", reason="4 bits take the quantization extra")
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = AutoModelForCausalLM.from_pretrained(model_folder, quantization_config=config)
    classifier = make_tuning(model=(model, make_tokenizer())).fit(TEXTS, LABELS)
    expected = classifier.label_log_likelihood(UNSEEN)
    classifier.export(tmp_path / "model")
    prompted = PromptClassifier(str(tmp_path / "model"), n_shots=0).fit(TEXTS, LABELS)
    np.testing.assert_allclose(prompted.label_log_likelihood(UNSEEN), expected, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(classifier.label_log_likelihood(UNSEEN), expected)


def test_an_export_that_would_answer_otherwise_is_an_error(make_tuning, tmp_path):
    adapter = LoraConfig(target_modules=["q_proj"], lora_bias=True)
    with pytest.warns(UserWarning, match="lora_bias|invalid shape"):
        classifier = make_tuning(adapter=adapter, max_epochs=1).fit(TEXTS, LABELS)
    match = r"This adapter could not be merged\. PEFT said: .* Save the classifier, which keeps"
    with (
        pytest.warns(UserWarning, match="lora_bias|invalid shape"),
        pytest.raises(SavedClassifierError, match=match),
    ):
        classifier.export(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_exported_prompt_is_that_of_the_classifier(make_tuning, tmp_path):
    classifier = make_tuning().fit(TEXTS, LABELS)
    classifier.export(tmp_path / "model")
    record = json.loads((tmp_path / "model" / "prompt.json").read_text())
    assert record["before"] + "a text" + record["after"] == classifier.get_prompt("a text")
    assert record["answers"] == [["negative"], ["positive"]]
    assert record["calibration"] == {
        "bias": classifier.calibration_.bias.tolist(),
        "temperature": classifier.calibration_.temperature,
        "n_rows": classifier.calibration_.n_rows,
    }


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions.")
@pytest.mark.parametrize("umask", [0o022, 0o007, 0o077], ids=oct)
def test_all_files_have_the_permissions_of_new_files(umask, make_tuning, tmp_path):
    before = os.umask(umask)
    try:
        classifier = make_tuning(training_options__checkpoint_dir=str(tmp_path / "checkpoints"))
        classifier.fit(TEXTS, LABELS).save(tmp_path / "saved")
        classifier.export(tmp_path / "model")
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".safetensors", ".json", ".md"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~umask}


def test_exporting_leaves_the_base_model_unchanged(make_tuning, make_prompting, tmp_path):
    prompted = make_prompting().fit(TEXTS, LABELS)
    before = prompted.label_log_likelihood(UNSEEN)
    make_tuning().fit(TEXTS, LABELS).export(tmp_path / "model")
    np.testing.assert_array_equal(prompted.label_log_likelihood(UNSEEN), before)


def test_several_adapters_are_not_exported_as_one_model(make_tuning, tmp_path):
    classifier = make_tuning(n_seeds=2).fit(TEXTS, LABELS)
    with pytest.raises(SavedClassifierError, match="seed_average='adapter', or export one of"):
        classifier.export(tmp_path / "model")
    classifier.estimators_[0].export(tmp_path / "model")


# The card


def test_the_card_describes_the_classifier(make_tuning, tmp_path):
    definitions = {"positive": "They like it.", "negative": "No | <b>."}
    classifier = make_tuning(label_definitions=definitions).fit(TEXTS, LABELS)
    classifier.save(tmp_path / "saved", scores={"accuracy": 0.91234})
    card = (tmp_path / "saved" / "README.md").read_text()
    assert ModelCard(card).data.to_dict() == {
        "library_name": "peft",
        "pipeline_tag": "text-classification",
        "tags": ["instructclf", "lora"],
    }  # no base_model, since the hub knows no folders of this machine
    assert "| positive | positive | They like it. |" in card
    assert r"| negative | negative | No \| &lt;b>. |" in card
    assert "| rows used | 4 |" in card
    assert "| accuracy | 0.9123 |" in card
    assert f"| instructclf | {instructclf.__version__} |" in card


def test_a_classifier_tuned_in_4_bits_is_exported_in_full_precision(make_tuning, tmp_path):
    pytest.importorskip("bitsandbytes", reason="4 bits take the quantization extra")
    classifier = make_tuning(model_options__quantization="4bit").fit(TEXTS, LABELS)
    classifier.save(tmp_path / "saved")
    with pytest.raises(
        SavedClassifierError, match=r"load\(folder, model_options__quantization=None\)"
    ):
        classifier.export(tmp_path / "model")
    load(tmp_path / "saved", model_options__quantization=None).export(tmp_path / "model")
    assert (tmp_path / "model" / "config.json").is_file()
