"""The gallery of the zoo and the page of its networks, made from the registry."""

from __future__ import annotations

import html
import sys

import zoo
from scripts._output import format_count

COLUMNS = (  # heading, and whether it holds numbers
    ("model", False),
    ("family", False),
    ("kind", False),
    ("parameters", True),
    ("FLOPs", True),
    ("input", False),
    ("accuracy", True),
    ("licence", False),
    ("paper", False),
)


def pages():
    """Returns the text of each page by its file name."""
    specs = sorted(
        map(zoo.spec, zoo.names()),
        key=lambda spec: (spec.kind != "classifier", spec.kind, spec.family),
    )
    return {"gallery.rst": gallery_page(specs), "models.rst": models_page(specs)}


def gallery_page(specs):
    """Returns the table of every model."""
    lines = "".join(f"   {line}\n" for line in table(specs).splitlines())
    plain = [spec for spec in specs if spec.weights is None]
    return f""":hide-toc:

Gallery
=======

{len(plain)} architectures of {len({spec.family for spec in specs})} families, and
{len(specs) - len(plain)} sets of pretrained weights. Parameters are those that can be trained, with
the default head; FLOPs are twice the multiply-adds of convolutions and dense layers for one input
of the size shown. The accuracy is that of the published weights on the test split of their data
set, by the protocol that ``zoo show MODEL`` prints; the licence is that of the weights.
``zoo list`` filters and sorts the same table.

.. raw:: html

{lines}
"""


def table(specs):
    """Returns the table as HTML."""
    heads = "".join(
        f'<th scope="col"{" class=number" if number else ""}><button>{name}</button></th>'
        for name, number in COLUMNS
    )
    rows = "\n".join(f"<tr>{''.join(cells(spec))}</tr>" for spec in specs)
    return (
        '<p class="gallery-filter"><label>Filter <input type="search" id="gallery-filter" '
        'placeholder="resnet imagenet"></label> <output id="gallery-count"></output></p>\n'
        '<div class="table-wrapper docutils container">\n'
        '<table class="docutils gallery" id="gallery-table">\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>\n"
        '<script src="_static/gallery.js" defer></script>'
    )


def cells(spec):
    """Returns the cells of one model's row; `data-value` is what a column sorts by."""
    weights = spec.weights
    accuracy = weights.figures.get("accuracy") if weights else None
    licence = weights.licence if weights else ""
    yield f'<th scope="row"><code>{html.escape(spec.name)}</code></th>'
    yield f'<td><a href="models.html#{anchor(spec)}">{html.escape(spec.family)}</a></td>'
    yield f"<td>{html.escape(spec.kind)}</td>"
    yield number(spec.parameters, format_count(spec.parameters))
    yield number(spec.flops, format_count(spec.flops))
    yield f"<td>{'×'.join(map(str, spec.input_shape))}</td>"  # noqa: RUF001
    yield number(accuracy, f"{accuracy:.1%}" if accuracy else "")
    yield f'<td title="{html.escape(licence)}">{html.escape(licence.partition(" (")[0])}</td>'
    yield f'<td><a href="{html.escape(spec.paper)}">{html.escape(short(spec.paper))}</a></td>'


def number(value, text):
    """Returns a cell with a number, which sorts last where it is not known."""
    return f'<td class="number" data-value="{-1 if value is None else value}">{text}</td>'


def short(url):
    """Returns the part of a paper's address by which it is known."""
    host, _, rest = url.partition("://")[2].partition("/")
    name = rest.removeprefix("abs/")
    return {"arxiv.org": f"arXiv:{name}", "doi.org": f"doi:{name}"}.get(host, host)


def anchor(spec):
    """Returns the anchor at which the models page documents the builder of a model."""
    return f"{spec.builder.__module__}.{spec.builder.__qualname__}".replace("<locals>.", "")


def models_page(specs):
    """Returns the builders of all families, by the module that each is read in."""
    text = "Networks\n========\n\n"
    text += "One file each, to be read; the options are those of :func:`zoo.build`.\n\n"
    builders = {}
    for spec in specs:
        builders.setdefault(spec.builder.__module__, {}).setdefault(spec.builder, []).append(spec)
    for module, members in builders.items():
        name = module.rpartition(".")[2]
        text += f"{name}\n{'-' * len(name)}\n\n.. automodule:: {module}\n   :no-members:\n\n"
        for builder, some in members.items():
            names = ", ".join(f"``{spec.name}``" for spec in some if spec.weights is None)
            text += f".. _{anchor(some[0])}:\n\n"
            if getattr(sys.modules[module], builder.__name__, None) is builder:
                text += f".. autofunction:: {module}.{builder.__name__}\n\n"
            papers = ", ".join(dict.fromkeys(spec.paper for spec in some))
            text += f"Models: {names}. Paper: {papers}\n\n"
    return text
