"""Selection of training, validation and test examples by slices and by hash."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import combinations

from tasks.data import image_io
from tasks.data.class_folders import THREADS, join_names
from tasks.data.dataset import ItemView, Split, cache_per_source
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

grouping = LazyModule("tasks.data.grouping")
held_out = LazyModule("tasks.data.held_out")

ROLES = ("train", "validation", "test")
VALIDATION_NAMES = ("validation", "val", "valid")
NO_VALIDATION = "none"
_BOUND = r"-?[\d_]+|-?[\d_.]+%"
_SLICE = re.compile(rf"([\w.-]+)(?:\[({_BOUND})?:({_BOUND})?\])?")


def select(source, expression):
    """Returns the examples that a slice expression selects, in order.

    Args:
        source: A `dataset.Source`.
        expression: A slice in the syntax of TFDS: `train`, `train[:4000]`, `train[80%:]`,
            `train[-100:]`, `train[:10%]+test`, or `all` for all splits. Percentages are rounded
            to the nearest example. `val`, `valid` and `validation` are the same split.

    Returns:
        A `dataset.Split`.

    Raises:
        UsageError: The expression is not a slice, or selects no example.
    """
    return _concatenate(_take_spans(source, _parse(source, expression), expression), expression)


@cache_per_source
def train_val_test_split(source, train="", validation="", test="", group_by=""):
    """Returns the training, validation and test examples of a source.

    1. A split with an expression is what `select` returns for it.
    2. A split without one is the source's own split of that name, without the examples that the
       expressions take of it. A source whose only split has another name, such as `all`, is
       trained on it.
    3. A split that is still missing is a tenth of the training examples, which lose it: a source
       without splits is split 80/10/10, and `train="train[:50%]"` alone also validates on a tenth
       of that half.

    The tenths are chosen by a hash of each image's content, stratified by class (multi-label, by
    the rarest class of the image). So adding files moves no others, and near duplicates
    (`image_stats.duplicate_groups`) stay in the same split. The exception to the first is a class
    so small that a split might lack it: images are moved until training, validation and test, in
    this order, have one each as far as there are enough; and of fewer than
    `hash_split.SMALL_CLASS_SIZE` images, validation and test get at most one each.

    With `group_by`, images of the same group stay in the same split, and the hash is that of the
    group.

    `test="fold[2/5]"` divides all images, or those of `train`, into five folds: the second is for
    testing, and the others are for training, less a tenth for validation.

    Args:
        source: A `dataset.Source`.
        train, validation, test: Slice expressions, or `""`. `validation="none"` means none.
        group_by: A column or a regular expression that gives the group of an image, such as a
            patient, as in `grouping.image_groups`; or `""`.

    Returns:
        Three `dataset.Split`; the second is `None` without validation.

    Raises:
        UsageError: An expression is invalid, two parts share an image of the same split or a
            group, no training examples are left, or a class has no training image though `train`
            is `""`.
    """
    if found := held_out.FOLD.fullmatch(test):
        base = select(source, train or "all")
        folds = held_out.fold_split(source, base, *map(int, found.groups()), validation, group_by)
        return folds["train"], folds.get("validation"), folds["test"]
    expressions = {"train": train, "validation": validation, "test": test}
    wanted_roles = [
        role for role in ROLES if (role, expressions[role]) != ("validation", NO_VALIDATION)
    ]
    spans = {role: _parse(source, expressions[role]) for role in wanted_roles if expressions[role]}
    explicit = set(spans)
    for role in wanted_roles:
        if role not in spans and (
            remaining := _remaining_spans(source, _own_spans(source, role), spans)
        ):
            spans[role] = remaining
    if "train" not in spans:
        raise UsageError(
            f"nothing of {source.name} is left to train on; {_available_splits(source)}"
        )
    names = {role: expressions[role] or _format_spans(source, spans[role]) for role in spans}
    pieces = {role: _take_spans(source, spans[role], names[role]) for role in spans}
    if explicit:
        _check_disjoint(spans, pieces, names)
    parts = {role: _concatenate(pieces[role], names[role]) for role in spans}
    if missing := [role for role in wanted_roles if role not in parts]:
        parts.update(held_out.split_off(source, parts["train"], missing, group_by))
    if group_by:
        grouping.check_disjoint(source, parts, group_by)
    if not train:
        _check_classes(source, parts["train"])
    return parts["train"], parts.get("validation"), parts["test"]


def content_digest(item):
    """Returns a digest of the content of an image, 16 bytes."""
    return hashlib.blake2b(image_io.item_bytes(item), digest_size=16).digest()


def _parse(source, expression):
    """Returns the non-empty `(split, range)` pairs of an expression."""
    spans = []
    for text in re.split(r"\s*\+\s*", expression.strip()):
        match = _SLICE.fullmatch(text)
        if not match:
            raise UsageError(
                f"{text!r} is not a slice of {source.name}; {_available_splits(source)}"
            )
        name, *bounds = match.groups()
        if name == "all" and "all" not in source.splits:
            if text != "all":
                raise UsageError(
                    f"'all' of {source.name} is several splits and cannot be sliced; "
                    f"{_available_splits(source)}"
                )
            spans += [(split, range(len(part))) for split, part in source.splits.items()]
            continue
        name = _resolve_name(source, name)
        if name is None:
            raise UsageError(
                f"{source.name} has no split {match[1]!r}; {_available_splits(source)}"
            )
        spans.append((name, _range(text, *bounds, len(source.splits[name]))))
    return spans


def _resolve_name(source, name):
    """Returns the name of a split in the source, in upper or lower case, or `None`."""
    names = (name, *VALIDATION_NAMES) if name in VALIDATION_NAMES else (name,)
    lower = {split.lower(): split for split in source.splits}
    found = (name if name in source.splits else lower.get(name) for name in names)
    return next((split for split in found if split), None)


def _range(text, start, stop, count):
    """Returns the indices between two bounds, with the arithmetic of TFDS."""
    bounds = []
    for bound, default in ((start, 0), (stop, count)):
        try:
            position = default if bound is None else _position(bound, count)
        except ValueError:
            position = count + 1
        if abs(position) > count:
            raise UsageError(f"{text} is out of range: there are {count} examples")
        bounds.append(position + count if position < 0 else position)
    if not range(*bounds):
        raise UsageError(f"{text} selects none of the {count} examples")
    return range(*bounds)


def _position(bound, count):
    """Returns the index of a bound; more than `count` if it is out of range."""
    if not bound.endswith("%"):
        return int(bound)
    percent = float(bound[:-1])
    return round(percent * count / 100) if abs(percent) <= 100 else count + 1


def _available_splits(source):
    """Returns text that lists the splits, with an example of a slice."""
    example = next(iter(source.splits))
    return f"choose from {join_names(source.splits)}, or a slice such as {example}[:80%]"


def _own_spans(source, role):
    """Returns the source's own spans for a role."""
    name = _resolve_name(source, role)
    if name is None and role == "train" and len(source.splits) == 1:
        name = next(iter(source.splits))
    return [] if name is None else [(name, range(len(source.splits[name])))]


