"""The page of an embedding: a map of thumbnails that can be zoomed and searched."""

from __future__ import annotations

import base64
import io
import json
import math
import shlex

from tasks.advice import embedding as embeddings
from tasks.advice.embedding_script import SCRIPT, STYLE
from tasks.data.dataset import short_name
from tasks.report import environment, image_channels, page, palette
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

MAX_IMAGES = 2000  # on the map
NUM_NEIGHBOURS = 6  # of an image that is selected
TILE = 48  # pixels
JPEG_QUALITY = 85
TITLES = {"pca": "principal components", "tsne": "t-SNE", "umap": "UMAP"}


def write(path, embedding, positions, figures, *, model, dataset, method, words, seed=0):
    """Writes the page atomically.

    Args:
        path: The file to write.
        embedding: An `embedding.Embedding`.
        positions: `(images, 2)`, from `projection.project`.
        figures: The metrics, from `embedding.knn_accuracy`.
        model, dataset: Their names.
        method: The name of the projection.
        words: The words of the command that made the page.
        seed: The seed of the choice of at most `MAX_IMAGES` images.
    """
    count = len(embedding.features)
    shown = _sample(count, seed)
    which = f"{len(shown):,} of {count:,} images" if len(shown) < count else f"{count:,} images"
    page.write(
        path,
        title=f"{short_name(dataset)} in {short_name(model)}",
        lead=f"{which} by {TITLES[method]} of {embedding.features.shape[1]:,} features "
        f"({embedding.stage}).",
        command=shlex.join(words),
        figures=figures,
        sections=[("Map", STYLE + _map(embedding, positions, shown))],
        environment=environment.describe(),
        script=SCRIPT,
    )


def _sample(count, seed):
    """Returns the sorted indices of the images on the map."""
    if count <= MAX_IMAGES:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, MAX_IMAGES, replace=False))


def _map(embedding, positions, shown):
    """Returns the canvas, its controls and its data, as HTML."""
    labels, names, titles = embedding.label_names(), embedding.classes, embedding.titles()
    if embedding.labels.ndim == 1:
        groups = embedding.labels
    else:  # the first label of each image, or none
        has_label = embedding.labels.any(axis=1)
        groups = np.where(has_label, embedding.labels.argmax(axis=1), len(names))
        names = (*names, "no label")
    # With a prefix, since the palette has special colors for names such as "background".
    colours = palette.class_colours([f"class {name}" for name in names])
    nearest = _neighbours_among(embedding, shown)
    points = [
        [*_rounded(positions[index]), int(groups[index]), titles[index], labels[index], near]
        for index, near in zip(shown.tolist(), nearest, strict=True)
    ]
    columns = math.ceil(math.sqrt(len(shown)))
    data = {
        "points": points,
        "classes": [*map(str, names)],
        "colours": [f"rgb({red} {green} {blue})" for red, green, blue in colours.tolist()],
        "sprite": _sprite(embedding.examples, shown, columns),
        "tile": TILE,
        "columns": columns,
    }
    text = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")
    return _CONTROLS + f'<script type="application/json" id="data">{text}</script>'


def _neighbours_among(embedding, shown):
    """Returns the nearest images of each shown image, as lists of indices into `shown`."""
    if len(shown) < 2:
        return [[] for _ in shown]
    subset = embeddings.subset(embedding, shown)
    return embeddings.own_neighbours(subset, NUM_NEIGHBOURS)[0].tolist()


def _rounded(position):
    return [round(float(value), 4) for value in position]


def _sprite(examples, shown, columns):
    """Returns one picture with the thumbnails of all images, as a data URL."""
    rows = math.ceil(len(shown) / columns)
    sheet = Image.new("RGB", (columns * TILE, rows * TILE))
    for cell, index in enumerate(shown):
        pixels = image_channels.to_rgb(np.asarray(examples.pixels[np.asarray([index])])[0])
        picture = Image.fromarray(pixels)
        picture = picture.resize((TILE, TILE), Image.Resampling.BILINEAR)
        sheet.paste(picture, (cell % columns * TILE, cell // columns * TILE))
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


_CONTROLS = """
<div class="map">
<p class="tools"><label>Search <input type="search" id="search" placeholder="class or file"
 autocomplete="off"></label> <span id="count" role="status"></span>
<span class="zoom"><button type="button" id="out" aria-label="zoom out">&minus;</button>
<button type="button" id="in" aria-label="zoom in">+</button>
<button type="button" id="reset">Reset</button></span></p>
<p id="legend" aria-label="classes"></p>
<canvas id="canvas" tabindex="0" role="img" aria-label="Map of the images; arrow keys move it,
 plus and minus zoom, 0 resets"></canvas>
<div id="selected" aria-live="polite">Select an image to see its nearest neighbours.</div>
<noscript><p>The map needs JavaScript.</p></noscript>
</div>
"""
