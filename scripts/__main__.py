"""Trains, evaluates and deploys Keras models. `zoo COMMAND --help` shows its options."""

from __future__ import annotations

import argparse
import errno
import importlib
import pkgutil
import sys

import scripts
from scripts import _streams
from zoo.errors import UsageError, unknown_name_error

FORMER_NAMES = {"paint": "generate"}  # names of commands in earlier versions, which still work
EXIT_ERROR, EXIT_INTERRUPTED = 1, 130  # exit status after a usage error, and after Ctrl-C
MEMORY_HINT = "reduce the batch size or the image size"
MAX_FILENAME_LENGTH = 200  # characters of a file name in a message
MAX_USAGE_OPTIONS = 15  # a longer list of options is not repeated in the usage line
# Errors of the system that are no bugs: full disks, missing permissions, too many open files.
SYSTEM_ERRNOS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE),
    *(errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}


def main(argv=None):
    """Runs one command; returns the exit status of the process."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        return _run(words) or 0
    except UsageError as error:
        print(f"zoo: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("zoo: stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        return 0
    except OSError as error:
        if _streams.stdout_failed():
            return EXIT_ERROR  # `_streams.flush_stdout` prints the message
        if error.errno not in SYSTEM_ERRNOS:
            raise
        where = f": {str(error.filename)[:MAX_FILENAME_LENGTH]}" if error.filename else ""
        print(f"zoo: {error.strerror}{where}", file=sys.stderr)
        return EXIT_ERROR
    except MemoryError as error:
        print(f"zoo: out of memory; {str(error) or MEMORY_HINT}", file=sys.stderr)
        return EXIT_ERROR
    except Exception as error:
        if type(error).__name__ != "ResourceExhaustedError":  # of TensorFlow, not imported here
            raise
        print(f"zoo: out of memory; {MEMORY_HINT}", file=sys.stderr)
        return EXIT_ERROR


def console():
    """Runs one command as the entry point of a process; returns its exit status."""
    _streams.ensure_utf8()
    words = _streams.setup_streams(sys.argv[1:])
    _streams.setup_logging()
    try:
        status = main(words)
    except SystemExit as stop:  # raised by argparse after --help
        status = stop.code
    return _streams.flush_stdout(status)


def command_names():
    """Returns the names of the commands, one per file."""
    modules = (module.name for module in pkgutil.iter_modules(scripts.__path__))
    return [name.replace("_", "-") for name in modules if not name.startswith("_")]


def command_module(name):
    """Returns the module of a command."""
    return importlib.import_module(f"scripts.{name.replace('-', '_')}")


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `UsageError`, so that errors are printed in one line."""

    def error(self, message):
        raise UsageError(f"{message}; see `{self.prog} --help`")


class HelpFormatter(argparse.HelpFormatter):
    """Wraps the paragraphs of a description, but not its indented examples."""

    def add_usage(self, usage, actions, groups, prefix=None):
        """Adds the usage line, with `[options]` in place of a long list of options."""
        positionals = [action for action in actions if not action.option_strings]
        if len(actions) - len(positionals) > MAX_USAGE_OPTIONS:
            self._prog, actions = f"{self._prog} [options]", positionals
        super().add_usage(usage, actions, groups, prefix)

    def _fill_text(self, text, width, indent):
        return "\n\n".join(
            part
            if part.startswith(" ")
            else super(HelpFormatter, self)._fill_text(part, width, indent)
            for part in text.strip("\n").split("\n\n")
        )


def _run(words):
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        from scripts import _version

        print(*_version.lines(), sep="\n")
        return 0
    name, *rest = words
    name = FORMER_NAMES.get(name, name)
    if name not in command_names():
        raise unknown_name_error("command", name, command_names())
    command = command_module(name)
    parser = Parser(
        prog=f"zoo {name}",
        description=_description(name),
        formatter_class=HelpFormatter,
    )
    command.arguments(parser, rest)
    return command.run(parser.parse_args(rest))


def _overview():
    lines = [_docstring("__main__"), "", "commands:"]
    for name in command_names():
        summary = _docstring(name).partition(":")[0]
        lines.append(f"  {name:<10} {summary}")
    lines += ["", "`zoo finetune` without arguments trains on a sample data set."]
    return "\n".join(
        [*lines, f"`zoo {_streams.LOG_FLAG} COMMAND` also prints the log of TensorFlow."]
    )


def _description(name):
    """Returns the description of a command: its summary, its example and the other paragraphs."""
    first, _, rest = _docstring(name).partition("\n")
    summary, _, example = first.removesuffix(".").partition(": ")
    return f"{summary}.\n\n    {example}\n{rest}"


def _docstring(name):
    """Returns the docstring of a file in this package, from its source: `python -OO` drops it."""
    source = pkgutil.get_data("scripts", f"{name.replace('-', '_')}.py").decode("utf-8")
    return source.split('"""')[1]


if __name__ == "__main__":
    sys.exit(console())