def _remaining_spans(source, own, spans):
    """Returns the parts of the spans in `own` that no span of another role covers."""
    left = []
    for name, span in own:
        start = span.start
        taken = (other for others in spans.values() for split, other in others if split == name)
        for other in sorted(taken, key=lambda other: other.start):
            if start < other.start:
                left.append((name, range(start, other.start)))
            start = max(start, other.stop)
        if start < span.stop:
            left.append((name, range(start, span.stop)))
    return left


def _format_spans(source, spans):
    """Returns spans as a slice expression."""
    whole = {name: range(len(part)) for name, part in source.splits.items()}
    return "+".join(
        name if span == whole[name] else f"{name}[{span.start}:{span.stop}]" for name, span in spans
    )


def _take_spans(source, spans, name):
    """Returns the examples of each span, as splits named `name`."""
    return [source.splits[split].take(span, name) for split, span in spans]


def _concatenate(pieces, name):
    """Returns the examples of all pieces as one split."""
    if len(pieces) == 1:
        return pieces[0]
    locations = [(piece.items, index) for piece in pieces for index in range(len(piece))]
    return Split(name, ItemView(locations), np.concatenate([piece.labels for piece in pieces]))


def _check_disjoint(spans, pieces, names):
    """Raises `UsageError` for parts that share indices of a split, or images of equal content."""
    digests = cache(_digests)
    parts = [
        (role, name, span, piece)
        for role in spans
        for (name, span), piece in zip(spans[role], pieces[role], strict=True)
    ]
    for (one, name, first, here), (two, other, second, there) in combinations(parts, 2):
        if one == two or name != other:
            continue
        both = f"{one} ({names[one]}) and {two} ({names[two]}) share"
        count = min(first.stop, second.stop) - max(first.start, second.start)
        if count > 0:
            raise UsageError(
                f"{both} {count} examples of {name}; "
                f"use disjoint slices, such as {name}[:80%] and {name}[80%:]"
            )
        known = set(digests(here))
        if count := sum(key in known for key in digests(there)):
            raise UsageError(
                f"{both} {count} images that occur in {name} more than once; delete the "
                "duplicates, or omit one of the two: the automatic split keeps duplicates together"
            )


def _digests(split):
    if not isinstance(split.items[0], str):
        return [content_digest(item) for item in split.items]
    with ThreadPoolExecutor(THREADS) as pool:  # threads mostly wait for the disk
        return list(pool.map(content_digest, split.items))


def _check_classes(source, split):
    labels = split.labels
    if labels.dtype == object:  # annotations, not classes: checked when they are decoded
        return
    present = set(np.flatnonzero(labels.any(0)) if labels.ndim == 2 else labels.tolist())
    if absent := [name for label, name in enumerate(source.classes) if label not in present]:
        raise UsageError(
            f"{join_names(absent)} of {source.name} has no training image in {split.name}; "
            "add some, or set --train-split"
        )
