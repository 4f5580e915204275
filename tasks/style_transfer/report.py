"""Pictures of a style transfer: content, styles and what came out, side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence

from tasks.report import page
from tasks.report.formatting import escape, format_value
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")

MAX_DISPLAY_SIZE = 768  # pixels of a side that a picture has on the page
JPEG_QUALITY = 92  # of the JPEG pictures there
GRID_STYLE = (
    "display:grid;gap:1.25rem;margin-bottom:1.25rem;"
    "grid-template-columns:repeat(auto-fit,minmax(min(16rem,100%),1fr))"
)
LOSS_NAMES = ("content_loss", "style_loss", "variation")


def lead(
    model: str, figures: Mapping[str, float], before: Mapping[str, float], *, num_test: int
) -> str:
    """Says what came out, in a sentence for somebody who was not there.

    Args:
        model: its name.
        figures, before: losses of the painted pictures, and of the same unpainted.
        num_test: how many pictures they are of; 0 for the one that was changed step by step.
    """
    ratio = before["style_loss"] / max(figures["style_loss"], 1e-12)
    change = f"{format_value('style_loss', before['style_loss'])} to "
    change += f"{format_value('style_loss', figures['style_loss'])}"
    if not num_test:
        return f"{model} brought the picture {ratio:,.3g} times nearer to the style: {change}."
    which = "a picture that it had" if num_test == 1 else f"{num_test} pictures that it had"
    return f"{model} brings {which} never seen {ratio:,.3g} times nearer to the style: {change}."


def sections(
    styles: Sequence,
    shares: Sequence[float],
    pairs: Iterable[tuple],
    figures: Mapping[str, float],
    before: Mapping[str, float],
) -> list[tuple[str, str]]:
    """Returns sections on painted pictures.

    Args:
        styles: uint8 `(height, width, 3)`.
        shares: of each style, 1 together.
        pairs: pictures before and after.
        figures, before: losses, as `lead` takes them.
    """
    rows = [
        {"loss": name.replace("_", " "), "unpainted": before[name], "painted": figures[name]}
        for name in LOSS_NAMES
    ]
    named = [
        (style, "style" if len(styles) == 1 else f"style, {share:.0%}")
        for style, share in zip(styles, shares, strict=True)
    ]
    shown = "".join(image_row([(image, "content"), (found, "painted")]) for image, found in pairs)
    return [
        ("Pictures", shown + image_row(named)),
        ("Losses", page.table(rows, ("loss", "unpainted", "painted"))),
    ]


def image_row(items: Iterable[tuple]) -> str:
    """Shows pictures side by side, as large as there is room, with a caption each.

    Args:
        items: pairs of a uint8 picture `(height, width, 3)` and its caption.
    """
    return f'<div style="{GRID_STYLE}">{"".join(_image_figure(*item) for item in items)}</div>'


def _image_figure(pixels, caption):
    picture = Image.fromarray(np.asarray(pixels))
    picture.thumbnail((MAX_DISPLAY_SIZE, MAX_DISPLAY_SIZE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=JPEG_QUALITY)
    source = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    width = max(picture.width, 256)
    return (
        f'<figure><img style="width:100%;max-width:{width}px" src="{source}" '
        f'alt="{escape(caption)}"/><figcaption>{escape(caption)}</figcaption></figure>'
    )
