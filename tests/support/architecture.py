"""The script that draws the packages, as a module: its rows are the law of the layout."""

import importlib.util

from tests.support.paths import ROOT

_spec = importlib.util.spec_from_file_location(
    "architecture", ROOT / "docs" / "site" / "architecture.py"
)
architecture = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(architecture)
