"""Which examples train, which validate and which test."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import combinations

from tasks.data import hash_split, image_io, image_stats
from tasks.data.class_folders import THREADS, join_names
from tasks.data.dataset import ItemView, Split, cache_per_source
from zoo.errors import UsageError
from zoo.lazy import np

ROLES = ("train", "validation", "test")
VALIDATION_NAMES = ("validation", "val", "valid")
NO_VALIDATION = "none"
_BOUND = r"-?[\d_]+|-?[\d_.]+%"
_SLICE = re.compile(rf"([\w.-]+)(?:\[({_BOUND})?:({_BOUND})?\])?")


def select(source, expression):
    """Returns the examples that an expression names, in order.

    Args:
        source: a `sources.Source`.
        expression: as TFDS writes slices: `train`, `train[:4000]`, `train[80%:]`,
            `train[-100:]`, `train[:10%]+test`, or `all` for all splits. A percentage becomes the
            nearest whole number of examples. `val`, `valid` and `validation` are the same split.

    Raises:
        UsageError: the expression is no such thing, or names no example.
    """
    return _concatenate(_take_spans(source, _parse(source, expression), expression), expression)


@cache_per_source
def train_val_test_split(source, train="", validation="", test=""):
    """Returns the examples that train, that validate and that test.

    1. A split that an expression names is what `select` returns.
    2. One that none names is the source's own of that name, less what the expressions take of
       it. A source whose only split has another name, such as `all`, trains on it.
    3. If nothing is there, a tenth is carved out of the examples that train, which lose it: so a
       source without splits is split 80/10/10, and `train="train[:50%]"` alone also validates on
       a tenth of that half.

    Carving goes by a hash of each image's content, class by class (of several classes, by the
    rarest), so that files which are added move no others, and near copies of an image
    (`image_stats.duplicate_groups`) stay together. The only exception to the first is a class so
    small that chance
    would leave a part without it: images move until training, validation and test, in this order,
    have one each for as long as there are images; and of fewer than `hash_split.SMALL_CLASS_SIZE`
    images,
    validation and test get no more than one each.

    Args:
        source: a `sources.Source`.
        train, validation, test: expressions, or `""`.  `validation="none"` is no validation.

    Returns:
        Three `sources.Split`; the second is `None` if there is no validation.

    Raises:
        UsageError: an expression is wrong, two parts share an image of one split, nothing is
            left to train on, or a class has no image to train on though `train` is `""`.
    """
    expressions = {"train": train, "validation": validation, "test": test}
    wanted = [role for role in ROLES if (role, expressions[role]) != ("validation", NO_VALIDATION)]
    spans = {role: _parse(source, expressions[role]) for role in wanted if expressions[role]}
    explicit = set(spans)
    for role in wanted:
        if role not in spans and (
            left := _remaining_spans(source, _own_spans(source, role), spans)
        ):
            spans[role] = left
    if "train" not in spans:
        raise UsageError(
            f"nothing of {source.name} is left to train on; {_available_splits(source)}"
        )
    names = {role: expressions[role] or _format_spans(source, spans[role]) for role in spans}
    pieces = {role: _take_spans(source, spans[role], names[role]) for role in spans}
    if explicit:
        _check_disjoint(spans, pieces, names)
    parts = {role: _concatenate(pieces[role], names[role]) for role in spans}
    if missing := [role for role in wanted if role not in parts]:
        parts.update(_carve(source, parts["train"], missing))
    if not train:
        _check_classes(source, parts["train"])
    return parts["train"], parts.get("validation"), parts["test"]


def content_digest(item):
    """Returns what tells the content of an image from that of any other: 16 bytes."""
    return hashlib.blake2b(image_io.item_bytes(item), digest_size=16).digest()


def _parse(source, expression):
    """Returns the `(split, range)`s that an expression names, none of them empty."""
    spans = []
    for text in re.split(r"\s*\+\s*", expression.strip()):
        match = _SLICE.fullmatch(text)
        if not match:
            raise UsageError(f"{text!r} is no slice of {source.name}; {_available_splits(source)}")
        name, *bounds = match.groups()
        if name == "all" and "all" not in source.splits:
            if text != "all":
                raise UsageError(
                    f"'all' of {source.name} is several splits and has no slices; "
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
    """Returns the name of a split as the source has it, or `None`."""
    names = (name, *VALIDATION_NAMES) if name in VALIDATION_NAMES else (name,)
    return next((name for name in names if name in source.splits), None)


def _range(text, start, stop, count):
    """Returns the positions from one bound to the other; the arithmetic is that of TFDS."""
    bounds = []
    for bound, default in ((start, 0), (stop, count)):
        try:
            position = default if bound is None else _position(bound, count)
        except ValueError:
            position = count + 1
        if abs(position) > count:
            raise UsageError(f"{text} goes beyond the {count} examples that there are")
        bounds.append(position + count if position < 0 else position)
    if not range(*bounds):
        raise UsageError(f"{text} names none of the {count} examples that there are")
    return range(*bounds)


def _position(bound, count):
    """Returns where a bound is; more than the count if that is nowhere."""
    if not bound.endswith("%"):
        return int(bound)
    percent = float(bound[:-1])
    return round(percent * count / 100) if abs(percent) <= 100 else count + 1


def _available_splits(source):
    """Says which splits there are, and how to slice one."""
    example = next(iter(source.splits))
    return f"there is {join_names(source.splits)}, and slices such as {example}[:80%]"


def _own_spans(source, role):
    """Returns the source's own spans for a role."""
    name = _resolve_name(source, role)
    if name is None and role == "train" and len(source.splits) == 1:
        name = next(iter(source.splits))
    return [] if name is None else [(name, range(len(source.splits[name])))]


