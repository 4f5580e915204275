"""The page of `zoo clean`: thumbnails of suspicious images, which are ticked to correct them."""

from __future__ import annotations

import base64
import io
import shlex
from pathlib import Path

from tasks.advice import corrections
from tasks.data import image_io
from tasks.report import environment, image_channels, page
from tasks.report.formatting import escape
from zoo.lazy import LazyModule

Image = LazyModule("PIL.Image")

PAGE = "clean.html"
MAX_SHOWN = 500  # images of each section
SIDE = 112  # pixels, the longer side of a thumbnail
JPEG_QUALITY = 80
TITLES = {
    "blurred": "Blurred",
    "dark": "Dark",
    "uniform": "Uniform",
    "odd_size": "Odd size",
    "outliers": "Unlike all others",
}


def write(folder, report, *, models):
    """Writes the page and `label_errors.csv`, each atomically.

    Args:
        folder: The folder, which is created.
        report: A `clean.CleaningReport`.
        models: The names or patterns of the models, for the command.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    corrections.write_suggestions(folder / corrections.SUGGESTED, report.label_errors)
    page.write(
        folder / PAGE,
        title=f"Suspicious images of {report.dataset}",
        lead=f"{len(report.label_errors):,} of {report.images:,} labels are suspected errors. Tick "
        "images, correct the class where the suggestion is wrong, and save the corrections; "
        "no file is changed.",
        command=shlex.join(
            ["zoo", "clean", report.dataset, "--models", models, "--out", *[str(folder)]]
        ),
        figures={},
        sections=[("Corrections", _STYLE + _controls(report)), *_sections(report)],
        environment=environment.describe(),
        script=_SCRIPT,
    )


def _sections(report):
    """Yields a heading and its figures for each kind of finding."""
    errors = [
        (error.path, error.suggested, f"{error.given} → {error.suggested}, {error.score:.3f}")
        for error in report.label_errors
    ]
    yield _section(report, "Label errors", errors)
    copies = [
        (path, "", f"{number}: {report.labels[path]}, {report.split_names[path]}")
        for number, group in enumerate(report.near_copies, start=1)
        for path in group
    ]
    yield _section(report, "Near copies", copies)
    for issue, title in TITLES.items():
        images = [(path, "", report.labels[path]) for path in report.issues[issue]]
        yield _section(report, title, images)


def _section(report, title, images):
    """Returns a heading with the number of images, and the figures of the first of them."""
    if not images:
        return title, ""
    more = f"<p>The first {MAX_SHOWN:,} are shown.</p>" if len(images) > MAX_SHOWN else ""
    figures = "".join(_figure(report, *image) for image in images[:MAX_SHOWN])
    tick = '<p><button type="button" class="all">Tick all</button></p>'
    return (
        f"{title} ({len(images):,})",
        f'{more}{tick}<figure class="gallery clean">{figures}</figure>',
    )


def _figure(report, path, suggested, caption):
    """Returns a thumbnail with a box to tick; without a suggestion it proposes to remove."""
    position = report.positions[path]
    picture = _thumbnail(report.whole.items[position], report.whole.bits)
    return (
        f'<figure data-path="{escape(path)}" data-suggested="{escape(suggested)}">'
        f'<label><img src="{picture}" alt="{escape(caption)}"/>'
        f'<input type="checkbox"/> {escape(caption)}</label><select></select>'
        f"<figcaption>{escape(path)}</figcaption></figure>"
    )


def _thumbnail(item, bits):
    """Returns a small picture as a data URL; an empty one if the image cannot be read."""
    try:
        height, width = image_io.image_size(item)
        scale = min(1.0, SIDE / max(height, width))
        shape = [max(1, round(side * scale)) for side in (height, width)]
        pixels = image_io.read_image(item, (*shape, image_io.num_channels(item)), bits=bits)
    except image_io.UnreadableImage:
        return "data:,"
    file = io.BytesIO()
    Image.fromarray(image_channels.to_rgb(pixels)).save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _controls(report):
    names = "".join(f"<option>{escape(name)}</option>" for name in report.classes)
    return (
        '<p><button type="button" id="save">Save corrections.csv</button> '
        '<span id="count" role="status">0 ticked</span></p>'
        f'<template id="classes">{names}<option value="">remove</option></template>'
        f"<p>Then: <code>{escape(shlex.join(['zoo', 'clean', report.dataset]))} "
        "--apply corrections.csv --out cleaned</code></p>"
        "<noscript><p>The page needs JavaScript to save corrections.</p></noscript>"
    )


_STYLE = """<style>
.clean img { width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--tint) }
.clean label { display: block; font-size: .8rem; cursor: pointer }
.clean select, button { font: inherit; font-size: .8rem; color: inherit; max-width: 100%;
  background: var(--page); border: 1px solid var(--hair); border-radius: 4px; padding: .2rem .5rem }
.clean figcaption { color: var(--muted); font-size: .7rem; overflow-wrap: anywhere }
.clean figure:has(input:checked) { outline: 2px solid var(--second); outline-offset: 4px }
</style>"""

_SCRIPT = """
"use strict";
const figures = [...document.querySelectorAll(".clean > figure")];
const count = document.getElementById("count");
function ticked() { return figures.filter(f => f.querySelector("input").checked); }
function update() {
  count.textContent = `${new Set(ticked().map(f => f.dataset.path)).size} ticked`;
}
function cell(text) { return /[",\\n\\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text; }
function table() {
  const rows = new Map(ticked().map(f => {
    const label = f.querySelector("select").value;
    return [f.dataset.path, [f.dataset.path, label ? "relabel" : "remove", label]];
  }));
  const all = [["path", "action", "label"], ...rows.values()];
  return all.map(row => row.map(cell).join(",")).join("\\n");
}
for (const figure of figures) {
  const select = figure.querySelector("select");
  select.append(document.getElementById("classes").content.cloneNode(true));
  select.value = figure.dataset.suggested;
  figure.addEventListener("change", event => {
    if (event.target === select) figure.querySelector("input").checked = true;
    update();
  });
}
for (const button of document.querySelectorAll(".all")) button.addEventListener("click", () => {
  const boxes = [...button.closest("section").querySelectorAll("input")];
  const on = boxes.some(box => !box.checked);
  for (const box of boxes) box.checked = on;
  update();
});
document.getElementById("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table() + "\\n"], {type: "text/csv"}));
  link.download = "corrections.csv";
  link.click();
});
"""
