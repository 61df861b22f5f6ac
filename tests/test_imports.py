"""The cost of imports: each test asks a fresh interpreter which packages it has loaded."""

import subprocess
import sys

import pytest

HEAVY = {"numpy", "peft", "scipy", "sklearn", "torch", "transformers"}


def loaded_by(statement):
    """Return the heavy packages that a statement loads."""
    code = f"import sys\n{statement}\nprint(*set({sorted(HEAVY)}).intersection(sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    return set(ended.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import instructclf",
        "import instructclf; dir(instructclf); instructclf.__version__",
        "from instructclf import PromptTemplate",
        "import instructclf.exceptions",
        "import instructclf.prompts",
        "from instructclf.command_line.program import make_parser; make_parser().format_help()",
    ],
)
def test_names_and_prompts_load_no_heavy_package(statement):
    assert loaded_by(statement) == set()


@pytest.mark.parametrize("room", ["sampling", "datasets", "calibration"])
def test_rooms_below_the_engine_load_no_deep_learning(room):
    assert loaded_by(f"import instructclf.{room}") <= {"numpy", "scipy", "sklearn"}


@pytest.mark.parametrize("name", ["PromptClassifier", "InstructionTunedClassifier"])
def test_classifiers_import_peft_only_when_they_tune(name):
    assert "peft" not in loaded_by(f"from instructclf import {name}; {name}()")
