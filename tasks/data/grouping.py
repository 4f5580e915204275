"""Groups of images, such as those of a patient, that must not be divided between splits."""

from __future__ import annotations

import hashlib
import os
import re
from itertools import combinations

from tasks.data.class_folders import join_names
from zoo.errors import UsageError


def common_folder(source):
    """Returns the folder that holds all images of a `dataset.Source`.

    Raises:
        UsageError: The images are not files.
    """
    paths = [item for split in source.splits.values() for item in split.items]
    if not all(isinstance(path, str) for path in paths):
        raise UsageError(
            f"--group-by takes a column of a table or searches the names of files; the images of "
            f"{source.name} are not files"
        )
    return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])


def image_groups(source, items, group_by):
    """Returns the group of each image of a source.

    Args:
        source: A `dataset.Source`.
        items: Images of it.
        group_by: A column of its table, in upper or lower case, whose cells are the groups; or
            else a regular expression, as in `group_names`.

    Raises:
        UsageError: An image has no group.
    """
    cells = source.columns.get(group_by.strip().lower())
    if cells is None:
        return group_names(items, group_by, common_folder(source), source.columns)
    if empty := [item for item in items if not cells[item]]:
        raise UsageError(
            f"--group-by {group_by}: {len(empty)} images have none, such as {empty[0]}"
        )
    return [cells[item] for item in items]


def group_names(paths, pattern, root, columns=()):
    """Returns the group of each image.

    Args:
        paths: Paths of images.
        pattern: A regular expression that is searched for in paths relative to `root`, with `/`
            between folders. The group is its first capturing group, or all that it matches.
        root: A folder, as from `common_folder`.
        columns: The columns that the pattern could have named, for messages.

    Raises:
        UsageError: The pattern is not a regular expression, or does not match a path.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--group-by {pattern!r} is not a regular expression: {error}") from error
    names = []
    for path in paths:
        relative = os.path.relpath(path, root).replace(os.sep, "/")
        found = expression.search(relative)
        name = found and found[1 if expression.groups else 0]
        if not name:
            others = f"; columns are {join_names(columns)}" if columns else ""
            raise UsageError(f"--group-by {pattern!r} finds no group in {relative}{others}")
        names.append(name)
    return names


def merge_keys(keys, names):
    """Returns a key for each image, equal for images that a common key or group connects.

    It is a digest of the first name in sorted order, so that further images of a group do not
    change it.

    Args:
        keys: `bytes` for each image; those of near duplicates are equal.
        names: The group of each image.
    """
    parents = {}

    def root(node):
        while parents.setdefault(node, node) != node:
            parents[node] = node = parents[parents[node]]
        return node

    for key, name in zip(keys, names, strict=True):
        parents[root(("key", key))] = root(("name", name))
    first = {}
    for name in sorted(set(names), reverse=True):
        first[root(("name", name))] = name
    return [_digest(first[root(("name", name))]) for name in names]


def check_disjoint(source, parts, group_by):
    """Raises `UsageError` if splits share a group.

    Args:
        source: A `dataset.Source`.
        parts: A `dataset.Split` by role.
        group_by: As in `image_groups`.
    """
    groups = {role: set(image_groups(source, part.items, group_by)) for role, part in parts.items()}
    for one, two in combinations(groups, 2):
        if shared := sorted(groups[one] & groups[two]):
            raise UsageError(
                f"{one} ({parts[one].name}) and {two} ({parts[two].name}) share {len(shared)} "
                f"groups: {join_names(shared)}; divide all images by group with --train-split all"
            )


def _digest(name):
    return hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=16).digest()
