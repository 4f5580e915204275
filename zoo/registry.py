"""A registry: names mapped to entries, filled by importing all modules of a package."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import threading

from zoo.errors import unknown_name_error


class Registry:
    """Entries by name, discovered the first time anyone asks.

    Args:
        noun: what an entry is called in messages, such as "model".
        package: the package whose modules register entries when imported.
    """

    def __init__(self, noun, package):
        self.noun = noun
        self.package = package
        self._entries = {}
        self._modules = {}  # of each entry, by its name
        self._complete = False
        self._lock = threading.RLock()

    def add(self, name, entry, module):
        """Registers `entry`, which `module` defines; raises `ValueError` if the name is taken."""
        if name in self._entries:
            raise ValueError(f"two {self.noun}s are named {name!r}; rename one")
        self._entries[name], self._modules[name] = entry, module

    def get(self, name):
        """Returns the entry called `name`; raises `UsageError` with a hint if none is."""
        self._discover()
        if not isinstance(name, str) or name not in self._entries:
            raise unknown_name_error(self.noun, name, self.names())
        return self._entries[name]

    def names(self):
        """Returns every name, in the order of the files and of the tables inside them."""
        self._discover()
        return list(self._entries)

    def _discover(self):
        """Imports the package's modules; a thread that asks meanwhile waits for all of them.

        After an import that failed the next call tries again.
        """
        if self._complete:
            return
        with self._lock:
            try:
                for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
                    if not module.name.startswith("_"):
                        importlib.import_module(f"{self.package}.{module.name}")
            except BaseException:
                for name, module in list(self._modules.items()):
                    if module not in sys.modules:  # it will register its entries again
                        del self._entries[name], self._modules[name]
                raise
            self._complete = True
