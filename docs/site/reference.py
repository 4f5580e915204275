"""Pages made from the code: API reference, models, tasks and their flags, and the command line.

A module has a page in the API reference where its source defines `__all__`; what stands there is
public. So a module that moves, or a name that is added, needs no change here.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import io
import os
import pkgutil
import re
import types
from unittest import mock

import tasks
import zoo
from scripts.__main__ import command_names, main

PACKAGES = (zoo, tasks)
OF_TASK = ("train", "tune")  # commands whose flags depend on the task
LONGEST_VALUE = 200  # characters of a constant that is shown
UNBOUNDED = 1e6  # a range up to this is one without a limit that matters
WIDTH = "88"  # columns of a terminal


def pages():
    """Returns the text of each page by its file name."""
    texts = {f"api/{name}.rst": module_page(name) for name in public_modules()}
    texts["commands.rst"] = commands_page()
    texts["tasks.rst"] = tasks_page()
    return texts


def heading(text, line="="):
    """Returns a heading of reStructuredText."""
    return f"{text}\n{line * len(text)}\n\n"


def public_modules():
    """Returns the names of the modules that define `__all__`, packages before their modules."""
    names = [package.__name__ for package in PACKAGES]
    for package in PACKAGES:
        walk = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        names += [module.name for module in walk if not _is_private(module.name)]
    return [name for name in sorted(names) if defines_all(name)]


def _is_private(name):
    return any(part.startswith("_") for part in name.split("."))


def defines_all(name):
    """Returns whether a module's source defines `__all__`, without importing the module."""
    spec = importlib.util.find_spec(name)
    with open(spec.origin, encoding="utf-8") as file:
        body = ast.parse(file.read()).body
    return any(
        isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
        for node in body
    )


def module_page(name):
    """Returns the page of one public module."""
    module = importlib.import_module(name)
    text = heading(name) + f".. automodule:: {name}\n   :no-members:\n\n"
    text += f".. currentmodule:: {name}\n\n"
    return text + "".join(entry(module, public) for public in module.__all__)


def entry(module, public):
    """Returns the directive that documents one public name of a module."""
    value = getattr(module, public)
    name = f"{module.__name__}.{public}"
    if isinstance(value, types.ModuleType):
        return f"The module :doc:`{public} <{value.__name__}>`.\n\n"
    for package in PACKAGES:
        elsewhere = package is not module and public in package.__all__
        if elsewhere and getattr(package, public) is value:
            return f"See :py:obj:`{package.__name__}.{public}`.\n\n"
    if inspect.isclass(value):
        shown = "   :show-inheritance:\n" if inspect.getmro(value)[1:-1] else ""
        return f".. autoclass:: {name}\n{shown}\n"
    if callable(value):
        return f".. autofunction:: {name}\n\n"
    long = len(repr(value)) > LONGEST_VALUE
    return f".. autodata:: {name}\n{'   :no-value:' if long else ''}\n\n"


def commands_page():
    """Returns the help of every command."""
    text = heading("Command line")
    text += "This is the output of ``zoo COMMAND --help``.\n\n"
    text += block(output("--help"))
    for name in command_names():
        text += heading(f"zoo {name}", "-")
        if name in OF_TASK:
            text += "Its flags depend on the task; see :doc:`tasks`.\n\n"
        text += block(output(name, "--help"))
    return text


def output(*words):
    """Returns what a command prints."""
    printed = io.StringIO()
    with (
        mock.patch.dict(os.environ, {"COLUMNS": WIDTH}),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        main(list(words))
    return printed.getvalue()


def block(text):
    """Returns text as a literal block."""
    lines = [f"   {line}".rstrip() for line in text.splitlines()]
    return ".. code-block:: text\n\n" + "\n".join(lines) + "\n\n"


def tasks_page():
    """Returns the flags of every task: those of all tasks once, then those of each."""
    text = heading("Tasks and their flags")
    text += (
        "Each field of a task is a flag of ``zoo train TASK``, a key of a recipe, and an argument "
        "in Python.\n\n"
    )
    shared = {field.name: field for field in dataclasses.fields(tasks.Task)}
    text += heading("Every task", "-") + flags_table(shared.values())
    for name in tasks.names():
        task = tasks.get(name)
        text += heading(name, "-") + f"{first_line(task)}\n\n"
        own = [f for f in dataclasses.fields(task) if not same(f, shared.get(f.name))]
        text += flags_table(own)
    return text


def same(field, other):
    """Returns whether a task has a flag exactly as every task has it."""
    return other is not None and (field.default, field.metadata) == (other.default, other.metadata)


def first_line(task):
    """Returns the first line of a class's docstring."""
    return (task.__doc__ or "").strip().partition("\n")[0].replace("`", "``")


def flags_table(fields):
    """Returns a table of flags: name, default, range or choices, meaning."""
    text = ".. list-table::\n   :header-rows: 1\n   :widths: 22 14 20 44\n\n"
    rows = [("flag", "default", "values", "meaning"), *map(flag_row, fields)]
    for row in rows:
        text += "   * - " + "\n     - ".join(row) + "\n"
    return text + "\n"


def flag_row(field):
    """Returns the cells of one flag."""
    kind, facts = type(field.default), field.metadata
    if facts["choices"]:
        values = ", ".join(f"``{choice}``" for choice in facts["choices"])
    elif kind in (int, float):
        most = f"to {facts['high']:g}" if facts["high"] < UNBOUNDED else "or more"
        values = f"{facts['low']:g} {most}"
    else:
        values = "text" if kind is str else kind.__name__
    default = f"``{field.default}``" if field.default != "" else ""
    return f"``--{field.name.replace('_', '-')}``", default, values, escaped(facts["help"])


def escaped(text):
    """Returns text in which reStructuredText finds no markup, with flags set as code."""
    plain = "".join(f"\\{sign}" if sign in "\\*`|_" else sign for sign in text)
    return re.sub(r"(?<!\S)--[a-z][a-z-]*", r"``\g<0>``", plain)
