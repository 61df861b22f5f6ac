"""What ``fit`` shows while it works, when asked to."""

from __future__ import annotations

from pathlib import Path

import pytest

from instructclf import PromptClassifier, PromptFeatures, bundled
from instructclf.engine.models.registry import clear_base_models
from instructclf.engine.running import progress
from tests.engine.test_seam import UniformModel
from tests.fixtures import LABELS, TEXTS

pytestmark = pytest.mark.filterwarnings("ignore::instructclf.exceptions.FailedRunWarning")


def test_a_bar_counts_the_rows_that_calibrate(make_classifier, capsys):
    make_classifier(verbose=1).fit(TEXTS, LABELS)
    err = capsys.readouterr().err
    assert "Calibrating: 100%" in err
    assert "12/12" in err


def test_a_bar_counts_the_shots_that_calibrate(make_prompting, capsys):
    quiet = make_prompting(n_shots=None).fit(TEXTS, LABELS)
    assert capsys.readouterr() == ("", "")
    shown = make_prompting(n_shots=None, verbose=1).fit(TEXTS, LABELS)
    err = capsys.readouterr().err
    assert "Calibrating: 100%" in err
    assert "16/16" in err
    assert shown.calibration_.bias.tolist() == quiet.calibration_.bias.tolist()


def test_a_bar_counts_the_rows_that_a_sampler_asks_the_model_about(make_prompting, capsys):
    make_prompting(sampler="uncertainty", verbose=1).fit(TEXTS, LABELS)
    assert "Choosing shots: 100%" in capsys.readouterr().err


# Loading


@pytest.fixture
def hasty(monkeypatch):
    """Announce loading at once, and load anew."""
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    clear_base_models()


def test_fit_says_which_model_it_loads_and_from_where(hasty, make_classifier, capsys):
    classifier = make_classifier(verbose=1)
    classifier.fit(TEXTS, LABELS)
    folder = classifier.model
    assert f"Loading the model {folder!r} from {folder}\n" in capsys.readouterr().err


def test_a_relative_folder_is_named_in_full(hasty, fresh_folder, monkeypatch, capsys):
    monkeypatch.chdir(Path(fresh_folder).parent)
    PromptFeatures("copy", verbose=1).fit(TEXTS)
    assert f"Loading the model 'copy' from {fresh_folder}\n" in capsys.readouterr().err


def test_the_bundled_model_is_named_with_its_folder(hasty, capsys):
    PromptClassifier(verbose=1).open_model()
    expected = f"Loading the model 'bundled' from {bundled.model_path()}\n"
    assert expected in capsys.readouterr().err


def test_the_data_type_that_was_chosen_is_named_once(hasty, make_classifier, capsys):
    line = f"The model {make_classifier().model!r} computes in float32.\n"
    make_classifier(verbose=1).open_model()
    assert line in capsys.readouterr().err
    make_classifier(verbose=1).open_model()
    assert line not in capsys.readouterr().err


def test_a_data_type_that_was_asked_for_is_not_repeated(hasty, make_classifier, capsys):
    make_classifier(verbose=1, model_options__dtype="float32").open_model()
    assert "computes in" not in capsys.readouterr().err


def test_nothing_is_said_when_nothing_is_asked_for(hasty, make_classifier, capsys):
    make_classifier().fit(TEXTS, LABELS)
    assert capsys.readouterr() == ("", "")


def test_nothing_is_said_of_a_model_that_is_loaded_already(hasty, capsys):
    PromptClassifier(UniformModel(), verbose=1).open_model()
    assert capsys.readouterr() == ("", "")
