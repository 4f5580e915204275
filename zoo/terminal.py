"""Escapes control characters in text that is printed to a terminal.

Names of files and classes are not trusted: an escape sequence in one could clear the screen,
overwrite earlier lines, or set the clipboard.
"""

from __future__ import annotations

import contextlib
import io

_LINES = "\n\r\t"
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
    """

    failure = None

    def write(self, text):
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


def wrap_stream(stream):
    """Returns an `EscapingStream` that replaces a text stream, which must not be used any more."""
    options = {
        "encoding": stream.encoding,
        "errors": "backslashreplace",
        "line_buffering": stream.line_buffering,
        "write_through": stream.write_through,
    }
    return EscapingStream(stream.detach(), **options)
