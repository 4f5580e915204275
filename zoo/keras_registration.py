"""The layers of the zoo registered with Keras, so that `keras.saving.load_model` finds them.

They derive from Keras's and cannot be imported without it, which takes seconds; so they are
imported as soon as something else has imported Keras.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

KERAS, LAYERS = "keras", "zoo.layers"


def register_layers():
    """Registers the layers now, if Keras is loaded, or else as soon as it is."""
    loaded = sys.modules.get(KERAS)
    if hasattr(loaded, "saving"):
        importlib.import_module(LAYERS)
    elif loaded is None:
        sys.meta_path.insert(0, _RegisteringFinder())


class _RegisteringFinder:
    """Finds Keras as the other finders do, and has the layers of the zoo imported after it."""

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
