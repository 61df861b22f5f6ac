"""InstructionTunedClassifier on encoder-decoder models: all that it does on decoder-only ones."""

from __future__ import annotations

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import peft
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils._param_validation import InvalidParameterError
from transformers import AutoModelForSeq2SeqLM

from instructclf import (
    InstructionTunedClassifier,
    LoRA,
    PromptClassifier,
    TrainingOptions,
    load,
)
from instructclf.engine.models.registry import get_base_model
from instructclf.engine.models.views import shared_view
from instructclf.engine.tuning import examples
from instructclf.exceptions import (
    FailedRunWarning,
    ModelLoadingError,
    ScoringError,
    TruncationWarning,
)
from tests.encoder_decoders import make_framing_tokenizer, response_loss, score_with_labels
from tests.families import make_encoder_decoder
from tests.fixtures import LABELS, TEXTS

FAMILIES = ["t5", "bart", "t5gemma"]
UNSEEN = ["a thing", "", "good or bad"]
STILL = {"learning_rate": 1e-30, "max_epochs": 1, "calibration": None}
fails = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    """A random model with its tokenizer, saved as users save their models."""
    return save_model(tmp_path_factory.mktemp("models") / request.param, request.param)


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory):
    """A random T5, for what does not depend on the family."""
    return save_model(tmp_path_factory.mktemp("models") / "t5", "t5")


def save_model(folder, family, **changes):
    make_encoder_decoder(family, **changes).save_pretrained(folder)
    make_framing_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def make(t5_folder):
    def make(**changes):
        model = changes.pop("model", t5_folder)
        classifier = InstructionTunedClassifier(
            model, learning_rate=5e-3, max_epochs=8, batch_size=4, random_state=0
        )
        return classifier.set_params(adapter__rank=4).set_params(**changes)

    return make


# Learning


@fails
@pytest.mark.parametrize("loss", ["label", "lm", "lm+label"])
def test_the_first_loss_is_that_of_the_scores_that_prediction_computes(loss, make, folder):
    classifier = make(model=folder, loss=loss, **STILL).fit(TEXTS, LABELS)
    base = classifier.open_model().base
    words = [answers[0] for answers in classifier.label_words_]
    losses = [
        response_loss(
            base.model,
            base.tokenizer,
            classifier.get_prompt(text),
            words,
            label=classifier.classes_.tolist().index(label),
            loss=loss,
        ).item()
        for text, label in zip(TEXTS, LABELS, strict=True)
    ]
    assert classifier.loss_curve_[0] == pytest.approx(np.mean(losses), abs=1e-5)
    if loss == "label":
        scores = classifier.label_log_likelihood(TEXTS)
        right = scores[range(16), np.searchsorted(classifier.classes_, LABELS)]
        expected = np.mean(np.logaddexp.reduce(scores, axis=1) - right)
        assert classifier.loss_curve_[0] == pytest.approx(expected, abs=1e-5)


@fails
@pytest.mark.parametrize("loss", ["label", "lm", "lm+label"])
def test_tuning_learns_its_rows(loss, make, folder):
    classifier = make(model=folder, loss=loss, max_epochs=20).fit(TEXTS, LABELS)
    assert classifier.loss_curve_[-1] < 0.7 * classifier.loss_curve_[0]
    assert classifier.score(TEXTS, LABELS) == 1.0


@fails
def test_the_scores_of_a_tuned_model_are_those_of_passes_with_labels(make, folder):
    classifier = make(model=folder).fit(TEXTS, LABELS)
    view = shared_view(classifier.open_model().base.model)
    tuned = classifier.labeller_.adapter.apply(view)
    expected = score_with_labels(tuned, make_framing_tokenizer(), classifier, UNSEEN)
    found = classifier.label_log_likelihood(UNSEEN)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_base_model_is_left_as_it_was(make, folder):
    classifier = make(model=folder).fit(TEXTS, LABELS)
    base = get_base_model(folder).model
    stored = AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(base.state_dict()[name], weight) for name, weight in stored.items())
    assert not base.training
    assert not any("lora" in name for name, _ in base.named_modules())
    assert classifier.open_model().base.model is base


