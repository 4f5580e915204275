"""The pictures of a style transfer: content, styles, and whose colours come out."""

from __future__ import annotations

from pathlib import Path

from tasks.data import image_io
from tasks.data.dataset import short_name
from tasks.style_transfer import synthetic_images
from zoo.atomic_files import atomic_write
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

COLOUR_MODES = ("none", "luminance", "match")  # ways to keep those of the content
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in the brightness that an eye sees (YIQ)
MIN_VARIANCE = 1e-3  # of a colour in a picture, so that it can be divided by


def read(name, size=0, crop=0.0):
    """Reads a picture.

    Args:
        name: path of an image file, or the name of a drawn one, a key of
        `synthetic_images.SYNTHETIC_IMAGES`.
        size: pixels of the longer side; 0 for the picture's own.
        crop: share of each side that is cut off, at both ends; less than a half.

    Returns:
        uint8 `(height, width, 3)`.

    Raises:
        UsageError: there is no such file, or it is no picture.
    """
    item = name
    if name in synthetic_images.SYNTHETIC_IMAGES:
        item = synthetic_images.SYNTHETIC_IMAGES[name]()
    elif not Path(name).is_file():
        what = "a folder" if Path(name).is_dir() else "no file"
        known = ", ".join(synthetic_images.SYNTHETIC_IMAGES)
        raise UsageError(f"{name!r} is {what}; a picture is an image file, or drawn: {known}")
    if crop:
        full_image = image_io.read_image(item)
        top, left = (int(crop * side) for side in full_image.shape[:2])
        item = full_image[top : full_image.shape[0] - top, left : full_image.shape[1] - left]
    height, width = image_io.image_size(item)
    scale = size / max(height, width) if size else 1
    sides = [max(1, round(side * scale)) for side in (height, width)]
    return image_io.read_image(item, (*sides, 3))


def write(picture, path):
    """Writes a uint8 picture into a file; at any moment it is not there, or whole."""
    with atomic_write(path) as partial:
        Image.fromarray(picture).save(partial)


def parse_names(text):
    """Returns the names in a flag's list, such as `a.jpg,b.jpg`."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise UsageError(f"needed: names with commas between, such as one,two; not {text!r}")
    return tuple(found)


def title(content, style):
    """Returns what to call a content in a style, or in several, without the folders of files."""
    return f"{short_name(content)} in the style of {','.join(map(short_name, parse_names(style)))}"


def parse_style_weights(text, count):
    """Returns the share of each of some styles, which are 1 together.

    Args:
        text: numbers such as `0.7,0.3`, or nothing for equal shares.
        count: how many styles there are.

    Raises:
        UsageError: they are not as many, or no positive numbers.
    """
    try:
        found = [float(word) for word in text.split(",")] if text else [1.0] * count
    except ValueError:
        found = [-1.0]
    if len(found) != count or not all(share > 0 for share in found):
        what = f"{count} positive numbers" if count > 1 else "one positive number"
        raise UsageError(f"--style-weights takes {what}, one for each --style; not {text!r}")
    return tuple(share / sum(found) for share in found)


def match_colours(picture, other):
    """Gives a picture the mean and covariance of another one's colours.

    Reference:
        Gatys et al., 2016, arXiv:1606.05897, section 3, by the symmetric roots of the covariances.

    Args:
        picture, other: uint8 `(height, width, 3)`, of any two sizes.

    Returns:
        uint8, as large as `picture`.
    """
    source, reference = (np.asarray(each, "float64").reshape(-1, 3) for each in (picture, other))
    transform = _matrix_square_root(np.cov(reference.T)) @ np.linalg.inv(
        _matrix_square_root(np.cov(source.T))
    )
    found = (source - source.mean(axis=0)) @ transform.T + reference.mean(axis=0)
    return found.reshape(picture.shape).round().clip(0, 255).astype("uint8")


def to_grey(picture):
    """Returns the brightness of a picture as a picture, uint8 `(height, width, 3)`."""
    brightness = (np.asarray(picture, "float64") @ LUMA).round().clip(0, 255).astype("uint8")
    return np.repeat(brightness[..., None], 3, axis=-1)


def match_luminance(picture, other):
    """Gives a grey picture the mean and deviation of another one's brightness.

    Reference:
        Gatys et al., 2016, arXiv:1606.05897, equation 10.
    """
    source, reference = (np.asarray(each, "float64") for each in (picture, other))
    scale = reference.std() / max(source.std(), MIN_VARIANCE)
    return (
        ((source - source.mean()) * scale + reference.mean()).round().clip(0, 255).astype("uint8")
    )


def restore_colours(picture, content):
    """Gives a picture the colours of another one, of the same size, and keeps its brightness.

    Args:
        picture, content: `(height, width, 3)` in [0, 255].

    Returns:
        uint8 `(height, width, 3)`: of YIQ, Y is the picture's, I and Q are the content's.
    """
    source, reference = (np.asarray(each, "float64") for each in (picture, content))
    return (
        (reference + (source @ LUMA - reference @ LUMA)[..., None])
        .round()
        .clip(0, 255)
        .astype("uint8")
    )


def _matrix_square_root(covariance):
    """Returns the symmetric square root of a covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, MIN_VARIANCE)) @ vectors.T
