"""Pictures of captions: what was said of an image, and where a model looked at each word.

Examples are anything with `sentences`, the references of each image, and with `pixels`, images that
an array of indices selects.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence

from tasks.captioning import metrics
from tasks.report import image_channels, page, plots
from tasks.report.formatting import describe_test_images, format_value, image_name
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")
ImageDraw = LazyModule("PIL.ImageDraw")
ImageFont = LazyModule("PIL.ImageFont")

NUM_WORST, NUM_BEST, NUM_ATTENTION_EXAMPLES = 12, 4, 4
MIN_DISPLAY_SIZE = 256  # pixels along the longer side of an image that is drawn here
HEATMAP_COLOUR = (255, 64, 0)
MAX_HEATMAP_ALPHA = 0.25  # how much of an image is red where most is looked at
MIN_BRIGHTNESS = 0.25  # how much of an image is left where nobody looks
_FONT_SIZE, _LINE_HEIGHT, _MAX_LINE_LENGTH = (
    14,
    20,
    38,
)  # height of letters and lines in pixels, letters in a line
_TEXT_COLOUR, _BACKGROUND_COLOUR = (27, 31, 36), (255, 255, 255)


def lead(
    model: str,
    dataset: str,
    figures: Mapping[str, float],
    *,
    num_test: int,
    num_train: int,
    copies: int = 0,
) -> str:
    """Says what came out, in a sentence for somebody who was not there.

    Args:
        model, dataset: their names.
        figures: those of `metrics.metrics_with_intervals`.
        num_test, num_train, copies: as `formatting.describe_test_images` takes them.
    """
    images = "1 test image" if num_test == 1 else f"{num_test:,} test images"
    return (
        f"{model} says what is in {images} of {dataset} with a BLEU-4 of "
        f"{format_value('bleu4', figures['bleu4'])} and a CIDEr-D of "
        f"{format_value('cider', figures['cider'])}; "
        f"{describe_test_images(num_test, num_train, copies)}."
    )


def select_examples(examples, predictions: Sequence[str]):
    """Returns the indices of the images whose attention is shown: some of the worst and best."""
    order = np.argsort(_caption_scores(examples, predictions), kind="stable")
    half = min(len(order), NUM_ATTENTION_EXAMPLES) // 2
    return np.unique([*order[:half], *order[len(order) - (NUM_ATTENTION_EXAMPLES - half) :]])


def sections(
    examples,
    predictions,
    log_probabilities,
    attention_indices,
    attention_maps,
    detokenize: Callable = str,
) -> list[tuple[str, str]]:
    """Returns sections on a model that captions images.

    Args:
        examples: the images with their references.
        predictions: a sentence for each.
        log_probabilities: the logarithm of the probability of each, in nats.
        attention_indices: indices of the images whose attention is shown.
        attention_maps: of each of them where the model looked at each word, `(words, rows,
            columns)`; or
            `None` for a model that looks nowhere.
        detokenize: takes a sentence of words with a space between and returns it as it is shown.
    """
    scores = _caption_scores(examples, predictions)
    order = np.argsort(scores, kind="stable")
    best = order[::-1][:NUM_BEST]
    worst = order[: max(0, len(order) - len(best))][:NUM_WORST]
    rows = [
        {"sentence": detokenize(sentence), "times": predictions.count(sentence)}
        for sentence in sorted(set(predictions), key=lambda s: (-predictions.count(s), s))[
            :NUM_WORST
        ]
    ]
    found = [("What is said most", page.table(rows, list(rows[0])))]
    for title, group in (("Worst captions", worst), ("Best captions", best)):
        if len(group):
            texts = [
                [detokenize(s) for s in (predictions[n], *examples.sentences[n])] for n in group
            ]
            notes = [
                f"{image_name(examples, n)}\n"
                f"{_caption_text(own[0], log_probabilities[n], scores[n], own[1:])}"
                for n, own in zip(group, texts, strict=True)
            ]
            pictures = zip(examples.pixels[group], notes, strict=True)
            found.append((title, plots.image_gallery(pictures)))
    if attention_maps is not None:
        words = [predictions[index].split() for index in attention_indices]
        shown = zip(examples.pixels[attention_indices], words, attention_maps, strict=True)
        found.append(
            (
                "Where it looked",
                "".join(plots.image_gallery(attention_panels(*each)) for each in shown),
            )
        )
    return found


def attention_panels(image, words: Sequence[str], maps) -> list[tuple]:
    """Returns for each word the image, bright and red where the model looked, and the word.

    Args:
        image: uint8 `(height, width, channels)`, of which `image_channels.to_rgb` are shown.
        words: of the sentence.
        maps: `(words, rows, columns)`; how much of each word's look went to each place.
    """
    return [
        (overlay_attention(image, place), word) for word, place in zip(words, maps, strict=True)
    ]


def overlay_attention(image, place):
    """Returns an image, bright and red where the model looked.

    Args:
        image: uint8 `(height, width, channels)`, of which `image_channels.to_rgb` are shown.
        place: `(rows, columns)`, not negative; the largest value is the brightest place.

    Returns:
        uint8 `(height, width, 3)`, the longer side of `SIDE` pixels or more.
    """
    image = _upscale(image)
    share = (255 * place / max(float(place.max()), 1e-12)).astype("uint8")
    smooth = Image.fromarray(share).resize(image.shape[1::-1], Image.Resampling.BICUBIC)
    light = np.asarray(smooth, "float32")[..., None] / 255
    shown = image * (MIN_BRIGHTNESS + (1 - MIN_BRIGHTNESS) * light)
    red = MAX_HEATMAP_ALPHA * light
    return np.rint((1 - red) * shown + red * np.array(HEATMAP_COLOUR)).clip(0, 255).astype("uint8")


def attention_grid(image, words: Sequence[str], maps):
    """Returns one picture of all panels side by side, each above its word, in rows of six."""
    cells = [
        _add_text_below(overlay_attention(image, p), [w]) for w, p in zip(words, maps, strict=True)
    ]
    cells = [_add_text_below(_upscale(image), ["image"]), *cells]
    blank = np.full_like(cells[0], 255)
    rows = [cells[start : start + 6] for start in range(0, len(cells), 6)]
    wide = len(rows[0])
    return np.concatenate(
        [np.concatenate([*row, *[blank] * (wide - len(row))], axis=1) for row in rows]
    )


def caption_images(images, sentences: Sequence[Sequence[str]]):
    """Returns images with their sentences below, uint8 `(count, height, width, 3)`, all alike.

    Args:
        images: uint8 `(count, height, width, channels)`.
        sentences: of each.
    """
    lines = [
        [line for s in own for line in textwrap.wrap(s, _MAX_LINE_LENGTH)] for own in sentences
    ]
    most = max(map(len, lines))
    padded = [[*own, *[""] * (most - len(own))] for own in lines]
    return np.stack(
        [_add_text_below(_upscale(i), own) for i, own in zip(images, padded, strict=True)]
    )


def _caption_scores(examples, predictions):
    """Returns the CIDEr-D of each image, and its ROUGE-L where those are equal."""
    words, references_words = metrics.split(predictions, examples.sentences)
    return metrics.cider(words, references_words) + 1e-3 * metrics.rouge_l(words, references_words)


def _caption_text(sentence, log_probability, score, references):
    """Returns what stands below an image: what was said, how surely, and what people said."""
    confidence = f"{np.exp(log_probability):.1%}, CIDEr-D {score:.2f}"
    return "\n".join([sentence or "(nothing)", confidence, *(f"- {each}" for each in references)])


def _upscale(image):
    """Returns an image in RGB, enlarged by a whole number to `SIDE` pixels or more."""
    image = image_channels.to_rgb(image)
    times = max(1, -(-MIN_DISPLAY_SIZE // max(image.shape[:2])))
    return image.repeat(times, 0).repeat(times, 1)


def _add_text_below(image, lines):
    """Returns a picture with lines of text below it."""
    height, width, _ = image.shape
    sheet = Image.new("RGB", (width, height + _LINE_HEIGHT * len(lines) + 4), _BACKGROUND_COLOUR)
    sheet.paste(Image.fromarray(image), (0, 0))
    font, pen = ImageFont.load_default(_FONT_SIZE), ImageDraw.Draw(sheet)
    for place, line in enumerate(lines):
        pen.text((4, height + 2 + _LINE_HEIGHT * place), line, fill=_TEXT_COLOUR, font=font)
    return np.asarray(sheet)


def captioning_warnings(sentences: Sequence[str]) -> list[str]:
    """Says, in at most one line, where a model has one sentence for all of several images."""
    if len(sentences) < 2 or len(set(sentences)) > 1:
        return []
    return [f"the model describes each of {len(sentences):,} images alike: {sentences[0]!r}"]
