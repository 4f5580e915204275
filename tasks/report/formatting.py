"""How figures and names are said, the same way in tables, pictures and prose."""

from __future__ import annotations

import html
import math
import numbers
import re

_DISPLAY_NAMES = {
    "top5_accuracy": "top-5 accuracy",
    "iou": "IoU",
    "miou": "mean IoU",
    "fwiou": "frequency-weighted IoU",
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ar": "average recall",
    "voc_map": "mean AP of VOC",
    "map": "mean AP",
    "f1": "F1",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "ece": "calibration error",
    **{f"bleu{n}": f"BLEU-{n}" for n in range(1, 5)},
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr-D",
    "kid": "KID",
    "seconds": "time",
}

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # by XML 1.0


def display_name(name: str) -> str:
    """Returns the name of a figure or a column as people say it."""
    return _DISPLAY_NAMES.get(name, name.replace("_", " "))


def image_name(examples: object, index: int) -> str:
    """Returns what to call an image of some examples: their `title` of it, or else its number."""
    title = getattr(examples, "title", "image {}".format)
    return title(index)


def describe_test_images(num_test: int, num_train: int, num_copies: int = 0) -> str:
    """Says how strange test images are to a model, as part of a sentence.

    Args:
        num_test, num_train: images of the test and of the training split.
        num_copies: near copies of training images among the former.
    """
    if num_copies:
        those = "it is a near copy" if num_test == 1 else f"{num_copies:,} of them is a near copy"
        those = f"{num_copies:,} of them are near copies" if num_copies > 1 else those
        return f"{those} of images among the {num_train:,} that it was trained on"
    return (
        f"it never saw {'it' if num_test == 1 else 'them'} while learning from {num_train:,} others"
    )


def format_value(name: str, value: object) -> str:
    """Returns a value as text; its name says whether it is a share, a loss or a time.

    `number("top5_accuracy", 0.98765)` is `98.77%`, `number("seconds", 75.2)` is `1 min 15 s`.
    What is no number comes back as text, and `None` as a dash.
    """
    if value is None:
        return "\N{EN DASH}"
    if not is_number(value):
        return str(value)
    if not math.isfinite(value):
        return str(float(value)).replace("inf", "\N{INFINITY}").replace("nan", "NaN")
    plain = _integer if isinstance(value, numbers.Integral) else _decimal
    return _FORMATS.get(_last_word(name), plain)(value)


def is_number(value: object) -> bool:
    """Returns whether a value is a real number, of Python or of NumPy, and no boolean."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_percentage(name: str) -> bool:
    """Returns whether a figure of this name lies in [0, 1] and is said in per cent."""
    return _FORMATS.get(_last_word(name)) is _percent


def escape(text: object) -> str:
    """Returns text that is safe anywhere in HTML and in XML, also between quotes.

    What no page may hold, such as control characters and the undecodable bytes of a file name,
    is shown as a replacement character.
    """
    return html.escape(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(text)))


def _last_word(name):
    """Returns the last word of a name; the ends of an interval are said as what is between."""
    return re.sub("[_ ](low|high)$", "", name).replace("_", " ").split(" ")[-1]


def _percent(value):
    return f"{100 * value:.2f}%"


def _loss(value):
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1000 else _decimal(value)


def _duration(value):
    if value < 59.95:
        return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"
    if round(value) < 3600:
        return "{} min {:02} s".format(*divmod(round(value), 60))
    return "{:,} h {:02} min".format(*divmod(round(value / 60), 60))


def _integer(value):
    return f"{value:,}"


def _decimal(value):
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


_PERCENTAGES = (
    *("accuracy", "match", "ece", "precision", "recall", "f1", "ap", "map"),
    *("iou", "miou", "fwiou", "ap50", "ap75", "ar"),
    *("probability", "share"),
)

_FORMATS = {  # by the last word of a name
    **dict.fromkeys(_PERCENTAGES, _percent),
    "loss": _loss,
    "seconds": _duration,
}
