"""Packages that only some functions need."""

import sys

import pytest

from calandria.base.errors import CalandriaError
from calandria.base.optional import MissingPackageError, OptionalModule, needed_by


def test_a_missing_package_is_an_error_of_two_lines_that_names_what_pip_installs(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingPackageError) as raised, needed_by("segmentation"):
        import skimage.filters  # noqa: F401
    assert str(raised.value).splitlines() == [
        "segmentation needs the package skimage, which this Python environment does not have",
        "install it: pip install scikit-image",
    ]
    assert isinstance(raised.value, CalandriaError)


def test_a_missing_module_of_calandria_itself_stays_a_defect():
    with pytest.raises(ModuleNotFoundError, match=r"calandria\.nothing"), needed_by("a test"):
        import calandria.nothing  # noqa: F401


def test_an_optional_module_is_imported_at_its_first_use_and_gives_submodules_too(monkeypatch):
    monkeypatch.delitem(sys.modules, "wsgiref.util", raising=False)
    monkeypatch.delitem(sys.modules, "wsgiref", raising=False)
    module = OptionalModule("wsgiref", "a test")
    assert "wsgiref" not in sys.modules
    assert module.util.__name__ == "wsgiref.util"


def test_looking_at_an_optional_module_imports_nothing():
    module = OptionalModule("no_such_package", "a test")
    assert not hasattr(module, "__wrapped__")
    with pytest.raises(MissingPackageError, match="a test needs the package no_such_package"):
        module.anything()
