"""Registers the layers of the zoo with Keras, so that `keras.saving.load_model` finds them.

They are subclasses of Keras layers, and importing Keras takes seconds. So they are imported when
something else has imported Keras.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

KERAS, LAYERS = "keras", "zoo.layers"


def register_layers():
    """Registers the layers now if Keras is imported, or else as soon as it is imported."""
    loaded = sys.modules.get(KERAS)
    if hasattr(loaded, "saving"):
        importlib.import_module(LAYERS)
    elif loaded is None:
        sys.meta_path.insert(0, _RegisteringFinder())


class _RegisteringFinder:
    """A finder that imports the layers of the zoo after Keras; the other finders find Keras."""

    searching = False

    def find_spec(self, name, path=None, target=None):
        if name != KERAS or self.searching:
            return None
        self.searching = True
        try:
            spec = importlib.util.find_spec(KERAS)
        finally:
            self.searching = False
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = self._wrap_exec_module(spec.loader.exec_module)
        return spec

    def _wrap_exec_module(self, execute):
        def execute_and_register(module):
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            importlib.import_module(LAYERS)

        return execute_and_register
