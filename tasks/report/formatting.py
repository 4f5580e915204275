"""Formatting of metric names and values, the same in tables, plots and text."""

from __future__ import annotations

import html
import math
import numbers
import re

_DISPLAY_NAMES = {
    "top5_accuracy": "top-5 accuracy",
    "knn_accuracy": "k-NN accuracy",
    "image_miou": "mean IoU per image",
    "image_pixel_accuracy": "pixel accuracy per image",
    "image_f1": "F1 per image",
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
    "mcc": "MCC",
    "kappa": "Cohen's kappa",
    "auroc": "AUROC",
    **{f"bleu{n}": f"BLEU-{n}" for n in range(1, 5)},
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr-D",
    "kid": "KID",
    "seconds": "time",
}

_PREFIXES = ("deduplicated", "greedy", "unseen")  # of metrics of other images or predictions

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # by XML 1.0


def display_name(name: str) -> str:
    """Returns the display name of a metric or a column."""
    prefix, _, rest = name.partition("_")
    if prefix in _PREFIXES and rest in _DISPLAY_NAMES:
        return f"{prefix} {_DISPLAY_NAMES[rest]}"
    return _DISPLAY_NAMES.get(name, name.replace("_", " "))


def image_name(examples: object, index: int) -> str:
    """Returns the title of an image: that of `examples.title`, else its number."""
    title = getattr(examples, "title", "image {}".format)
    return title(index)


def format_value(name: str, value: object) -> str:
    """Returns a value as text, formatted by its name as a percentage, a loss or a duration.

    `format_value("top5_accuracy", 0.98765)` is `98.77%`, `format_value("seconds", 75.2)` is
    `1 min 15 s`. Values that are not numbers are converted by `str`, and `None` is a dash.
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
    """Returns whether a value is a real number of Python or NumPy, and not a boolean."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_percentage(name: str) -> bool:
    """Returns whether a metric of this name is in [0, 1] and displayed as a percentage."""
    return _FORMATS.get(_last_word(name)) is _percent


def escape(text: object) -> str:
    """Returns text escaped for HTML and XML, also inside of quotes.

    Characters that are not allowed there, such as control characters and the undecodable bytes of
    a file name, become replacement characters.
    """
    return html.escape(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(text)))


def _last_word(name):
    """Returns the last word of a name, without the `low` or `high` of an interval."""
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


def epoch_line(row, curves, epochs):
    """Returns the status line of an epoch: `epoch 2/8  loss 0.41  accuracy 0.87 ...  12 s`.

    Args:
        row: The row of the history.
        curves: The metrics that a task plots; they are shown besides losses and accuracies.
        epochs: The number of epochs of the run.
    """
    shown = [
        key
        for key in row
        if key.endswith(("loss", "accuracy")) or key.removeprefix("val_") in curves
    ]
    figures = "  ".join(f"{key} {row[key]:.4f}" for key in shown)
    return f"epoch {row['epoch']}/{epochs}  {figures}  {row['seconds']:.1f} s"