def test_every_linear_layer_but_the_last_is_tuned_by_default(make):
    names = make().fit(TEXTS, LABELS).adapter_
    tuned = {name.rpartition(".lora_")[0].rpartition(".")[2] for name in names}
    assert tuned == {"q", "k", "v", "o", "wi", "wo"}
    assert {"encoder", "decoder"} <= {part for name in names for part in name.split(".")}


# Options


@fails
def test_gradient_checkpointing_changes_no_prediction(make, folder):
    without, with_it = (
        make(model=folder, training_options__gradient_checkpointing=value)
        .fit(TEXTS, LABELS)
        .predict_proba(TEXTS)
        for value in (False, True)
    )
    np.testing.assert_allclose(with_it, without, atol=1e-5)


def test_a_weight_of_2_equals_a_row_given_twice(make, tmp_path):
    make_encoder_decoder("t5", dtype=torch.float64).save_pretrained(tmp_path / "double")
    make_framing_tokenizer().save_pretrained(tmp_path / "double")
    options = {
        "model": str(tmp_path / "double"),
        "model_options__dtype": "float64",
        "batch_size": 100,
        "calibration": None,
    }
    weights = np.array([2.0, 1.0] * 8)
    rows = np.repeat(np.arange(16), weights.astype(int))
    weighted = make(**options).fit(TEXTS, LABELS, sample_weight=weights)
    again = make(**options).fit([TEXTS[i] for i in rows], [LABELS[i] for i in rows])
    np.testing.assert_allclose(
        weighted.predict_proba(TEXTS), again.predict_proba(TEXTS), rtol=0, atol=1e-6
    )


@fails
def test_class_weights_make_a_class_likelier(make):
    texts, labels = ["the same"] * 8, ["positive", "negative"] * 4
    plain, weighted = (
        make(class_weight=weight, calibration=None).fit(texts, labels).predict_proba(texts)[0, 1]
        for weight in (None, {"positive": 9})
    )
    assert weighted > plain + 0.1


@fails
@pytest.mark.parametrize(
    ("max_epochs", "options", "reason", "n_iter"),
    [
        (2, {}, "max_epochs", 2),
        (9, {"target_loss": 100.0}, "target_loss", 1),
        (9, {"tol": 100.0, "n_iter_no_change": 2}, "n_iter_no_change", 3),
    ],
    ids=["max_epochs", "target_loss", "n_iter_no_change"],
)
def test_training_stops_for_a_reason(max_epochs, options, reason, n_iter, make):
    stopping = TrainingOptions(**({"target_loss": 0.0} | options))
    classifier = make(max_epochs=max_epochs, training_options=stopping).fit(TEXTS, LABELS)
    assert classifier.stopped_by_ == reason
    assert classifier.n_iter_ == n_iter


@fails
@pytest.mark.parametrize("average", ["log_proba", "adapter"])
def test_several_seeds_are_averaged(average, make):
    classifier = make(n_seeds=2, max_epochs=2, training_options__seed_average=average)
    classifier.fit(TEXTS, LABELS)
    np.testing.assert_allclose(classifier.predict_proba(TEXTS).sum(axis=1), 1)
    assert len(classifier.estimators_) == 2


def test_a_warm_start_continues(make):
    classifier = make(training_options__warm_start=True, max_epochs=3)
    first = classifier.fit(TEXTS, LABELS).loss_curve_
    assert classifier.fit(TEXTS, LABELS).loss_curve_[0] < first[0]


