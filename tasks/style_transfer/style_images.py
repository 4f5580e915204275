"""Content and style images: reading, writing, and preserving colors."""

from __future__ import annotations

from pathlib import Path

from tasks.data import image_io
from tasks.data.dataset import short_name
from tasks.style_transfer import synthetic_images
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

COLOUR_MODES = ("none", "luminance", "match")  # how the colors of the content are preserved
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in luminance, Y of YIQ
MIN_VARIANCE = 1e-3  # lower bound of variances and standard deviations to divide by


def read(name, size=0, crop=0.0):
    """Reads an image.

    Args:
        name: path of an image file, or the name of a synthetic image, a key of
            `synthetic_images.SYNTHETIC_IMAGES`.
        size: the longer side in pixels; 0 for that of the image.
        crop: fraction to crop from each edge, in [0, 0.5).

    Returns:
        uint8 `(height, width, 3)`.

    Raises:
        UsageError: there is no such file, or it is no image.
    """
    item = name
    if name in synthetic_images.SYNTHETIC_IMAGES:
        item = synthetic_images.SYNTHETIC_IMAGES[name]()
    elif not Path(name).is_file():
        what = "a folder" if Path(name).is_dir() else "not a file"
        known = ", ".join(synthetic_images.SYNTHETIC_IMAGES)
        raise UsageError(f"{name!r} is {what}; expected an image file or one of: {known}")
    if crop:
        full_image = image_io.read_image(item)
        top, left = (int(crop * side) for side in full_image.shape[:2])
        item = full_image[top : full_image.shape[0] - top, left : full_image.shape[1] - left]
    height, width = image_io.image_size(item)
    scale = size / max(height, width) if size else 1
    sides = [max(1, round(side * scale)) for side in (height, width)]
    return image_io.read_image(item, (*sides, 3))


def write(image, path):
    """Writes a uint8 image to a file, atomically."""
    with atomic_write(path) as partial:
        Image.fromarray(image).save(partial)


def parse_names(text):
    """Returns the names in a flag's list, such as `a.jpg,b.jpg`."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(f"expected names separated by commas, such as one,two; got {text!r}")
    return tuple(names)


def title(content, style):
    """Returns the title of a run, with the names of content and styles without their folders."""
    return f"{short_name(content)} in the style of {','.join(map(short_name, parse_names(style)))}"


def parse_style_weights(text, count):
    """Returns the weights of the style images, which sum to 1.

    Args:
        text: numbers such as `0.7,0.3`, or "" for equal weights.
        count: the number of style images.

    Raises:
        UsageError: there are not `count` numbers, or one is not positive.
    """
    try:
        weights = [float(word) for word in text.split(",")] if text else [1.0] * count
    except ValueError:
        weights = [-1.0]
    if len(weights) != count or not all(weight > 0 for weight in weights):
        numbers = f"{count} positive numbers" if count > 1 else "one positive number"
        raise UsageError(f"--style-weights needs {numbers}, one per --style; got {text!r}")
    return tuple(weight / sum(weights) for weight in weights)


def match_colours(image, other):
    """Matches the mean and covariance of an image's colors to those of another image.

    Reference:
        Gatys et al., 2016, arXiv:1606.05897, section 3, with symmetric square roots of covariances.

    Args:
        image, other: uint8 `(height, width, 3)`; their sizes may differ.

    Returns:
        uint8, of the shape of `image`.
    """
    source, reference = (np.asarray(each, "float64").reshape(-1, 3) for each in (image, other))
    transform = _matrix_square_root(np.cov(reference.T)) @ np.linalg.inv(
        _matrix_square_root(np.cov(source.T))
    )
    matched = (source - source.mean(axis=0)) @ transform.T + reference.mean(axis=0)
    return _to_uint8(matched.reshape(image.shape))


def to_grey(image):
    """Returns the luminance of an image as an image of three equal channels, uint8."""
    luminance = _to_uint8(np.asarray(image, "float64") @ LUMA)
    return np.repeat(luminance[..., None], 3, axis=-1)


def match_luminance(image, other):
    """Matches mean and standard deviation of a gray image to those of another gray image.

    Reference:
        Gatys et al., 2016, arXiv:1606.05897, equation 10.
    """
    source, reference = (np.asarray(each, "float64") for each in (image, other))
    scale = reference.std() / max(source.std(), MIN_VARIANCE)
    return _to_uint8((source - source.mean()) * scale + reference.mean())


def restore_colours(image, content):
    """Returns an image with the luminance of `image` and the chrominance of `content`.

    Args:
        image, content: `(height, width, 3)` in [0, 255], of one size.

    Returns:
        uint8 `(height, width, 3)`, with Y of YIQ from `image`, and I and Q from `content`.
    """
    source, reference = (np.asarray(each, "float64") for each in (image, content))
    return _to_uint8(reference + (source @ LUMA - reference @ LUMA)[..., None])


def _to_uint8(pixels):
    return pixels.round().clip(0, 255).astype("uint8")


def _matrix_square_root(covariance):
    """Returns the symmetric square root of a covariance matrix."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, MIN_VARIANCE)) @ vectors.T
