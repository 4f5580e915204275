"""Preprocessing that is missing, done twice or another one than a network calls for.

Three witnesses, the strongest first. Answers: if they are right far more often once the pixels are
changed in some way, that way is what is missing. Statistics: if what enters the first batch
normalisation varies twelve times as much as its statistics say, or as little, the pixels have
another scale than they had in training. Arithmetic: what arrives at the first layer that has
learnt something, of black, white and red pictures, tells exactly what is done before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from tasks.advice import layer_statistics
from tasks.advice.findings import (
    LOOK,
    MIN_STANDARD_ERRORS,
    WRONG,
    CheckSkipped,
    Finding,
    significantly_better,
)
from tasks.advice.model_predictions import argmax_classes, cross_entropies
from zoo import graphs
from zoo.lazy import keras, np
from zoo.parts import blocks

MISSING, TWICE, ORDER = "preprocessing missing", "preprocessing done twice", "channel order"
RANGE, OTHER = "value range", "preprocessing of another network"

SCHEMES = {  # what is done to pixels: in words
    "unit": ("x / 255", {"mean": 0.0, "scale": 255.0}),
    "tf": ("x / 127.5 - 1", blocks.PREPROCESSING["tf"]),
    "torch": (
        "subtracting ImageNet's mean and dividing by its deviation",
        blocks.PREPROCESSING["torch"],
    ),
    "caffe": (
        "turning RGB to BGR and subtracting ImageNet's mean",
        blocks.PREPROCESSING["caffe"],
    ),
}

# names that keras.applications gives its networks: what their weights call for
EXPECTED_SCHEMES = {
    r"vgg(16|19)|resnet(50|101|152)": "caffe",
    r"resnet(50|101|152)v2|mobilenet(v2)?_\d.*|inception_v3|inception_resnet_v2|xception"
    r"|nasnet(_mobile|_large)?": "tf",
    r"densenet(121|169|201)": "torch",
}

NUM_SCREENING_IMAGES = 64  # images on which all ways run, before the best run on all
NUM_FINALISTS = 2
MAX_IMPROVABLE_ACCURACY = 0.97  # accuracy from which no way can be clearly better
MAX_DEVIATION_RATIO = (
    12.0  # times that contrast may differ from the statistics; other data make no more than 5
)
MIN_DISTANCE_RATIO = 3.0  # times that distances must shrink where the contrast is right
MIN_DISTANCE = 0.15  # distance from which they are looked at then
WHITE = 255.0
MIN_SLOPE, MAX_SLOPE = 1e-3, 4.0  # slopes from pixel to network beyond which no preprocessing goes

REMEDIES = {
    MISSING: "put it into the model as its first layer, so that it travels in the file, or do it "
    "to every image that the model is given",
    TWICE: "take one of the two away: the layer in the model, or `preprocess_input` before it; "
    "models of the zoo and Keras's EfficientNet, ConvNeXt and MobileNetV3 have theirs inside",
    ORDER: "read images as RGB (OpenCV gives BGR: cv2.cvtColor(image, cv2.COLOR_BGR2RGB)), or turn "
    "the channels in the model's first layer",
    RANGE: "look at what the first layers do to pixels in [0, 255]",
    OTHER: "use the `preprocess_input` of the same module of keras.applications as the network",
}


@dataclass(frozen=True)
class Correction:
    """A change of pixels in [0, 255] that may be what a model needs.

    Attributes:
        name: of the fault that it would heal.
        words: what would have to be done.
        change: function of float32 images `(images, height, width, channels)`.
    """

    name: str
    words: str
    change: Callable


def corrections(channels):
    """Returns the ways that are tried for images of some channels."""
    found = []
    for words, facts in SCHEMES.values():
        found.append(Correction(MISSING, f"after {words}", _normalize(**facts)))
        found.append(Correction(TWICE, f"after undoing {words}", _denormalize(**facts)))
    if channels == 3:
        found.append(Correction(ORDER, "with red and blue swapped", lambda x: x[..., ::-1]))
    return found


def check_preprocessing(trial):
    """Finds preprocessing that is missing, done twice or another's, and channels out of order."""
    better_than_majority = not trial.incomparable and trial.better_than_majority
    diagnosis = None if trial.incomparable else _by_accuracy(trial) or _by_confidence(trial)
    diagnosis = diagnosis or (None if better_than_majority else _by_statistics(trial))
    arithmetic = _by_arithmetic(trial)
    if diagnosis:
        name, severity, what = diagnosis
        yield Finding(name, severity, what, REMEDIES[name])
    elif arithmetic:
        name, what = arithmetic
        if better_than_majority:
            what += f"; the model lives with it (accuracy {trial.right.mean():.2f})"
        sure = name in (TWICE, RANGE) and not better_than_majority
        yield Finding(name, WRONG if sure else LOOK, what, REMEDIES[name])
    elif trial.incomparable and not _is_trained(trial.model):
        raise CheckSkipped(
            f"no labels to compare with ({trial.incomparable}) and no trained batch normalisation; "
            "of what is done to pixels, nothing looks wrong"
        )