def test_a_fit_that_was_cut_off_continues_to_the_same_adapter(make, tmp_path, monkeypatch):
    options = {"adapter__dropout": 0.3, "calibration": None}
    expected = make(**options).fit(TEXTS, LABELS)
    losses, n_calls = examples.response_losses, []

    def interrupt(scores, part):
        n_calls.append(1)
        if len(n_calls) == 7:
            raise KeyboardInterrupt
        return losses(scores, part)

    monkeypatch.setattr(examples, "response_losses", interrupt)
    monkeypatch.setattr("instructclf.engine.tuning.checkpoints._SHARE_OF_TIME", float("inf"))
    cut_off = make(**options, training_options__checkpoint_dir=str(tmp_path / "runs"))
    with pytest.raises(KeyboardInterrupt):
        cut_off.fit(TEXTS, LABELS)
    n_calls.clear()
    monkeypatch.setattr(examples, "response_losses", losses)
    cut_off.fit(TEXTS, LABELS)
    assert cut_off.loss_curve_ == expected.loss_curve_
    assert all(torch.equal(expected.adapter_[name], w) for name, w in cut_off.adapter_.items())


@fails
def test_a_text_that_is_too_long_is_cut_with_a_warning(make):
    texts = [*TEXTS[:8], "good " * 300, *TEXTS[8:]]
    labels = [*LABELS[:8], "positive", *LABELS[8:]]
    classifier = make(max_epochs=1, model_options__max_length=120, calibration=None)
    with pytest.warns(TruncationWarning, match=r"1 text is longer than max_length=120 .*tion 8"):
        classifier.fit(texts, labels)


def test_the_last_layers_alone_are_an_error_with_a_way_out(make):
    with pytest.raises(ValueError, match=r"LoRA\(n_layers=1\) .* Use n_layers=None, which tunes a"):
        make(adapter__n_layers=1).fit(TEXTS, LABELS)


# Adapters of PEFT

KINDS = {
    "LoRA of PEFT's own targets": peft.LoraConfig(r=4, task_type="SEQ_2_SEQ_LM"),
    "DoRA": peft.LoraConfig(r=4, use_dora=True, target_modules=["q", "wo"]),
    "IA3": peft.IA3Config(task_type="SEQ_2_SEQ_LM"),
    "LoRA of the output layer": peft.LoraConfig(r=4, target_modules=["lm_head", "q"]),
}


@fails
@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_an_adapter_of_any_kind_is_tuned_cloned_saved_and_exported(config, make, tmp_path):
    classifier = make(max_epochs=2).set_params(adapter=config).fit(TEXTS, LABELS)
    expected = classifier.label_log_likelihood(UNSEEN)
    copy = clone(classifier).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(copy.label_log_likelihood(UNSEEN), expected)
    classifier.save(tmp_path / "saved")
    again = load(tmp_path / "saved")
    np.testing.assert_array_equal(again.label_log_likelihood(UNSEEN), expected)
    classifier.export(tmp_path / "exported")
    exported = prompt(str(tmp_path / "exported"))
    np.testing.assert_allclose(exported.label_log_likelihood(UNSEEN), expected, rtol=0, atol=1e-5)


def prompt(model):
    return PromptClassifier(model, n_shots=0, calibration=None).fit(TEXTS, LABELS)


def test_an_adapter_for_another_kind_of_model_is_an_error(make, make_tuning):
    wrong = peft.LoraConfig(task_type="CAUSAL_LM")
    match = "has task_type='CAUSAL_LM', and T5ForConditionalGeneration takes 'SEQ_2_SEQ_LM'. Set"
    with pytest.raises(ValueError, match=match):
        make().set_params(adapter=wrong).fit(TEXTS, LABELS)
    wrong = peft.LoraConfig(task_type="SEQ_2_SEQ_LM")
    match = "has task_type='SEQ_2_SEQ_LM', and LlamaForCausalLM takes 'CAUSAL_LM'"
    with pytest.raises(ValueError, match=match):
        make_tuning().set_params(adapter=wrong).fit(TEXTS, LABELS)


