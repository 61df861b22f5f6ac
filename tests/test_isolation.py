"""Network access and unpickling: each test asks a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

WATCH = """
import sys
seen = []
def note(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind"}:
        family = getattr(arguments[0], "family", None)
        if family is None or family.name != "AF_UNIX":
            seen.append((event, arguments[1:]))
    elif event == "pickle.find_class":
        unpickled.append(arguments)
unpickled = []
sys.addaudithook(note)
"""
FIT = """
import instructclf
classifier = instructclf.{kind}(sys.argv[1], n_shots=2, random_state=0{more})
classifier.fit(["good thing", "bad thing"], ["positive", "negative"])
classifier.predict_proba(["good", "bad"])
classifier.save(sys.argv[2])
unpickled.clear()
instructclf.load(sys.argv[2]).predict(["good"])
print("seen", seen)
print("unpickled", unpickled)
"""


@pytest.mark.parametrize(
    ("kind", "more"),
    [("PromptClassifier", ""), ("InstructionTunedClassifier", ", max_epochs=1")],
)
def test_nothing_is_sent_and_nothing_is_unpickled(kind, more, model_folder, tmp_path):
    """Importing, fitting, predicting, saving and loading, with the hub not switched off."""
    code = WATCH + textwrap.dedent(FIT).format(kind=kind, more=more)
    online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    ended = subprocess.run(
        [sys.executable, "-c", code, model_folder, str(tmp_path / "saved")],
        env=online,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["seen []", "unpickled []"]