def _by_accuracy(trial):
    """Returns the way that makes answers right far more often, as a finding's first parts."""
    right = trial.right
    if right.mean() > MAX_IMPROVABLE_ACCURACY:
        return None
    images = trial.images.astype("float32")
    screened = []
    for correction in corrections(images.shape[-1]):
        score = _correct_after(trial, correction, images[:NUM_SCREENING_IMAGES]).mean()
        if score > right[:NUM_SCREENING_IMAGES].mean():
            screened.append((score, correction))
    screened.sort(key=lambda entry: -entry[0])
    best = []
    for _, correction in screened[:NUM_FINALISTS]:
        other = _correct_after(trial, correction, images)
        if significantly_better(other, right) and trial.beats_majority(other):
            best.append((other.mean(), correction))
    if not best:
        return None
    score, correction = max(best, key=lambda entry: entry[0])
    figures = f"accuracy {right.mean():.2f} on pixels as they are, {score:.2f} {correction.words}"
    return correction.name, WRONG, f"{figures} ({len(right):,} images)"


def _by_confidence(trial):
    """Returns that red and blue are swapped, by how sure of the truth the model is, if they are.

    To swap them costs a network some points of accuracy at most, but much of its confidence; and
    unlike other ways it leaves the contrast, and so confidence as such, as it is.
    """
    known = trial.labels >= 0
    if trial.images.shape[-1] != 3 or not trial.better_than_majority:
        return None
    swapped = layer_statistics.predict(trial.model, trial.images[known][..., ::-1])
    answers = trial.seen[1][known], swapped
    before, after = (cross_entropies(each, trial.labels[known]) for each in answers)
    gains = before - after
    lost = (argmax_classes(swapped) == trial.labels[known]).mean() < trial.right[known].mean()
    if lost or gains.mean() <= MIN_STANDARD_ERRORS * gains.std() / math.sqrt(len(gains)):
        return None
    what = (
        f"loss {before.mean():.2f} on pixels as they are, {after.mean():.2f} with red and blue "
        f"swapped ({len(gains):,} images)"
    )
    return ORDER, WRONG, what


def _correct_after(trial, correction, images):
    answers = argmax_classes(layer_statistics.predict(trial.model, correction.change(images)))
    return answers == trial.labels[: len(images)]


def _by_statistics(trial):
    """Returns what the first batch normalisation that computes says, as a finding's first parts."""
    if not _is_trained(trial.model):
        return None
    images = trial.images[: layer_statistics.statistics_batch_size(trial.images)].astype("float32")
    norm, seen = layer_statistics.first_batch_norm_moments(trial.model, images)
    times, far = (
        layer_statistics.deviation_ratio(norm, seen),
        layer_statistics.bhattacharyya_distance(norm, seen),
    )
    tried = []
    for correction in corrections(images.shape[-1]):
        _, changed = layer_statistics.first_batch_norm_moments(
            trial.model, correction.change(images)
        )
        ratio = layer_statistics.deviation_ratio(norm, changed)
        tried.append((layer_statistics.bhattacharyya_distance(norm, changed), ratio, correction))
    closest, ratio, correction = min(tried, key=lambda entry: entry[0])
    if not 1 / MAX_DEVIATION_RATIO < times < MAX_DEVIATION_RATIO:
        what = (
            f"what enters {norm.name} varies {_format_ratio(times)} its statistics say; "
            f"{correction.words}, "
            f"or the like, it is {_format_ratio(ratio)} they say"
        )
        return (
            (correction.name if 1 / MAX_DEVIATION_RATIO < ratio < MAX_DEVIATION_RATIO else RANGE),
            WRONG,
            what,
        )
    if far > MIN_DISTANCE and closest < far / MIN_DISTANCE_RATIO:
        what = (
            f"what enters {norm.name} is far from its statistics (distance {far:.2f}) and close "
            f"{correction.words} ({closest:.2f})"
        )
        return correction.name, LOOK, what
    return None


