"""Text for a terminal, in which control characters are shown and not obeyed.

Names of files and classes come from elsewhere; an escape sequence in one could clear a screen,
rewrite lines above, or set the clipboard.
"""

from __future__ import annotations

import contextlib
import io

_LINES = "\n\r\t"
_CONTROLS = (*range(32), *range(127, 160), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_ESCAPES = {code: repr(chr(code))[1:-1] for code in _CONTROLS}  # bidirectional ones, too
_ESCAPES_EXCEPT_NEWLINES = {
    code: shown for code, shown in _ESCAPES.items() if chr(code) not in _LINES
}


def escape_line(text):
    """Returns text as one line, in which ends of lines, too, are shown as escapes."""
    return text.translate(_ESCAPES)


class EscapingStream(io.TextIOWrapper):
    """A text stream that shows control characters as escapes, except ends of lines and tabs.

    Attributes:
        failure: the `OSError` because of which something could not be written, or `None`.
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
    """Returns a `Stream` in the place of a text stream, which is not used any more."""
    options = {
        "encoding": stream.encoding,
        "errors": "backslashreplace",
        "line_buffering": stream.line_buffering,
        "write_through": stream.write_through,
    }
    return EscapingStream(stream.detach(), **options)
