"""Public names are those listed in ``__all__``, and no others are visible."""

import importlib
import pkgutil
from types import ModuleType

import pytest

import instructclf

# The engine and the bundled model serve the classifiers; their modules are imported by name.
PUBLIC = (
    "instructclf",
    "instructclf.calibration",
    "instructclf.classifiers",
    "instructclf.datasets",
    "instructclf.evaluation",
    "instructclf.exceptions",
    "instructclf.prompts",
    "instructclf.sampling",
)


def exposed(module):
    """Return the public names of a module, its submodules aside."""
    submodules = {info.name for info in pkgutil.iter_modules(getattr(module, "__path__", ()))}
    names = {name for name in dir(module) if not name.startswith("_")} - submodules
    return {name for name in names if not isinstance(getattr(module, name), ModuleType)}


@pytest.mark.parametrize("name", PUBLIC)
def test_all_lists_what_is_exposed(name):
    module = importlib.import_module(name)
    assert set(module.__all__) - {"__version__"} == exposed(module)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_in_all_resolves_once(name):
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert getattr(module, public) is getattr(module, public)


def test_names_at_the_top_are_those_of_their_rooms():
    for name in set(instructclf.__all__) - {"__version__"}:
        public = getattr(instructclf, name)
        assert public.__module__.startswith("instructclf."), name
        room = importlib.import_module(".".join(public.__module__.split(".")[:2]))
        assert getattr(room, name) is public


def test_dir_lists_the_public_names():
    assert dir(instructclf) == sorted(instructclf.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'instructclf' has no attribute 'Classifier'"):
        _ = instructclf.Classifier
