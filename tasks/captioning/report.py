"""The report of a captioner: images with captions, and attention maps of their words.

Examples are anything with `sentences`, the references of each image, and with `pixels`, images that
can be indexed by an array.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from tasks.captioning import metrics
from tasks.report import image_channels, page, plots
from tasks.report.baselines import compare_to_baseline
from tasks.report.evaluation_report import EvaluatedModel
from tasks.report.formatting import format_value, image_name
from tasks.report.image_results import ImageResults, of_examples
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")
ImageDraw = LazyModule("PIL.ImageDraw")
ImageFont = LazyModule("PIL.ImageFont")

NUM_WORST, NUM_BEST, NUM_ATTENTION_EXAMPLES = 12, 4, 4
MIN_DISPLAY_SIZE = 256  # pixels; smaller images are enlarged until the longer side has that many
HEATMAP_COLOUR = (255, 64, 0)
MAX_HEATMAP_ALPHA = 0.25  # opacity of that color at the maximum of an attention map
MIN_BRIGHTNESS = 0.25  # of an image where the attention is 0
NUM_COLUMNS = 6  # of panels in a picture of attention maps
_FONT_SIZE, _LINE_HEIGHT = 14, 20  # pixels
_MAX_LINE_LENGTH = 38  # characters
_TEXT_COLOUR, _BACKGROUND_COLOUR = (27, 31, 36), (255, 255, 255)


def lead(evaluated: EvaluatedModel, figures: Mapping[str, float]) -> str:
    """Returns a sentence that summarizes the result.

    Args:
        evaluated: what was evaluated.
        figures: those of `metrics.metrics_with_intervals`.
    """
    return (
        f"{evaluated.model} captions {evaluated.test_images} with a BLEU-4 of "
        f"{format_value('bleu4', figures['bleu4'])} and a CIDEr-D of "
        f"{format_value('cider', figures['cider'])}; {evaluated.training_clause(figures)}."
    )


def select_examples(examples, predictions: Sequence[str]):
    """Returns the indices of images to show attention maps of: some of the worst and best."""
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
    """Returns the sections of a report on a captioner, pairs of title and HTML.

    Args:
        examples: the test images with their references.
        predictions: a caption per image.
        log_probabilities: of the captions, in nats.
        attention_indices: indices of the images whose attention maps are shown.
        attention_maps: for each of them an array `(words, rows, columns)`; or `None` for a model
            without attention.
        detokenize: converts words joined by spaces to text for display.
    """
    scores = _caption_scores(examples, predictions)
    order = np.argsort(scores, kind="stable")
    best = order[::-1][:NUM_BEST]
    worst = order[: max(0, len(order) - len(best))][:NUM_WORST]
    found = [("Most frequent captions", _frequency_table(predictions, detokenize))]
    for title, group in (("Worst captions", worst), ("Best captions", best)):
        if len(group):
            texts = [
                _caption_text(
                    image_name(examples, n),
                    [detokenize(s) for s in (predictions[n], *examples.sentences[n])],
                    log_probabilities[n],
                    scores[n],
                )
                for n in group
            ]
            pictures = zip(examples.pixels[group], texts, strict=True)
            found.append((title, plots.image_gallery(pictures)))
    if attention_maps is not None:
        words = [predictions[index].split() for index in attention_indices]
        rows = zip(examples.pixels[attention_indices], words, attention_maps, strict=True)
        galleries = [plots.image_gallery(attention_panels(*row)) for row in rows]
        found.append(("Attention maps", "".join(galleries)))
    return found


def image_results(examples, predictions: Sequence[str]) -> ImageResults:
    """Returns the results on each image: its caption, and the ROUGE-L and CIDEr-D of that.

    Args:
        examples: the images with their references.
        predictions: a caption per image.
    """
    words, reference_words = metrics.split(predictions, examples.sentences)
    columns = {
        "prediction": list(predictions),
        "rouge_l": metrics.rouge_l(words, reference_words),
        "cider": metrics.cider(words, reference_words),
    }
    return of_examples(examples, columns)


def attention_panels(image, words: Sequence[str], maps) -> list[tuple]:
    """Returns for each word the image with the attention map overlaid, and the word.

    Args:
        image: uint8 `(height, width, channels)`, converted by `image_channels.to_rgb`.
        words: the words of the caption.
        maps: `(words, rows, columns)`, their attention maps.
    """
    return [(overlay_attention(image, each), word) for word, each in zip(words, maps, strict=True)]


def overlay_attention(image, attention_map):
    """Returns an image that is bright and reddish where the attention is high, and dark elsewhere.

    Args:
        image: uint8 `(height, width, channels)`, converted by `image_channels.to_rgb`.
        attention_map: `(rows, columns)`, 0 or more; its maximum has full brightness.

    Returns:
        uint8 `(height, width, 3)`, the longer side of `MIN_DISPLAY_SIZE` pixels or more.
    """
    image = _upscale(image)
    scaled = (255 * attention_map / max(float(attention_map.max()), 1e-12)).astype("uint8")
    smooth = Image.fromarray(scaled).resize(image.shape[1::-1], Image.Resampling.BICUBIC)
    heat = np.asarray(smooth, "float32")[..., None] / 255
    darkened = image * (MIN_BRIGHTNESS + (1 - MIN_BRIGHTNESS) * heat)
    alpha = MAX_HEATMAP_ALPHA * heat
    blended = (1 - alpha) * darkened + alpha * np.array(HEATMAP_COLOUR)
    return np.rint(blended).clip(0, 255).astype("uint8")


def attention_grid(image, words: Sequence[str], maps):
    """Returns one picture of the image and all panels, each above its word, in rows."""
    cells = [_add_text_below(_upscale(image), ["image"])]
    for panel, word in attention_panels(image, words, maps):
        cells.append(_add_text_below(panel, [word]))
    blank = np.full_like(cells[0], 255)
    rows = [cells[start : start + NUM_COLUMNS] for start in range(0, len(cells), NUM_COLUMNS)]
    width = len(rows[0])
    return np.concatenate(
        [np.concatenate([*row, *[blank] * (width - len(row))], axis=1) for row in rows]
    )


def caption_images(images, sentences: Sequence[Sequence[str]]):
    """Returns images with their captions below, uint8 `(count, height, width, 3)`.

    Args:
        images: uint8 `(count, height, width, channels)`.
        sentences: the captions of each image.
    """
    lines = [
        [line for s in own for line in textwrap.wrap(s, _MAX_LINE_LENGTH)] for own in sentences
    ]
    num_lines = max(map(len, lines))
    padded = [[*own, *[""] * (num_lines - len(own))] for own in lines]
    return np.stack(
        [_add_text_below(_upscale(i), own) for i, own in zip(images, padded, strict=True)]
    )


def _caption_scores(examples, predictions):
    """Returns the CIDEr-D of each image, with a small share of ROUGE-L to break ties."""
    words, reference_words = metrics.split(predictions, examples.sentences)
    return metrics.cider(words, reference_words) + 1e-3 * metrics.rouge_l(words, reference_words)


def _frequency_table(predictions, detokenize):
    """Returns a table of the captions that are predicted most often, as HTML."""
    unique = sorted(set(predictions), key=lambda s: (-predictions.count(s), s))[:NUM_WORST]
    rows = [{"sentence": detokenize(s), "times": predictions.count(s)} for s in unique]
    return page.table(rows, list(rows[0]))


def _caption_text(title, sentences, log_probability, score):
    """Returns the text below an image: its title, the caption, its scores and the references."""
    caption, *references = sentences
    scores = f"{np.exp(log_probability):.1%}, CIDEr-D {score:.2f}"
    return "\n".join([title, caption or "(nothing)", scores, *(f"- {each}" for each in references)])


def _upscale(image):
    """Returns an RGB image, enlarged by an integer factor to `MIN_DISPLAY_SIZE` or more."""
    image = image_channels.to_rgb(image)
    factor = max(1, -(-MIN_DISPLAY_SIZE // max(image.shape[:2])))
    return image.repeat(factor, 0).repeat(factor, 1)


def _add_text_below(image, lines):
    """Returns a picture with lines of text below it."""
    height, width, _ = image.shape
    sheet = Image.new("RGB", (width, height + _LINE_HEIGHT * len(lines) + 4), _BACKGROUND_COLOUR)
    sheet.paste(Image.fromarray(image), (0, 0))
    font, pen = ImageFont.load_default(_FONT_SIZE), ImageDraw.Draw(sheet)
    for row, line in enumerate(lines):
        pen.text((4, height + 2 + _LINE_HEIGHT * row), line, fill=_TEXT_COLOUR, font=font)
    return np.asarray(sheet)


def captioning_warnings(figures, sentences: Sequence[str], references) -> list[str]:
    """Returns a warning if captions are not better than the same caption for every image.

    The baseline is the most frequent of the captions, for every image.

    Args:
        figures: The metrics, from `metrics.metrics_with_intervals`.
        sentences: The caption of each image.
        references: The reference captions of each image.

    Returns:
        At most one line.
    """
    if len(sentences) < 2:
        return []
    (caption, count), *_ = Counter(sentences).most_common(1)
    if count == len(sentences):
        return [f"all {count:,} images have the same caption: {caption!r}"]
    cider = metrics.compute_metrics([caption] * len(sentences), references)["cider"]
    baseline = f"the caption {caption!r} for every image ({format_value('cider', cider)})"
    return compare_to_baseline("cider", "CIDEr", figures, cider, baseline)
