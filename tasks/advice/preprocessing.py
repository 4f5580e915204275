"""Checks for preprocessing that is missing, applied twice, or that of another network.

Three sources of evidence, the strongest first. Accuracy: if a correction of the pixels makes the
predictions far more accurate, that correction is missing. Statistics: if the standard deviation of
the input of the first batch normalization differs from its moving statistics by a factor of twelve
or more, the pixels have another scale than in training. Arithmetic: black, white and red images,
observed at the input of the first trained layer, reveal the exact transform before it.
"""

from __future__ import annotations

import math

from tasks.advice import layer_statistics
from tasks.advice import preprocessing_schemes as schemes
from tasks.advice.findings import (
    LOOK,
    MIN_STANDARD_ERRORS,
    WRONG,
    CheckSkipped,
    Finding,
    significantly_better,
)
from tasks.advice.model_predictions import argmax_classes, cross_entropies
from zoo.lazy import keras, np

NUM_SCREENING_IMAGES = 64  # on which all corrections are tried; the best are tried on all images
NUM_FINALISTS = 2
MAX_IMPROVABLE_ACCURACY = 0.97  # above which no correction can be significantly better
MAX_DEVIATION_RATIO = 12.0  # of standard deviation to moving statistics; other data cause up to 5
MIN_DISTANCE_RATIO = 3.0  # by which a correction must reduce the distance
MIN_DISTANCE = 0.15  # from which corrections are considered
WHITE = 255.0
MIN_SLOPE, MAX_SLOPE = 1e-3, 4.0  # of any usual preprocessing


def check_preprocessing(sample):
    """Yields a finding if preprocessing is missing, doubled or wrong, or channels are swapped."""
    better_than_majority = not sample.incomparable and sample.better_than_majority
    diagnosis = None if sample.incomparable else _by_accuracy(sample) or _by_confidence(sample)
    diagnosis = diagnosis or (None if better_than_majority else _by_statistics(sample))
    arithmetic = _by_arithmetic(sample)
    if diagnosis:
        name, severity, what = diagnosis
        yield Finding(name, severity, what, schemes.REMEDIES[name])
    elif arithmetic:
        name, what = arithmetic
        if better_than_majority:
            what += f"; the model is accurate nevertheless ({sample.right.mean():.2f})"
        is_fault = name in (schemes.TWICE, schemes.RANGE) and not better_than_majority
        yield Finding(name, WRONG if is_fault else LOOK, what, schemes.REMEDIES[name])
    elif sample.incomparable and not _is_trained(sample.model):
        raise CheckSkipped(
            f"no labels to compare with ({sample.incomparable}), no trained batch normalization; "
            "the transform of pixels looks correct"
        )


def _by_accuracy(sample):
    """Returns name, severity and text of a correction that improves accuracy, or `None`."""
    right = sample.right
    if right.mean() > MAX_IMPROVABLE_ACCURACY:
        return None
    images = sample.images.astype("float32")
    screened = []
    for correction in schemes.corrections(images.shape[-1]):
        score = _correct_after(sample, correction, images[:NUM_SCREENING_IMAGES]).mean()
        if score > right[:NUM_SCREENING_IMAGES].mean():
            screened.append((score, correction))
    screened.sort(key=lambda entry: -entry[0])
    best = []
    for _, correction in screened[:NUM_FINALISTS]:
        other = _correct_after(sample, correction, images)
        if significantly_better(other, right) and sample.beats_majority(other):
            best.append((other.mean(), correction))
    if not best:
        return None
    score, correction = max(best, key=lambda entry: entry[0])
    figures = f"accuracy {right.mean():.2f} on pixels as they are, {score:.2f} {correction.words}"
    return correction.name, WRONG, f"{figures} ({len(right):,} images)"


def _by_confidence(sample):
    """Returns a finding of swapped red and blue channels if swapping reduces the cross-entropy.

    Swapped channels cost a network a few points of accuracy, but much of its confidence in the
    correct class; unlike other corrections, swapping does not change the contrast, which by itself
    would change the confidence.
    """
    known = sample.labels >= 0
    if sample.images.shape[-1] != 3 or not sample.better_than_majority:
        return None
    swapped = layer_statistics.predict(sample.model, sample.images[known][..., ::-1])
    logits = sample.seen[1][known], swapped
    before, after = (cross_entropies(each, sample.labels[known]) for each in logits)
    gains = before - after
    lost = (argmax_classes(swapped) == sample.labels[known]).mean() < sample.right[known].mean()
    if lost or gains.mean() <= MIN_STANDARD_ERRORS * gains.std() / math.sqrt(len(gains)):
        return None
    what = (
        f"loss {before.mean():.2f} on pixels as they are, {after.mean():.2f} with red and blue "
        f"swapped ({len(gains):,} images)"
    )
    return schemes.ORDER, WRONG, what