def _remaining_spans(source, own, spans):
    """Returns what is left of spans when all others have taken theirs."""
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
    """Writes spans as an expression."""
    whole = {name: range(len(part)) for name, part in source.splits.items()}
    return "+".join(
        name if span == whole[name] else f"{name}[{span.start}:{span.stop}]" for name, span in spans
    )


def _take_spans(source, spans, name):
    """Returns the examples of each span, as splits called `name`."""
    return [source.splits[split].take(span, name) for split, span in spans]


def _concatenate(pieces, name):
    """Returns the examples of all pieces as one split."""
    if len(pieces) == 1:
        return pieces[0]
    places = [(piece.items, index) for piece in pieces for index in range(len(piece))]
    return Split(name, ItemView(places), np.concatenate([piece.labels for piece in pieces]))


def _check_disjoint(spans, pieces, names):
    """Refuses parts that share positions of one split, or images of equal content."""
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
                f"name slices that do not meet, such as {name}[:80%] and {name}[80%:]"
            )
        known = set(digests(here))
        if count := sum(key in known for key in digests(there)):
            raise UsageError(
                f"{both} {count} images that stand in {name} more than once; delete the copies, "
                "or leave one of the two to be carved, which keeps copies together"
            )


def _digests(split):
    if not isinstance(split.items[0], str):
        return [content_digest(item) for item in split.items]
    with ThreadPoolExecutor(THREADS) as pool:  # files: most of the time is spent on waiting
        return list(pool.map(content_digest, split.items))


def _carve(source, base, missing):
    """Shares a split out between training and what is missing.

    Near copies go by one key; where that leaves a part without any image, only equal ones do.
    """
    base = image_stats.with_stats(base)
    strata = hash_split.strata(base.labels)
    for keys in (image_stats.duplicate_groups(base.image_stats), base.image_stats.digests):
        roles = hash_split.assign_roles(keys, strata, missing)
        if set(roles) == {"train", *missing}:
            break
    else:
        raise UsageError(
            f"the {len(base)} examples of {base.name} in {source.name} are too few to carve "
            f"{' and '.join(missing)} out of; add images, or name a split for each"
        )
    parts = {}
    for role in ("train", *missing):
        indices = [index for index, own in enumerate(roles) if own == role]
        percent = 10 if role in missing else 100 - 10 * len(missing)
        parts[role] = base.take(indices, f"{role} ({percent}% of {base.name})")
    return parts


def _check_classes(source, split):
    labels = split.labels
    if labels.dtype == object:  # what is in an image is known when it is read
        return
    present = set(np.flatnonzero(labels.any(0)) if labels.ndim == 2 else labels.tolist())
    if absent := [name for label, name in enumerate(source.classes) if label not in present]:
        raise UsageError(
            f"{join_names(absent)} of {source.name} has no image to train on in {split.name}; "
            "add some, or say with --train-split what to train on"
        )
