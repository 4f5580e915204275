"""The HTML report of a run: a single file with styles and images inside, which loads nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

from tasks.report.formatting import display_name, escape, format_value, is_number, is_percentage
from zoo.atomic_files import atomic_write

# Metrics that have no interval if all values are equal.
METRICS_WITHOUT_BOUNDS = ("mean_return",)
_MAX_LISTED = 1000  # names listed in a warning

# The policy forbids loading anything: the page looks the same without a network. A script runs only
# if it has the digest that the policy names, so that no text of a data set can become one.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'{script_policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="lead">{lead}</p>
{warnings}</header>
<main>
{main}
</main>
<footer>
{footer}
</footer>
{script}</body>
</html>
"""


def write(
    path,
    *,
    title: str,
    lead: str,
    command: str,
    figures: Mapping[str, float],
    sections: Iterable[tuple[str, str]],
    environment: Mapping[str, object],
    warnings: Sequence[str | tuple[str, Sequence[str]]] = (),
    script: str = "",
) -> None:
    """Writes the page of a run atomically: `path` always holds the old or the whole new page.

    Args:
        path: The file to write.
        title: The title, a few words.
        lead: The result, in a sentence or two.
        command: The command that repeats the run.
        figures: Metrics by name, shown in this order; the name determines the format.
        sections: Pairs of a heading and its content. The content is HTML, as returned by `table`
            and the functions of `plots`, and is the only argument that is not escaped. Sections
            without content are omitted.
        environment: Versions, hardware and times.
        warnings: Warnings about the figures: lines, or pairs of a line and the names that it
            counts, which are listed in a collapsible box.
        script: JavaScript that the page executes, if any.
    """
    sections = [*sections, ("Repeat this run", _command_block(command))]
    text = _PAGE.format(
        title=escape(title),
        lead=escape(lead),
        style=_STYLE,
        warnings="".join(map(_warning, warnings)),
        main="\n".join(
            [_metric_cards(figures), *(_section(*each) for each in sections if each[1])]
        ),
        footer=_section("Environment", _environment_table(environment)),
        script=f"<script>{script}</script>\n" if script else "",
        script_policy=_script_policy(script) if script else "",
    )
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def table(rows: Iterable[Mapping[str, object] | Sequence], columns: Sequence[str]) -> str:
    """Returns rows as an HTML table, with cells escaped and numbers formatted.

    Args:
        rows: Mappings from column to value, where columns may be missing, or sequences of values
            in the order of the columns.
        columns: The column names, which also determine the format of numbers.
    """
    rows = [
        [row.get(column) for column in columns] if isinstance(row, Mapping) else row for row in rows
    ]
    styles = [
        ' class="number"' if any(map(is_number, values)) else ""
        for values in (zip(*rows, strict=True) if rows else [()] * len(columns))
    ]
    head = "".join(
        f'<th scope="col"{style}>{escape(display_name(column))}</th>'
        for column, style in zip(columns, styles, strict=True)
    )
    body = "\n".join(f"<tr>{''.join(map(_cell, columns, styles, row))}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _script_policy(script):
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return f"; script-src 'sha256-{digest}'"


def _warning(warning):
    text, names = (warning, ()) if isinstance(warning, str) else warning
    line = f"<strong>Warning</strong> {escape(text)}"
    if not names:
        return f'<p class="warning">{line}</p>\n'
    rows = "".join(f"<li>{escape(name)}</li>" for name in names[:_MAX_LISTED])
    more = f"<li>and {len(names) - _MAX_LISTED:,} more</li>" if len(names) > _MAX_LISTED else ""
    listed = f"<ul>{rows}{more}</ul>"
    return f'<details class="warning"><summary>{line}</summary>{listed}</details>\n'


def _metric_cards(figures):
    """Returns the metrics as cards, each with its confidence interval."""
    ends = {f"{name}_{end}" for name in figures for end in ("low", "high")}
    cards = "\n".join(
        f"<div><dt>{escape(display_name(name))}</dt><dd>{escape(format_value(name, value))}</dd>"
        f"{_interval(name, figures)}</div>"
        for name, value in figures.items()
        if name not in ends
    )
    return f'<dl class="cards">\n{cards}\n</dl>' if cards else ""


def _interval(name, figures):
    ends = [figures.get(f"{name}_{end}") for end in ("low", "high")]
    if None in ends and name in METRICS_WITHOUT_BOUNDS:
        return '<dd class="interval">no interval: all values are equal</dd>'
    if None in ends:
        return ""
    low, high = (escape(format_value(name, end)) for end in ends)
    return f'<dd class="interval">95% interval {low} to {high}</dd>'


def _section(heading, contents):
    return f"<section>\n<h2>{escape(heading)}</h2>\n{contents}\n</section>"


def _command_block(command):
    """Returns a block that one click selects, with line breaks between words, not in flags."""
    unbroken_words = re.sub(r"\S+", r"<span>\g<0></span>", escape(command))
    return f"<pre><code>{unbroken_words}</code></pre>"


def _environment_table(facts):
    rows = "\n".join(
        f'<tr><th scope="row">{escape(display_name(name))}</th><td>{escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f'<table class="facts"><tbody>\n{rows}\n</tbody></table>'


def _cell(column, style, value):
    text = escape(format_value(column, value))
    if is_number(value) and is_percentage(column) and 0 <= value <= 1:
        return f'<td class="number share" style="--share:{100 * value:.1f}%">{text}</td>'
    return f"<td{style}>{text}</td>"


_STYLE = """
:root {
  color-scheme: light; --page: #fff; --ink: #1b1f24; --muted: #59636e; --hair: #d8dee4;
  --tint: #f5f7f9; --first: #1a6bb0; --second: #bf4f00; --bar: #8fb8dc; --heat: #062a60;
  --count: #1b1f24; --alert: #8a5300; --alert-tint: #fff6e0;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans",
    "Liberation Sans", Arial, sans-serif;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    color-scheme: dark; --page: #14171c; --ink: #e4e8ed; --muted: #9aa5b1; --hair: #30363e;
    --tint: #1c2027; --first: #62b0ee; --second: #f0974a; --bar: #3f7199; --heat: #8cbdec;
    --count: #fff; --alert: #f2c14e; --alert-tint: #2b2413;
  }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 62rem; padding: 3rem 1.5rem; background: var(--page);
  color: var(--ink); font: 16px/1.55 var(--sans); overflow-wrap: break-word }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.015em }
h2 { margin: 0 0 1rem; font-size: 1.2rem; line-height: 1.3 }
p { margin: 0 0 1rem; max-width: 44rem }
figure { margin: 0 }
figure + .scroll { margin-top: 1.5rem }
.lead { margin-top: .6rem; font-size: 1.1rem; color: var(--muted) }
.warning { max-width: none; padding: .6rem .9rem; border-left: 3px solid var(--alert);
  background: var(--alert-tint) }
.warning ul { max-height: 20rem; overflow: auto; font-size: .85rem; overflow-wrap: anywhere }
details.warning { margin: 0 0 1rem }
.warning summary { cursor: pointer }
.warning strong { margin-right: .4em; color: var(--alert) }
section { margin-top: 3rem }
footer { margin-top: 3.5rem; border-top: 1px solid var(--hair); color: var(--muted) }
footer section { margin-top: 1.5rem }
footer h2 { font-size: 1rem }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr));
  gap: 1.25rem; margin: 2rem 0 0 }
.cards div { padding-top: .6rem; border-top: 2px solid var(--hair) }
dt { font-size: .875rem; color: var(--muted) }
dd { margin: 0; font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums }
dd.interval { font-size: .8rem; color: var(--muted) }
pre { margin: 0; padding: .9rem 1rem; background: var(--tint); border: 1px solid var(--hair);
  border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere }
code { font: .9rem/1.5 var(--mono); -webkit-user-select: all; user-select: all }
pre span { display: inline-block; max-width: 100% }
.scroll { max-height: 30rem; overflow: auto }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem 1.2rem .3rem 0; text-align: left; vertical-align: top;
  box-shadow: inset 0 -1px var(--hair) }
thead th { position: sticky; top: 0; background: var(--page); color: var(--muted);
  font-weight: 500; white-space: nowrap }
th.number, td.number { padding: .3rem .6rem; min-width: 5.5rem; text-align: right;
  white-space: nowrap }
.share { background: linear-gradient(90deg, var(--bar) var(--share), var(--hair) 0) no-repeat
  .6rem 100% / calc(100% - 1.2rem) 3px; print-color-adjust: exact }
.facts { font-size: .85rem }
.facts th { font-weight: 500; white-space: nowrap }
.facts td { overflow-wrap: anywhere }
figcaption { margin-bottom: .75rem; max-width: 44rem; color: var(--muted); font-size: .9rem }
svg { display: block; max-width: 100%; height: auto; font-family: var(--sans) }
svg text { fill: var(--muted) }
.grid { stroke: var(--hair) }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
.training { stroke: var(--first) }
.validation { stroke: var(--second) }
circle.training, circle.validation { stroke-width: 1.5; fill: var(--page) }
rect.validation { fill: var(--second) }
.run0 { stroke: var(--first) } .run1 { stroke: var(--second) } .run2 { stroke: #2a9d6f }
.run3 { stroke: #c2559b } .run4 { stroke: #8a7ae0 } .run5 { stroke: #b0892b }
.run6 { stroke: #5a96a6 } .run7 { stroke: #9a6b52 }
circle[class^="run"] { fill: var(--page); stroke-width: 1.5 }
.ideal { stroke: var(--muted); stroke-dasharray: 5 4; stroke-width: 1.5 }
svg .bar { fill: var(--bar) }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr));
  gap: 1.5rem }
.panel p { display: flex; flex-wrap: wrap; align-items: center; gap: 0 1rem; margin: 0 0 .25rem;
  font-size: .875rem; color: var(--muted); font-variant-numeric: tabular-nums }
.panel strong { color: var(--ink); font-weight: 600 }
.panel span { display: inline-flex; align-items: center; gap: .35rem }
.confusion { overflow-x: auto }
.confusion svg { max-width: none }
.heat { fill: var(--heat); shape-rendering: crispEdges }
.frame { fill: none; stroke: var(--hair) }
svg .name { fill: var(--ink) }
svg .count { fill: var(--count) }
svg .light { fill: var(--page) }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr));
  gap: 1.25rem }
.gallery img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain;
  background: var(--tint); border-radius: 4px }
.gallery .pixels { image-rendering: pixelated }
.gallery figcaption { margin: .4rem 0 0; font-size: .8rem; line-height: 1.4; white-space: pre-line }
.gallery figcaption::first-line { color: var(--ink) }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt }
  .scroll { max-height: none; overflow: visible }
  thead th { position: static }
  h2 { break-after: avoid }
  .confusion { overflow: visible }
  .confusion svg { max-width: 15cm }
  tr, pre, .panel, .confusion, .gallery figure, .cards div { break-inside: avoid }
}
"""
