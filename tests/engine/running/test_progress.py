"""Bars and lines on standard error, and how they are switched off."""

from __future__ import annotations

import sys
import time

import pytest
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from transformers.utils import logging

from instructclf.engine.running import progress
from instructclf.engine.running.progress import Progress, announced


def test_steps_that_differ_are_shown_with_the_estimate_that_is_given(capsys):
    with Progress("work", 2, verbose=1, alike=False) as bar:
        bar.advance(0, note="first")
        bar.advance(note="first", seconds_left=75)
    err = capsys.readouterr().err
    assert "work:   0%" in err
    assert "0/2 [00:00, first]" in err
    assert "1/2 [00:00, about 01:15 left, first]" in err


@pytest.fixture
def hasty(monkeypatch):
    """Announce work after a moment."""
    monkeypatch.setattr(progress, "_PATIENCE", 0.01)


def announce(verbose=1, seconds=0.2):
    with announced("Loading a whale", verbose=verbose):
        time.sleep(seconds)


def test_work_that_takes_long_is_announced(hasty, capsys):
    announce()
    assert capsys.readouterr() == ("", "Loading a whale\n")


def test_work_that_is_done_at_once_is_not(capsys):
    announce(seconds=0)
    assert capsys.readouterr() == ("", "")


def test_work_is_announced_only_when_verbose(hasty, capsys):
    announce(verbose=0)
    assert capsys.readouterr() == ("", "")


def disable_without_libraries(monkeypatch):
    for name in ("transformers.utils.logging", "huggingface_hub.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def disable_by_transformers(monkeypatch):
    logging.disable_progress_bar()


def disable_by_the_hub(monkeypatch):
    disable_progress_bars()


@pytest.mark.parametrize(
    "disable", [disable_without_libraries, disable_by_transformers, disable_by_the_hub]
)
def test_switches_of_other_libraries_are_obeyed(disable, hasty, monkeypatch, capsys):
    with monkeypatch.context() as context:
        disable(context)
        try:
            announce()
            with Progress("work", 2, verbose=1) as bar:
                bar.advance()
        finally:
            logging.enable_progress_bar()
            enable_progress_bars()
        assert capsys.readouterr() == ("", "")
    with Progress("work", 2, verbose=1):
        assert "work:   0%" in capsys.readouterr().err


def test_an_error_while_loading_ends_the_waiting(capsys):
    with pytest.raises(KeyError, match="whale"), announced("Loading", verbose=1):
        raise KeyError("whale")
    assert capsys.readouterr() == ("", "")
