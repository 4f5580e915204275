"""The flag that names a module to import, which no recipe can do."""

from __future__ import annotations

import os


def add_import_flag(parser):
    """Adds the flag."""
    parser.add_argument(
        "--import-module",
        metavar="NAME",
        help="Python module to import first, such as one that registers environments of "
        "Gymnasium; never taken from a recipe",
    )


def export_modules(args):
    """Lets runs, also those in child processes, import the module that the flag names."""
    from tasks.dqn import environments

    if args.import_module is not None:
        os.environ[environments.IMPORT_MODULES_VARIABLE] = args.import_module