def _format_ratio(times):
    return f"{times:.3g} times what" if times >= 0.1 else f"1/{1 / times:.3g} of what"


def _by_arithmetic(trial):
    """Returns what is odd in what is done to pixels, as a finding's name and words."""
    slope, offset, flipped, layer = _measure_input_transform(trial)
    if slope is None:
        return None
    gain = float(np.abs(slope).mean())
    ends = sorted((float(offset.mean()), float((offset + WHITE * slope).mean())))
    diagnosis = f"pixels from 0 to 255 arrive at {layer.name} as {ends[0]:.4g} to {ends[1]:.4g}"
    if gain < MIN_SLOPE:
        return TWICE, diagnosis
    if gain > MAX_SLOPE:
        return RANGE, diagnosis
    found = _identify_scheme(slope, offset, flipped)
    wanted, network = _expected_scheme(trial.model)
    if wanted and found != wanted:
        words = SCHEMES[wanted][0]
        if found is None:
            return MISSING, f"{diagnosis}, unchanged; {network} calls for {words}"
        return OTHER, f"{diagnosis}; {network} calls for {words}"
    normal = isinstance(layer, (keras.layers.BatchNormalization, keras.layers.LayerNormalization))
    if found is None and not normal:
        return MISSING, f"{diagnosis}: nothing brings them to a range in which networks learn well"
    return None


def _measure_input_transform(trial):
    """Measures what arrives of a pixel at the first layer that has learnt something.

    Returns:
        Slope and offset `(channels,)`, whether red arrives last, and the layer; `None` for the
        slope where it is not so simple.
    """
    shape = trial.images.shape[1:]
    black, red = np.zeros(shape, "float32"), np.zeros(shape, "float32")
    red[..., 0] = WHITE
    layer, seen = layer_statistics.first_trained_layer_input(
        trial.model, np.stack([black, black + WHITE, red])
    )
    if layer is None or seen.ndim not in (2, 4) or len(seen) != 3:
        return None, None, False, layer
    channels = shape[-1]
    if seen.shape[-1] % channels:
        return None, None, False, layer
    # The middle is free of the zeros that a convolution is padded with.
    values = np.median(seen.reshape(3, -1, channels), axis=1)
    slope, offset = (values[1] - values[0]) / WHITE, values[0]
    answer = np.abs(values[2] - values[0])
    return slope, offset, bool(channels == 3 and answer[2] > answer[0]), layer


def _identify_scheme(slope, offset, flipped):
    """Returns the key of `KINDS` that was done, `None` for nothing, or `"other"`."""
    if np.allclose(slope, 1, atol=1e-3) and np.allclose(offset, 0, atol=1e-2) and not flipped:
        return None
    for kind, (_, facts) in SCHEMES.items():
        scale = np.broadcast_to(1 / np.asarray(facts["scale"]), slope.shape)
        shift = np.broadcast_to(-np.asarray(facts["mean"]) * scale, slope.shape)
        alike = np.allclose(slope, scale, rtol=0.02) and np.allclose(offset, shift, rtol=0.02)
        if alike and flipped == facts.get("reverse", False):
            return kind
    return "other"


def _expected_scheme(model):
    """Returns what the weights of a network of keras.applications call for, and its name."""
    parts = [part for part in model._flatten_layers() if isinstance(part, keras.Model)]
    if any(layer.name == blocks.PREPROCESSING_LAYER for layer in graphs.leaf_layers(model)):
        return None, ""  # of the zoo, whose names may be the same
    for part in parts:
        for pattern, kind in EXPECTED_SCHEMES.items():
            if re.fullmatch(pattern, part.name, re.IGNORECASE):
                return kind, part.name
    return None, ""


def _is_trained(model):
    """Tells whether the first batch normalisation of a model, if there is one, has learnt."""
    norms = layer_statistics.batch_norms(model)
    return bool(norms) and not layer_statistics.is_untrained(norms[0])


def _normalize(mean, scale, reverse=False):
    def change(x):
        x = x[..., ::-1] if reverse and x.shape[-1] == 3 else x
        return ((x - _channel_values(mean, x)) / _channel_values(scale, x)).astype("float32")

    return change


def _denormalize(mean, scale, reverse=False):
    def change(x):
        x = (x * _channel_values(scale, x) + _channel_values(mean, x)).astype("float32")
        return x[..., ::-1] if reverse and x.shape[-1] == 3 else x

    return change


def _channel_values(values, x):
    values = np.asarray(values, "float32")
    return values if values.shape in ((), x.shape[-1:]) else values.mean()
