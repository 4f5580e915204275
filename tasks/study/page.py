"""The page of a study: question, claims, pictures, what to change next, and its own code."""

from __future__ import annotations

import ast
import inspect
import re

from tasks.report import environment, page
from tasks.report.formatting import escape
from tasks.study import Findings, Study, pictures

# On narrow pages pictures are scrolled before their text is smaller than 10 pixels.
_MIN_SCALE = 0.75
_CODE = '<pre style="white-space: pre; overflow-x: auto"><code>{}</code></pre>'


def write(path, study: Study, findings: Findings, options: dict) -> None:
    """Writes the page of a study, one HTML file that loads nothing.

    Args:
        path: the file.
        study: the study.
        findings: what its run returned.
        options: that it ran with, by name.
    """
    words = [f"--{name.replace('_', '-')} {value}" for name, value in options.items()]
    held = sum(claim.holds for claim in findings.claims)
    sections = [
        ("Claims", _claims(findings)),
        *((title, _figure(title, picture, see)) for title, picture, see in findings.pictures),
        ("What to change next", _list(next_step(study, step) for step in findings.next_steps)),
        ("The code", _CODE.format(escape(source(study)))),
        ("References", _list(map(escape, findings.references))),
    ]
    page.write(
        path,
        title=study.question,
        lead=f"{explanation(study)} {held} of {len(findings.claims)} claims hold in this run.",
        command=" ".join(["zoo study", study.name, *words]),
        figures={},
        sections=sections,
        environment=environment.describe(),
    )


def explanation(study):
    """Returns the docstring of a study's function as one paragraph.

    It is read from the source code, since `python -OO` removes docstrings.
    """
    nodes = ast.parse(source(study)).body
    function = next(x for x in nodes if getattr(x, "name", "") == study.run.__name__)
    return " ".join(ast.get_docstring(function).split())


def source(study):
    """Returns the source code of a study, the whole file."""
    return inspect.getsource(inspect.getmodule(study.run)).strip()


def next_step(study: Study, step: str) -> str:
    """Returns a next step as HTML; the command that it starts with is code that can be copied.

    Options alone are those of the study.
    """
    command, colon, question = step.partition(":")
    if not command.startswith(("zoo ", "--")):
        return escape(step)
    if command.startswith("--"):
        command = f"zoo study {study.name} {command}"
    return f"<code>{escape(command)}</code>{colon}{escape(question)}"


def _figure(title, picture, see):
    def with_minimum(found):
        size = f"min-width: {_MIN_SCALE * float(found[1]):.0f}pt"
        return f'{found[0]}role="img" aria-label="{escape(title)}" style="{size}" '

    picture = re.sub(r'<svg (?=[^>]*?width="([\d.]+)pt")', with_minimum, picture)
    picture = picture.replace(f'fill: {pictures.GREY}"', 'fill: var(--muted)"')  # of text
    caption = f"<figcaption>{escape(see)}</figcaption>"
    return f'<figure style="overflow-x: auto">{caption}{picture}</figure>'


def _claims(findings):
    rows = [
        [claim.text, claim.measured, "holds" if claim.holds else "does not hold"]
        for claim in findings.claims
    ]
    whole = "<style>.scroll{max-height:none}</style>"  # claims are read without scrolling
    return whole + page.table(rows, ("claim", "measured", "result"))


def _list(items):
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"
