"""The release, as the installed package says it."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("coterie")
except PackageNotFoundError:
    VERSION = "0+unknown"