def test_a_kind_of_adapter_that_works_outside_the_layers_is_an_error(make):
    config = peft.PromptTuningConfig(num_virtual_tokens=2, task_type="SEQ_2_SEQ_LM")
    with pytest.raises(InvalidParameterError, match="puts into the layers"):
        make().set_params(adapter=config).fit(TEXTS, LABELS)


def test_an_adapter_that_changes_no_score_is_an_error(make):
    with pytest.raises(ScoringError, match="has a part in the scores .* such as 'all-linear'"):
        make(adapter__target_modules=["shared"]).fit(TEXTS, LABELS)


# Saving


def test_pickling_saving_and_loading_change_nothing(make, folder, tmp_path):
    classifier = make(model=folder).fit(TEXTS, LABELS)
    expected = classifier.predict_proba(UNSEEN)
    classifier.save(tmp_path / "saved")
    for copy in (pickle.loads(pickle.dumps(classifier)), load(tmp_path / "saved")):
        np.testing.assert_array_equal(copy.predict_proba(UNSEEN), expected)


def test_peft_loads_the_adapter_and_gives_the_same_scores(make, folder, tmp_path):
    classifier = make(model=folder).fit(TEXTS, LABELS)
    classifier.save(tmp_path / "saved")
    tuned = peft.AutoPeftModelForSeq2SeqLM.from_pretrained(tmp_path / "saved").eval()
    expected = score_with_labels(tuned, make_framing_tokenizer(), classifier, UNSEEN)
    found = classifier.label_log_likelihood(UNSEEN)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_folder_of_a_tuned_classifier_is_a_base_model_too(make, folder, tmp_path):
    classifier = make(model=folder).fit(TEXTS, LABELS)
    expected = classifier.label_log_likelihood(UNSEEN)
    classifier.save(tmp_path / "saved")
    prompted = prompt(str(tmp_path / "saved"))
    np.testing.assert_allclose(prompted.label_log_likelihood(UNSEEN), expected, rtol=0, atol=1e-5)
    further = make(model=str(tmp_path / "saved"), max_epochs=1).fit(TEXTS, LABELS)
    assert further.loss_curve_[0] == pytest.approx(classifier.loss_curve_[-1], abs=0.3)


@pytest.mark.parametrize("task", ["SEQ_2_SEQ_LM", None])
def test_an_adapter_that_peft_has_saved_is_merged(task, make, folder, tmp_path):
    config = peft.LoraConfig(task_type=task, target_modules="all-linear", init_lora_weights=False)
    adapted = peft.get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(folder), config).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    prompted = prompt(str(tmp_path / "adapter"))
    expected = score_with_labels(adapted, make_framing_tokenizer(), prompted, UNSEEN)
    found = prompted.label_log_likelihood(UNSEEN)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_an_adapter_for_another_task_is_not_merged(t5_folder, tmp_path):
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")
    adapted = peft.get_peft_model(make_encoder_decoder("t5"), config)
    adapted.peft_config["default"].base_model_name_or_path = t5_folder
    adapted.save_pretrained(tmp_path / "adapter")
    match = "made for the task CAUSAL_LM, .* T5ForConditionalGeneration, use a SEQ_2_SEQ_LM adapter"
    with pytest.raises(ModelLoadingError, match=match):
        prompt(str(tmp_path / "adapter"))


@fails
@pytest.mark.filterwarnings("ignore:Version v4.12.0 introduces:FutureWarning")
@pytest.mark.parametrize("family", ["t5", "bart", "t5gemma", "encoder-decoder", "mbart"])
def test_an_exported_model_answers_as_the_classifier(family, make, tmp_path):
    folder = save_model(tmp_path / family, family)
    classifier = make(model=folder, max_epochs=2, calibration=None).fit(TEXTS, LABELS)
    classifier.export(tmp_path / "exported")
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "exported").eval()
    expected = score_with_labels(model, make_framing_tokenizer(), classifier, UNSEEN)
    found = classifier.label_log_likelihood(UNSEEN)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


