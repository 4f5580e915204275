"""The HTML of the page: one file with its style and scripts, which loads nothing else."""

from __future__ import annotations

from importlib import resources

PLACE = "<!-- scripts -->"
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src blob: data:; media-src blob:; "
    "script-src 'self' file: 'unsafe-inline' 'wasm-unsafe-eval' blob:"
)


def served() -> str:
    """Returns the page of a server, which predicts by requests to the server."""
    return _render([_inline("server.js"), _inline("page.js")])


def standalone(scripts) -> str:
    """Returns the page that predicts in the browser, and may send no request.

    Args:
        scripts: Paths of the scripts to load first, relative to the page.
    """
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
    loaded = [f'<script src="{path}"></script>' for path in scripts]
    text = _render([*loaded, _inline("browser.js"), _inline("page.js")])
    return text.replace('<meta name="viewport"', f'{policy}<meta name="viewport"', 1)


def _render(scripts):
    return _read("page.html").replace(PLACE, "\n".join(scripts))


def _inline(name):
    return f"<script>\n{_read(name)}</script>"


def _read(name):
    return (resources.files("tasks.web") / name).read_text(encoding="utf-8")