def _correct_after(sample, correction, images):
    predictions = argmax_classes(layer_statistics.predict(sample.model, correction.change(images)))
    return predictions == sample.labels[: len(images)]


def _by_statistics(sample):
    """Returns name, severity and text of a finding from the first batch normalization."""
    if not _is_trained(sample.model):
        return None
    images = sample.images[: layer_statistics.statistics_batch_size(sample.images)].astype(
        "float32"
    )
    norm, seen = layer_statistics.first_batch_norm_moments(sample.model, images)
    ratio_before, distance = (
        layer_statistics.deviation_ratio(norm, seen),
        layer_statistics.bhattacharyya_distance(norm, seen),
    )
    tried = []
    for correction in schemes.corrections(images.shape[-1]):
        _, changed = layer_statistics.first_batch_norm_moments(
            sample.model, correction.change(images)
        )
        ratio = layer_statistics.deviation_ratio(norm, changed)
        tried.append((layer_statistics.bhattacharyya_distance(norm, changed), ratio, correction))
    closest, ratio, correction = min(tried, key=lambda entry: entry[0])
    if not 1 / MAX_DEVIATION_RATIO < ratio_before < MAX_DEVIATION_RATIO:
        what = (
            f"the input of {norm.name} has {_format_ratio(ratio_before)} the standard deviation of "
            f"its moving statistics; {correction.words}, or the like, {_format_ratio(ratio)}"
        )
        return (
            (
                correction.name
                if 1 / MAX_DEVIATION_RATIO < ratio < MAX_DEVIATION_RATIO
                else schemes.RANGE
            ),
            WRONG,
            what,
        )
    if distance > MIN_DISTANCE and closest < distance / MIN_DISTANCE_RATIO:
        what = (
            f"the input of {norm.name} is far from its moving statistics (distance "
            f"{distance:.2f}), and close {correction.words} ({closest:.2f})"
        )
        return correction.name, LOOK, what
    return None


def _format_ratio(ratio):
    return f"{ratio:.3g} times" if ratio >= 0.1 else f"1/{1 / ratio:.3g} of"


def _by_arithmetic(sample):
    """Returns name and text of a finding from the transform of pixels, or `None`."""
    slope, offset, flipped, layer = _measure_input_transform(sample)
    if slope is None:
        return None
    gain = float(np.abs(slope).mean())
    ends = sorted((float(offset.mean()), float((offset + WHITE * slope).mean())))
    diagnosis = f"pixels from 0 to 255 arrive at {layer.name} as {ends[0]:.4g} to {ends[1]:.4g}"
    if gain < MIN_SLOPE:
        return schemes.TWICE, diagnosis
    if gain > MAX_SLOPE:
        return schemes.RANGE, diagnosis
    found = schemes.identify_scheme(slope, offset, flipped)
    expected, network = schemes.expected_scheme(sample.model)
    if expected and found != expected:
        words = schemes.SCHEMES[expected][0]
        if found is None:
            return schemes.MISSING, f"{diagnosis}, unchanged; {network} expects {words}"
        return schemes.OTHER, f"{diagnosis}; {network} expects {words}"
    normal = isinstance(layer, (keras.layers.BatchNormalization, keras.layers.LayerNormalization))
    if found is None and not normal:
        return (
            schemes.MISSING,
            f"{diagnosis}; no layer normalizes them to a range in which networks train well",
        )
    return None


def _measure_input_transform(sample):
    """Measures the linear transform from pixels to the input of the first trained layer.

    Returns:
        Slope and offset `(channels,)`, whether the channels are reversed, and the layer; `None`
        for slope and offset if the transform is not linear per channel.
    """
    shape = sample.images.shape[1:]
    black, red = np.zeros(shape, "float32"), np.zeros(shape, "float32")
    red[..., 0] = WHITE
    layer, seen = layer_statistics.first_trained_layer_input(
        sample.model, np.stack([black, black + WHITE, red])
    )
    if layer is None or seen.ndim not in (2, 4) or len(seen) != 3:
        return None, None, False, layer
    channels = shape[-1]
    if seen.shape[-1] % channels:
        return None, None, False, layer
    # The median excludes the zero padding of convolutions.
    values = np.median(seen.reshape(3, -1, channels), axis=1)
    slope, offset = (values[1] - values[0]) / WHITE, values[0]
    response = np.abs(values[2] - values[0])
    return slope, offset, bool(channels == 3 and response[2] > response[0]), layer


def _is_trained(model):
    """Returns whether the first batch normalization of a model, if any, was trained."""
    norms = layer_statistics.batch_norms(model)
    return bool(norms) and not layer_statistics.is_untrained(norms[0])
