"""The report on a style transfer: summary, images side by side, and losses."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence

from tasks.report import page
from tasks.report.baselines import compare_to_baseline
from tasks.report.formatting import escape, format_value
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

MAX_DISPLAY_SIZE = 768  # of the longer side of an image in the report, in pixels
JPEG_QUALITY = 92
GRID_STYLE = (
    "display:grid;gap:1.25rem;margin-bottom:1.25rem;"
    "grid-template-columns:repeat(auto-fit,minmax(min(16rem,100%),1fr))"
)
LOSS_NAMES = ("content_loss", "style_loss", "variation")


def lead(
    model: str, figures: Mapping[str, float], before: Mapping[str, float], *, num_test: int
) -> str:
    """Returns the summary of a run, one sentence for the top of the report.

    Args:
        model: its name.
        figures: losses of the stylized images.
        before: losses of the original images.
        num_test: the number of images; 0 if one image was optimized.
    """
    ratio = before["style_loss"] / max(figures["style_loss"], 1e-12)
    losses = (format_value("style_loss", each["style_loss"]) for each in (before, figures))
    change = f"by a factor of {ratio:,.3g}, from {' to '.join(losses)}"
    if not num_test:
        return f"{model} reduced the style loss of the image {change}."
    images = "one test image" if num_test == 1 else f"{num_test} test images"
    return f"{model} reduces the style loss of {images} {change}."


def sections(
    styles: Sequence,
    style_weights: Sequence[float],
    pairs: Iterable[tuple],
    figures: Mapping[str, float],
    before: Mapping[str, float],
) -> list[tuple[str, str]]:
    """Returns the sections with images and losses.

    Args:
        styles: style images, uint8 `(height, width, 3)`.
        style_weights: the weight of each style; they sum to 1.
        pairs: original and stylized images.
        figures, before: losses, as for `lead`.
    """
    rows = [
        {"loss": name.replace("_", " "), "original": before[name], "stylized": figures[name]}
        for name in LOSS_NAMES
    ]
    captioned = [
        (style, "style" if len(styles) == 1 else f"style, {weight:.0%}")
        for style, weight in zip(styles, style_weights, strict=True)
    ]
    shown = "".join(
        image_row([(image, "content"), (result, "stylized")]) for image, result in pairs
    )
    return [
        ("Images", shown + image_row(captioned)),
        ("Losses", page.table(rows, ("loss", "original", "stylized"))),
    ]


def style_warnings(figures: Mapping[str, float], before: Mapping[str, float]) -> list[str]:
    """Returns a warning if the style loss is not lower than that of the original images."""
    baseline = before["style_loss"]
    description = f"that of the original images ({format_value('style_loss', baseline)})"
    return compare_to_baseline(
        "style_loss", "style loss", figures, baseline, description, lower_is_better=True
    )


def image_row(items: Iterable[tuple]) -> str:
    """Returns a row of images with captions as HTML, scaled to the width of the page.

    Args:
        items: pairs of a uint8 image `(height, width, 3)` and its caption.
    """
    return f'<div style="{GRID_STYLE}">{"".join(_image_figure(*item) for item in items)}</div>'


def _image_figure(pixels, caption):
    image = Image.fromarray(np.asarray(pixels))
    image.thumbnail((MAX_DISPLAY_SIZE, MAX_DISPLAY_SIZE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    source = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    width = max(image.width, 256)
    return (
        f'<figure><img style="width:100%;max-width:{width}px" src="{source}" '
        f'alt="{escape(caption)}"/><figcaption>{escape(caption)}</figcaption></figure>'
    )
