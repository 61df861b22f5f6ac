"""Check the contents of packages, and that the wheel works outside the repository.

    python -m build --outdir FOLDER
    python tools/packaging/check.py FOLDER           # contents, then the smoke test
    python tools/packaging/check.py --installed      # the smoke test on the installed package

The smoke test unpacks the wheel into an empty folder and uses the installed dependencies.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

IN_THE_WHEEL = (
    "instructclf/__init__.py",
    "instructclf/py.typed",
    "instructclf/bundled/model/model.safetensors",
    "instructclf/bundled/model/tokenizer.json",
    "instructclf/bundled/model/README.md",
    "instructclf/datasets/reviews.jsonl",
)
IN_THE_SDIST = (
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "constraints.txt",
    "docs/index.md",
    "examples/sentiment.py",
    "pyproject.toml",
    "src/instructclf/bundled/model/model.safetensors",
    "tests/fixtures.py",
    "tox.ini",
)
LARGEST_WHEEL = 30_000_000
SMOKE_TEST = """
import multiprocessing
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import instructclf
from instructclf import InstructionTunedClassifier, PromptClassifier, TrainingOptions, load
from instructclf.datasets import load_reviews

assert sys.argv[1] in instructclf.__file__, instructclf.__file__
assert version("instructclf") == instructclf.__version__
train = load_reviews("train")
texts, labels = train.texts[:20], train.labels[:20]
classifier = PromptClassifier(n_shots=4, random_state=0).fit(texts, labels)
text = ["Broke on the first day. Schön wäre 駄目 🙁"]
probabilities = classifier.predict_proba(text)
assert probabilities.sum().round(6) == 1
for _ in range(2):  # the second one replaces the first
    classifier.save("prompted")
    assert (load("prompted").predict_proba(text) == probabilities).all()

options = TrainingOptions(checkpoint_dir="checkpoints")
tuned = InstructionTunedClassifier(
    n_shots=4, max_epochs=1, training_options=options, random_state=0
).fit(texts, labels)
assert len(list(Path("checkpoints").iterdir())) == 1
for _ in range(2):
    tuned.save("saved")
    tuned.export("exported")
assert (load("saved").predict_proba(text) == tuned.predict_proba(text)).all()
PromptClassifier("exported", n_shots=0).fit(texts, labels).predict(text)

Path("new.csv").write_text("text\\n" + text[0], encoding="utf-8")
program = [sys.executable, "-m", "instructclf", "predict", "saved", "new.csv", "-o", "out.csv"]
subprocess.run(program, check=True)
written = Path("out.csv").read_text(encoding="utf-8")
assert text[0] in written and tuned.predict(text)[0] in written, written

if sys.platform == "linux":  # no other system lets a process that has computed be forked
    with multiprocessing.get_context("fork").Pool(1) as workers:
        assert workers.apply(tuned.predict, (text,)) == tuned.predict(text)
print("fitted, predicted, tuned, saved and loaded with", instructclf.__file__)
"""


def main() -> None:
    """Check the packages in a folder, or the installed package."""
    if sys.argv[1:] == ["--installed"]:
        run_smoke_test(os.environ | {"PYTHONSAFEPATH": "1"}, within="site-packages")
        return
    (wheel,) = Path(sys.argv[1]).glob("*.whl")
    (sdist,) = Path(sys.argv[1]).glob("*.tar.gz")
    check_wheel(wheel)
    check_sdist(sdist)
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        # PYTHONPATH precedes the repository, which may be installed in this environment.
        run_smoke_test(os.environ | {"PYTHONPATH": folder}, within=folder)


def check_wheel(wheel: Path) -> None:
    """Check that a wheel has the files that it needs, and no others."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        page = archive.read(metadata).decode("utf-8").partition("\n\n")[2]
    if not page.startswith("# instructclf"):
        sys.exit(f"{wheel.name} has no README for the package index.")
    if broken := re.findall(r"\]\((?!https:)[^)]*\)", page):
        sys.exit(f"{wheel.name} links to files that an index does not have: {broken}")
    require(wheel, names, IN_THE_WHEEL)
    strange = [name for name in names if not name.startswith(("instructclf/", "instructclf-"))]
    if strange:
        sys.exit(f"{wheel.name} has unexpected files: {strange}")
    if not any(name.endswith("licenses/LICENSE") for name in names):
        sys.exit(f"{wheel.name} has no licence.")
    if wheel.stat().st_size > LARGEST_WHEEL:
        sys.exit(f"{wheel.name} has {wheel.stat().st_size:,} bytes, over {LARGEST_WHEEL:,}.")


def check_sdist(sdist: Path) -> None:
    """Check that a source archive has the files that it needs."""
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    require(sdist, names, IN_THE_SDIST)


def require(package: Path, names: list[str], expected: tuple[str, ...]) -> None:
    """Exit with an error if a package lacks one of these files."""
    missing = sorted({*expected} - {*names})
    if missing:
        sys.exit(f"{package.name} lacks {missing}.")
    print(f"{package.name}: {len(names)} files, {package.stat().st_size / 1e6:.1f} MB")


def run_smoke_test(environment: dict[str, str], *, within: str) -> None:
    """Use the package in this folder from an empty working directory."""
    with tempfile.TemporaryDirectory() as elsewhere:
        # One epoch learns nothing, and tuning warns about it.
        Path(elsewhere, "smoke.py").write_text(SMOKE_TEST, encoding="utf-8")
        command = [sys.executable, "-W", "ignore::UserWarning", "smoke.py", within]
        subprocess.run(command, cwd=elsewhere, env=environment, check=True)


if __name__ == "__main__":
    main()
