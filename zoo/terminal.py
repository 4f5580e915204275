"""Escapes control characters in text that is printed to a terminal, and wraps messages.

Names of files and classes are not trusted: an escape sequence in one could clear the screen,
overwrite earlier lines, or set the clipboard.
"""

from __future__ import annotations

import contextlib
import io
import re

_LINES = "\n\r\t"
_SPACE = "\x00"  # stands for a space that is not a place for a line break
_CONTROLS = (*range(32), *range(127, 160), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_ESCAPES = {code: repr(chr(code))[1:-1] for code in _CONTROLS}  # includes bidirectional controls
_ESCAPES_EXCEPT_NEWLINES = {
    code: shown for code, shown in _ESCAPES.items() if chr(code) not in _LINES
}


def escape_line(text):
    """Returns text in one line, with control characters and line breaks escaped."""
    return text.translate(_ESCAPES)


class EscapingStream(io.TextIOWrapper):
    """A text stream that escapes control characters, except line breaks and tabs.

    Attributes:
        failure: the last `OSError` of a failed write, or `None`.
        wraps: whether lines that are wider than the terminal are wrapped between words.
    """

    failure = None
    wraps = False

    def write(self, text):
        if self.wraps:
            text = _wrap(text)
        with self._record_failure():
            super().write(text.translate(_ESCAPES_EXCEPT_NEWLINES))
        return len(text)

    def flush(self):
        with self._record_failure():
            super().flush()

    @contextlib.contextmanager
    def _record_failure(self):
        try:
            yield
        except OSError as error:
            self.failure = error
            raise


def wrap_stream(stream, *, messages=False):
    """Returns an `EscapingStream` that replaces a text stream, which must not be used any more.

    Args:
        stream: the text stream.
        messages: whether the stream is for messages, which are wrapped on a terminal.
    """
    options = {
        "encoding": stream.encoding,
        "errors": "backslashreplace",
        "line_buffering": stream.line_buffering,
        "write_through": stream.write_through,
    }
    wraps = messages and stream.isatty()
    escaping = EscapingStream(stream.detach(), **options)
    escaping.wraps = wraps
    return escaping


def _wrap(text):
    """Returns messages with line breaks between words, but not within `commands`.

    Indented lines, such as those of a traceback, and progress bars are not changed.
    """
    import shutil  # here, as few processes print to a terminal

    columns = shutil.get_terminal_size().columns
    return "\n".join(
        line if len(line) <= columns or line[0] in " \r\t" else _wrap_line(line, columns)
        for line in text.split("\n")
    )


def _wrap_line(line, columns):
    import textwrap  # here, for the same reason

    kept = re.sub(r"`[^`]*`", lambda command: command[0].replace(" ", _SPACE), line)
    lines = textwrap.fill(
        kept, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return lines.replace(_SPACE, " ")
