"""Models to build, teach and compare: `zoo COMMAND --help` tells more."""

from __future__ import annotations

import argparse
import errno
import importlib
import pkgutil
import sys

import scripts
from scripts import _quiet
from zoo.errors import UsageError, unknown

WRONG, STOPPED = 1, 130  # exit status after a user's mistake, and after Ctrl-C


def main(argv=None):
    """Runs one command; returns the process's exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        return _run(words) or 0
    except UsageError as error:
        print(f"zoo: {' '.join(str(error).split())}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("zoo: stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        print(f"zoo: this name is too long: {str(error.filename)[:80]}...", file=sys.stderr)
        return WRONG


def console():
    """Runs one command as a process of its own; returns its exit status."""
    _quiet.hush()
    _quiet.speak()
    return main()


def command_names():
    """Returns the names of the commands, which are the names of their files."""
    modules = (module.name for module in pkgutil.iter_modules(scripts.__path__))
    return [name.replace("_", "-") for name in modules if not name.startswith("_")]


def module_of(name):
    """Returns the module of a command."""
    return importlib.import_module(f"scripts.{name.replace('-', '_')}")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other mistake is said."""

    def error(self, message):
        raise UsageError(f"{message}; see `{self.prog} --help`")


def _run(words):
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        import zoo

        print(f"keras-zoo {zoo.__version__}")
        return 0
    name, *rest = words
    if name not in command_names():
        raise unknown("command", name, command_names())
    command = module_of(name)
    parser = Parser(
        prog=f"zoo {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.arguments(parser, rest)
    return command.run(parser.parse_args(rest))


def _overview():
    lines = [__doc__, "", "commands:"]
    for name in command_names():
        summary = module_of(name).__doc__.partition(":")[0]
        lines.append(f"  {name:<10} {summary}")
    return "\n".join([*lines, "", "zoo finetune, without more, shows what this is about."])


if __name__ == "__main__":
    sys.exit(console())
