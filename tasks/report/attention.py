"""Pictures of captions: what was said of an image, and where a model looked at each word.

Examples are anything with `sentences`, the references of each image, and with `pixels`, images that
an array of indices selects.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence

from tasks.report import bands, captions, page, plots
from tasks.report.words import image_name, number, unseen
from zoo.lazy import LazyModule, np

Image = LazyModule("PIL.Image")
ImageDraw = LazyModule("PIL.ImageDraw")
ImageFont = LazyModule("PIL.ImageFont")

SHOWN_WORST, SHOWN_BEST, SHOWN_LOOKS = 12, 4, 4
SIDE = 256  # pixels along the longer side of an image that is drawn here
HEAT = (255, 64, 0)
REDDEST = 0.25  # how much of an image is red where most is looked at
DARKEST = 0.25  # how much of an image is left where nobody looks
_LETTERS, _LINE, _COLUMNS = 14, 20, 38  # height of letters and lines in pixels, letters in a line
_INK, _PAPER = (27, 31, 36), (255, 255, 255)


def lead(
    model: str,
    dataset: str,
    figures: Mapping[str, float],
    *,
    tested: int,
    taught: int,
    copies: int = 0,
) -> str:
    """Says what came out, in a sentence for somebody who was not there.

    Args:
        model, dataset: their names.
        figures: those of `captions.judged`.
        tested, taught, copies: as `words.unseen` takes them.
    """
    images = "1 test image" if tested == 1 else f"{tested:,} test images"
    return (
        f"{model} says what is in {images} of {dataset} with a BLEU-4 of "
        f"{number('bleu4', figures['bleu4'])} and a CIDEr-D of "
        f"{number('cider', figures['cider'])}; {unseen(tested, taught, copies)}."
    )


def chosen(examples, said: Sequence[str]):
    """Returns the indices of the images whose attention is shown: some of the worst and best."""
    order = np.argsort(_scores(examples, said), kind="stable")
    half = min(len(order), SHOWN_LOOKS) // 2
    return np.unique([*order[:half], *order[len(order) - (SHOWN_LOOKS - half) :]])


def sections(
    examples, said, chances, looked_at, looks, written: Callable = str
) -> list[tuple[str, str]]:
    """Returns sections on a model that captions images.

    Args:
        examples: the images with their references.
        said: a sentence for each.
        chances: the logarithm of the probability of each, in nats.
        looked_at: indices of the images whose attention is shown.
        looks: of each of them where the model looked at each word, `(words, rows, columns)`; or
            `None` for a model that looks nowhere.
        written: takes a sentence of words with a space between and returns it as it is shown.
    """
    scores = _scores(examples, said)
    order = np.argsort(scores, kind="stable")
    best = order[::-1][:SHOWN_BEST]
    worst = order[: max(0, len(order) - len(best))][:SHOWN_WORST]
    rows = [
        {"sentence": written(sentence), "times": said.count(sentence)}
        for sentence in sorted(set(said), key=lambda s: (-said.count(s), s))[:SHOWN_WORST]
    ]
    found = [("What is said most", page.table(rows, list(rows[0])))]
    for title, group in (("Worst captions", worst), ("Best captions", best)):
        if len(group):
            texts = [[written(s) for s in (said[n], *examples.sentences[n])] for n in group]
            notes = [
                f"{image_name(examples, n)}\n{_note(own[0], chances[n], scores[n], own[1:])}"
                for n, own in zip(group, texts, strict=True)
            ]
            pictures = zip(examples.pixels[group], notes, strict=True)
            found.append((title, plots.gallery(pictures)))
    if looks is not None:
        words = [said[index].split() for index in looked_at]
        shown = zip(examples.pixels[looked_at], words, looks, strict=True)
        found.append(("Where it looked", "".join(plots.gallery(panels(*each)) for each in shown)))
    return found


def panels(image, words: Sequence[str], maps) -> list[tuple]:
    """Returns for each word the image, bright and red where the model looked, and the word.

    Args:
        image: uint8 `(height, width, channels)`, of which `bands.rgb` are shown.
        words: of the sentence.
        maps: `(words, rows, columns)`; how much of each word's look went to each place.
    """
    return [(heated(image, place), word) for word, place in zip(words, maps, strict=True)]


def heated(image, place):
    """Returns an image, bright and red where the model looked.

    Args:
        image: uint8 `(height, width, channels)`, of which `bands.rgb` are shown.
        place: `(rows, columns)`, not negative; the largest value is the brightest place.

    Returns:
        uint8 `(height, width, 3)`, the longer side of `SIDE` pixels or more.
    """
    image = _large(image)
    share = (255 * place / max(float(place.max()), 1e-12)).astype("uint8")
    smooth = Image.fromarray(share).resize(image.shape[1::-1], Image.Resampling.BICUBIC)
    light = np.asarray(smooth, "float32")[..., None] / 255
    shown = image * (DARKEST + (1 - DARKEST) * light)
    red = REDDEST * light
    return np.rint((1 - red) * shown + red * np.array(HEAT)).clip(0, 255).astype("uint8")


def strip(image, words: Sequence[str], maps):
    """Returns one picture of all panels side by side, each above its word, in rows of six."""
    cells = [_captioned(heated(image, p), [w]) for w, p in zip(words, maps, strict=True)]
    cells = [_captioned(_large(image), ["image"]), *cells]
    blank = np.full_like(cells[0], 255)
    rows = [cells[start : start + 6] for start in range(0, len(cells), 6)]
    wide = len(rows[0])
    return np.concatenate(
        [np.concatenate([*row, *[blank] * (wide - len(row))], axis=1) for row in rows]
    )


def told(images, sentences: Sequence[Sequence[str]]):
    """Returns images with their sentences below, uint8 `(count, height, width, 3)`, all alike.

    Args:
        images: uint8 `(count, height, width, channels)`.
        sentences: of each.
    """
    lines = [[line for s in own for line in textwrap.wrap(s, _COLUMNS)] for own in sentences]
    most = max(map(len, lines))
    padded = [[*own, *[""] * (most - len(own))] for own in lines]
    return np.stack([_captioned(_large(i), own) for i, own in zip(images, padded, strict=True)])


def _scores(examples, said):
    """Returns the CIDEr-D of each image, and its ROUGE-L where those are equal."""
    words, known = captions.split(said, examples.sentences)
    return captions.cider(words, known) + 1e-3 * captions.rouge_l(words, known)


def _note(sentence, chance, score, references):
    """Returns what stands below an image: what was said, how surely, and what people said."""
    sure = f"{np.exp(chance):.1%}, CIDEr-D {score:.2f}"
    return "\n".join([sentence or "(nothing)", sure, *(f"- {each}" for each in references)])


def _large(image):
    """Returns an image in RGB, enlarged by a whole number to `SIDE` pixels or more."""
    image = bands.rgb(image)
    times = max(1, -(-SIDE // max(image.shape[:2])))
    return image.repeat(times, 0).repeat(times, 1)


def _captioned(image, lines):
    """Returns a picture with lines of text below it."""
    height, width, _ = image.shape
    sheet = Image.new("RGB", (width, height + _LINE * len(lines) + 4), _PAPER)
    sheet.paste(Image.fromarray(image), (0, 0))
    font, pen = ImageFont.load_default(_LETTERS), ImageDraw.Draw(sheet)
    for place, line in enumerate(lines):
        pen.text((4, height + 2 + _LINE * place), line, fill=_INK, font=font)
    return np.asarray(sheet)
