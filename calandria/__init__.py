"""Calandria: from particle dumps, tomography and micrographs of battery electrodes to trained models and transport properties."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("calandria")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"
