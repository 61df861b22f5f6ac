"""Docstrings of public objects, as numpydoc sees them at run time."""

import importlib
import inspect

import pytest
from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate

from instructclf import (
    InstructionTunedClassifier,
    MultiOutputPromptClassifier,
    PromptClassifier,
    PromptFeatures,
)

# The names at the top come from these rooms.
PUBLIC = (
    "instructclf.calibration",
    "instructclf.classifiers",
    "instructclf.datasets",
    "instructclf.evaluation",
    "instructclf.exceptions",
    "instructclf.prompts",
    "instructclf.sampling",
)
NOT_CHECKED = {
    "ES01",  # an extended summary, if there is more to say
    "SA01",  # "See Also", if there is something related
    "EX01",  # examples, if they show more than the words
    "GL08",  # missing docstrings are found by ruff, which knows the exceptions
    "RT02",  # named return values: scikit-learn writes "labels : ndarray of shape ..."
}


def is_ours(thing):
    return getattr(thing, "__module__", "").startswith("instructclf")


def public_members(cls):
    """Yield the names of public methods and properties that a class of ours defines.

    The docstrings of classes describe their fitted attributes.
    """
    for name, member in inspect.getmembers_static(cls):
        function = member.fget if isinstance(member, property) else member
        function = getattr(function, "__func__", getattr(function, "func", function))
        if name.strip("_") == name and inspect.isfunction(function) and is_ours(function):
            yield name


def public_objects():
    """Yield the paths of public classes, functions, methods and properties."""
    for room in PUBLIC:
        module = importlib.import_module(room)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if not is_ours(thing) or not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            # A protocol has no constructor; the fields of a named tuple are its attributes.
            if not getattr(thing, "_is_protocol", False) and not hasattr(thing, "_fields"):
                yield f"{room}.{name}"
            if inspect.isclass(thing):
                yield from (f"{room}.{name}.{member}" for member in public_members(thing))


@pytest.mark.parametrize("path", sorted(set(public_objects())))
def test_docstring_is_complete(path):
    found = validate(path)["errors"]
    assert [error for error in found if error[0] not in NOT_CHECKED] == []


@pytest.mark.parametrize(
    "kind",
    [PromptClassifier, InstructionTunedClassifier, MultiOutputPromptClassifier, PromptFeatures],
)
def test_fitted_attributes_are_described_by_their_class(kind):
    properties = inspect.getmembers_static(kind, lambda member: isinstance(member, property))
    fitted = {name for name, _ in properties if name.endswith("_") and not name.startswith("_")}
    described = {entry.name for entry in ClassDoc(kind)["Attributes"] if entry.desc}
    assert fitted <= described


def test_parameters_that_both_classifiers_have_are_described_alike():
    prompting, tuning = (
        {entry.name: (entry.type, entry.desc) for entry in ClassDoc(kind)["Parameters"]}
        for kind in (PromptClassifier, InstructionTunedClassifier)
    )
    differing = {
        name for name in prompting.keys() & tuning.keys() if prompting[name] != tuning[name]
    }
    mean_something_else = {"n_shots", "n_seeds", "calibration", "random_state"}
    assert differing == mean_something_else
