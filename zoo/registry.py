"""A registry: entries by name, filled by importing all modules of a package."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import threading
from typing import Generic, TypeVar

from zoo.errors import unknown_name_error

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Entries by name; the modules of the package are imported on the first look-up.

    Args:
        noun: the word for an entry in messages, such as "model".
        package: the package whose modules register entries when imported.
    """

    def __init__(self, noun: str, package: str) -> None:
        self.noun = noun
        self.package = package
        self._entries: dict[str, Entry] = {}
        self._modules: dict[str, str] = {}  # the module of each entry, by name
        self._complete = False
        self._lock = threading.RLock()

    def add(self, name: str, entry: Entry, module: str) -> None:
        """Registers `entry`, which `module` defines; raises `ValueError` if the name is taken."""
        if name in self._entries:
            raise ValueError(f"two {self.noun}s are named {name!r}; rename one")
        self._entries[name], self._modules[name] = entry, module

    def get(self, name: str) -> Entry:
        """Returns the entry `name`; raises `UsageError` with similar names if there is none."""
        self._discover()
        if not isinstance(name, str) or name not in self._entries:
            raise unknown_name_error(self.noun, name, self.names())
        return self._entries[name]

    def names(self) -> list[str]:
        """Returns all names, in the order of the files and of the tables in them."""
        self._discover()
        return list(self._entries)

    def _discover(self) -> None:
        """Imports the package's modules; other threads wait until all are imported.

        After a failed import, the next call tries again.
        """
        if self._complete:
            return
        with self._lock:
            try:
                for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
                    if not module.name.startswith("_"):
                        importlib.import_module(f"{self.package}.{module.name}")
            except BaseException:  # also after Ctrl-C, before it is passed on
                for name, module in list(self._modules.items()):
                    if module not in sys.modules:  # the next import registers its entries again
                        del self._entries[name], self._modules[name]
                raise
            self._complete = True
