"""A registry: names mapped to entries, filled by importing a package's modules."""

from __future__ import annotations

import importlib
import pkgutil

from zoo.errors import unknown


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
        self._complete = False

    def add(self, name, entry):
        """Registers `entry`; raises `ValueError` if the name is taken."""
        if name in self._entries:
            raise ValueError(f"two {self.noun}s are named {name!r}; rename one")
        self._entries[name] = entry

    def get(self, name):
        """Returns the entry called `name`; raises `UsageError` with a hint if none is."""
        self._discover()
        if name not in self._entries:
            raise unknown(self.noun, name, self.names())
        return self._entries[name]

    def names(self):
        """Returns every name, in the order of the files and of the tables inside them."""
        self._discover()
        return list(self._entries)

    def _discover(self):
        if self._complete:
            return
        self._complete = True
        for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            if not module.ispkg and not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")