@fails
@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_exported_model_whose_layers_are_no_longer_tied_is_read(family, target, make, tmp_path):
    pair = make_encoder_decoder(family), make_framing_tokenizer()
    classifier = make(model=pair, max_epochs=2, adapter__target_modules=[target])
    classifier.fit(TEXTS, LABELS).export(tmp_path / "exported")
    expected = classifier.label_log_likelihood(UNSEEN)
    assert np.abs(prompt(pair).label_log_likelihood(UNSEEN) - expected).max() > 1e-3
    exported = prompt(str(tmp_path / "exported"))
    np.testing.assert_allclose(exported.label_log_likelihood(UNSEEN), expected, rtol=0, atol=1e-5)


# Shared models


@fails
def test_a_search_loads_one_model(make, t5_folder, tmp_path, n_loads):
    fresh = str(shutil.copytree(t5_folder, tmp_path / "copy"))
    grid = {"adapter__rank": [2, 4], "learning_rate": [1e-3]}
    search = GridSearchCV(make(model=fresh, max_epochs=1), grid, cv=2).fit(TEXTS, LABELS)
    assert n_loads() == 1
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.predict(TEXTS)) == 16


@fails
def test_threads_that_share_a_model_tune_and_answer_as_they_do_alone(make, t5_folder):
    prompted = PromptClassifier(t5_folder, n_shots=4, random_state=0).fit(TEXTS, LABELS)

    def tune(seed):
        adapter = LoRA(rank=4, dropout=0.3)
        classifier = make(random_state=seed, max_epochs=2, adapter=adapter).fit(TEXTS, LABELS)
        return classifier.predict_proba(TEXTS)

    alone = [*map(tune, range(3)), prompted.predict_proba(TEXTS)]
    with ThreadPoolExecutor(4) as pool:
        tuned = pool.map(tune, range(3))
        asked = pool.submit(prompted.predict_proba, TEXTS)
        together = [*tuned, asked.result()]
    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


# Half precision


@fails
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_tuning_learns_its_rows_in_half_precision(dtype, make, folder):
    """transformers keeps one layer of T5 in float32 where the others are in float16."""
    classifier = make(model=folder, max_epochs=20, model_options__dtype=dtype).fit(TEXTS, LABELS)
    assert classifier.score(TEXTS, LABELS) == 1.0
    assert {weight.dtype for weight in classifier.adapter_.values()} == {torch.float32}
    still = make(model=folder, model_options__dtype=dtype).set_params(**STILL)
    full = make(model=folder, model_options__dtype="float32").set_params(**STILL)
    curves = [one.set_params(max_epochs=1).fit(TEXTS, LABELS).loss_curve_ for one in (still, full)]
    assert curves[0] == pytest.approx(curves[1], abs=0.1)


def test_numbers_that_float16_cannot_hold_pass_through_the_layer_that_stays_in_float32(
    make, tmp_path
):
    """Those of published checkpoints of T5 exceed its 65,504."""
    model = make_encoder_decoder("t5")
    outputs = []
    with torch.no_grad():
        for block in (*model.encoder.block, *model.decoder.block):
            block.layer[-1].DenseReluDense.wo.weight.mul_(1e6)
            block.layer[-1].DenseReluDense.register_forward_hook(
                lambda *inputs: outputs.append(inputs[-1].abs().max().item())
            )
    model.save_pretrained(tmp_path / "large")
    make_framing_tokenizer().save_pretrained(tmp_path / "large")
    expected = prompt((model, make_framing_tokenizer())).label_log_likelihood(UNSEEN)
    assert max(outputs) > 65_504
    half = make(model=str(tmp_path / "large"), model_options__dtype="float16", **STILL)
    with pytest.warns(FailedRunWarning, match="another seed"):
        half.fit(TEXTS, LABELS)
    found = half.label_log_likelihood(UNSEEN)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.1)
