"""Examples that are split off the training examples: tenths chosen by hash, and folds."""

from __future__ import annotations

import re

from tasks.data import folds, hash_split, image_stats
from zoo.errors import UsageError
from zoo.lazy import LazyModule, np

grouping = LazyModule("tasks.data.grouping")
pages = LazyModule("tasks.data.pages")

FOLD = re.compile(r"fold\[(\d+)/(\d+)\]")  # a test slice, such as `fold[2/5]`


def split_off(source, base, missing, group_by):
    """Splits examples into those for training and a tenth for each of the `missing` roles.

    Near duplicates stay together, unless that leaves a role without any image; then only images
    of equal content do. Groups, and pages of a file, always stay together.
    """
    groups = group_by and grouping.image_groups(source, base.items, group_by)
    base = image_stats.with_stats(base)
    strata = hash_split.strata(base.labels)
    for keys in (image_stats.duplicate_groups(base.image_stats), base.image_stats.digests):
        keys = _merged_keys(keys, groups, base.items)
        roles = hash_split.assign_roles(keys, strata, missing)
        if set(roles) == {"train", *missing}:
            break
    else:
        raise UsageError(
            f"the {len(base)} examples of {base.name} in {source.name}"
            f"{f' in {len(set(groups))} groups' if groups else ''} are too few to split off "
            f"{' and '.join(missing)}; add images, or name a split for each"
        )
    parts = {}
    for role in ("train", *missing):
        indices = [index for index, own in enumerate(roles) if own == role]
        percent = 10 if role in missing else 100 - 10 * len(missing)
        share = f"{percent}% of {base.name}{', by group' if groups else ''}"
        parts[role] = base.take(indices, f"{role} ({share})")
    return parts


def fold_split(source, base, fold, count, validation, group_by):
    """Returns the splits of one fold by role, as `split_off` does.

    Near duplicates and groups stay in one fold.

    Args:
        source: A `dataset.Source`.
        base: The `dataset.Split` to divide.
        fold: The number of the fold for testing, from 1.
        count: The number of folds.
        validation: `""` for a tenth of the training examples, or `none`.
        group_by: As in `grouping.image_groups`, or `""`.

    Raises:
        UsageError: There is no such fold, `validation` is a slice, or the images are too few.
    """
    if not 1 <= fold <= count:
        raise UsageError(f"fold[{fold}/{count}]: folds are numbered from 1 to {count}")
    if validation not in ("", "none"):
        raise UsageError(
            f"--validation-split {validation}: with folds, validation is a tenth of the other "
            "folds, or none"
        )
    base = image_stats.with_stats(base)
    keys = image_stats.duplicate_groups(base.image_stats)
    groups = group_by and grouping.image_groups(source, base.items, group_by)
    keys = _merged_keys(keys, groups, base.items)
    numbers = folds.assign_folds(keys, hash_split.strata(base.labels), count)
    parts = {
        "train": base.take(np.flatnonzero(numbers != fold - 1)),
        "test": base.take(np.flatnonzero(numbers == fold - 1), f"fold {fold} of {count}"),
    }
    if validation:
        return parts
    return parts | split_off(source, parts["train"], ["validation"], group_by)


def _merged_keys(keys, groups, items):
    """Returns keys that are equal for images of a group, and for pages of a file."""
    for names in (groups, pages.stacks(items)):
        keys = grouping.merge_keys(keys, names) if names else keys
    return keys
