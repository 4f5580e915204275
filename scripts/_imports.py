"""The option `--import-module`, which recipes cannot set because it runs code."""

from __future__ import annotations

import os


def add_import_flag(parser):
    """Adds the option to a parser."""
    parser.add_argument(
        "--import-module",
        metavar="NAME",
        help="Python module to import first, such as one that registers Gymnasium environments; "
        "never read from a recipe",
    )


def export_modules(args):
    """Passes the module to runs, also in child processes, by an environment variable."""
    from tasks.dqn import environments

    if args.import_module is not None:
        os.environ[environments.IMPORT_MODULES_VARIABLE] = args.import_module
