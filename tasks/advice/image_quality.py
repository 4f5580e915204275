"""Images that are blurred, dark, uniform, of an odd size, or unlike all others."""

from __future__ import annotations

import os
from functools import partial

from tasks.data import image_io
from tasks.data.decoding import progress
from tasks.data.parallel import ordered_map
from tasks.report import image_channels
from zoo.lazy import np

MAX_SIDE = 512  # pixels; larger images are resized before sharpness is measured
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue, ITU-R 601-2
DARK_LEVEL = 40.0  # of 255, below which the 99th percentile of a dark image lies
UNIFORM_STD = 3.0  # standard deviation of pixels in [0, 255] below which an image is uniform
BLUR_RATIO = 0.1  # of the median sharpness, below which an image is blurred
SIZE_RATIO = 4.0  # of side or aspect ratio to the median, from which a size is odd
NEIGHBOURS = 10  # whose mean distance makes an image an outlier
OUTLIER_DEVIATIONS = 6.0  # median absolute deviations above the median distance
MAD_TO_STD = 1.4826  # of a normal distribution
BLOCK = 1024  # rows of the matrix of distances in memory at a time


def measure(split):
    """Returns figures of every image, as a dict of arrays `(images,)`.

    `sharpness` is the variance of the Laplacian relative to that of the image (Pech-Pacheco et
    al., 2000, with the contrast divided out), `bright` the 99th percentile of gray in [0, 255],
    `std` the largest standard deviation of a channel, `height` and `width` in pixels; all are NaN
    for an image that cannot be read.

    Args:
        split: A `dataset.Split`.
    """
    one = partial(_measure, bits=split.bits)
    found = ordered_map(one, split.items, os.cpu_count())
    rows = list(progress(found, len(split), "measuring images"))
    names = ("sharpness", "bright", "std", "height", "width")
    return dict(zip(names, np.array(rows, "float64").T, strict=True))


def quality_issues(figures):
    """Returns the indices of the images with each issue, as a dict, the most extreme first.

    An image that is uniform is neither dark nor blurred as well.

    Args:
        figures: From `measure`.
    """
    uniform = figures["std"] < UNIFORM_STD
    dark = (figures["bright"] < DARK_LEVEL) & ~uniform
    sharpness = np.where(uniform, np.nan, figures["sharpness"])
    blurred = (sharpness < BLUR_RATIO * _median(sharpness)) & ~dark
    side = np.sqrt(figures["height"] * figures["width"])
    oddness = np.maximum(_ratio(side), _ratio(figures["height"] / figures["width"]))
    return {
        "blurred": _in_order(blurred, sharpness),
        "dark": _in_order(dark, figures["bright"]),
        "uniform": _in_order(uniform, figures["std"]),
        "odd_size": _in_order(oddness >= SIZE_RATIO, -oddness),
    }


def outliers(features):
    """Returns the indices of images that are far from all others, the farthest first.

    The distance of an image is that of the cosine, averaged over its `NEIGHBOURS` nearest images
    (Kuan and Mueller, 2022, arXiv:2207.03061). An outlier lies `OUTLIER_DEVIATIONS` above the
    median.

    Args:
        features: `(images, features)`.
    """
    distances = neighbour_distances(features)
    middle = np.median(distances)
    spread = MAD_TO_STD * np.median(np.abs(distances - middle))
    return _in_order(distances > middle + OUTLIER_DEVIATIONS * spread, -distances)


def neighbour_distances(features):
    """Returns the mean cosine distance of each image to its nearest others, `(images,)`."""
    features = np.asarray(features, "float32")
    features = features - features.mean(axis=0)
    directions = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    count = min(NEIGHBOURS, len(features) - 1)
    found = []
    for first in range(0, len(directions), BLOCK):
        similarity = directions[first : first + BLOCK] @ directions.T
        rows = np.arange(len(similarity))
        similarity[rows, first + rows] = -np.inf
        found.append(-np.partition(-similarity, count - 1, axis=1)[:, :count].mean(axis=1))
    return 1 - np.concatenate(found)


def _measure(item, bits):
    """Returns the figures of one image, or NaNs."""
    try:
        data = item if isinstance(item, np.ndarray) else image_io.item_bytes(item)
        height, width = image_io.image_size(data)
        scale = min(1.0, MAX_SIDE / max(height, width))
        shape = [max(1, round(side * scale)) for side in (height, width)]
        pixels = image_io.read_image(data, (*shape, image_io.num_channels(data)), bits=bits)
    except image_io.UnreadableImage:
        return (np.nan,) * 5
    grey = image_channels.to_rgb(pixels).astype("float32") @ np.array(LUMA, "float32")
    middle = grey[1:-1, 1:-1]
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle
    sharpness = edges.var() / max(float(grey.var()), 1e-6) if edges.size else np.nan
    std = pixels.reshape(-1, pixels.shape[-1]).std(axis=0).max()
    return sharpness, np.percentile(grey, 99), std, height, width


def _median(values):
    return np.nanmedian(values) if np.isfinite(values).any() else np.nan


def _ratio(values):
    """Returns how many times larger or smaller values are than their median."""
    relative = values / _median(values)
    return np.maximum(relative, 1 / relative)


def _in_order(chosen, values):
    """Returns the chosen indices as a list, those with the lowest values first."""
    found = np.flatnonzero(chosen)
    return found[np.argsort(values[found], kind="stable")].tolist()
