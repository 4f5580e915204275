"""Data sets of images with captions, and their decoded splits."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.captioning import annotation_files, shapes_captions, vocabulary
from tasks.data import data_splits, image_stats, splits
from tasks.data.class_folders import reading_errors
from tasks.data.dataset import Source, Split, object_array
from tasks.data.decoding import Examples, decode
from zoo.errors import UsageError
from zoo.lazy import np
from zoo.paths import expand_user

SUPPORTED_FORMATS = (
    "needed: shapes; a file of lines such as image.jpg#0, a tab and a caption, as in Flickr8k and "
    "Flickr30k; a CSV with the columns image,caption; a COCO captions JSON; or a folder with such "
    "a file"
)
UNSEEN = "unseen"  # the split of `shapes` with combinations that no other split has


def load(name):
    """Finds a data set of images with captions by name.

    Args:
        name: `shapes`; or a file or folder as in `annotation_files.find_files`.

    Returns:
        A `Source` without classes. The labels of its splits are objects with `sentences`, the
        captions, and `facts`, what captions are verified against, or `None`.

    Raises:
        UsageError: there is no such data set, or its format is not supported.
    """
    name = str(name)
    if name == "shapes":
        return shapes_captions.load()
    path = expand_user(name)
    with reading_errors(name):
        files = annotation_files.find_files(path) if name and path.exists() else {}
        if not files:
            what = "has no captions" if name and path.exists() else "is no such file or folder"
            raise UsageError(f"the data set {name!r} {what}; {SUPPORTED_FORMATS}")
        parts, skipped = {}, []
        for split, file in files.items():
            images, skipped_here = annotation_files.read(file)
            skipped += skipped_here
            for own_split, rows in images.items():
                parts.setdefault(split if own_split == "all" else own_split, []).extend(rows)
    found = {
        split: Split(split, [row.path for row in rows], object_array(rows))
        for split, rows in parts.items()
    }
    return Source(name, (), found, tuple(skipped))


@dataclass(frozen=True, eq=False)
class CaptionedExamples(Examples):
    """One split of images and captions, ready to be batched.

    Attributes:
        labels: int32 `(count, max_captions, 1 + length)`, the captions as in `Vocabulary.rows`.
        sentences: the captions of each image, tokens joined by spaces, as they are evaluated.
        facts: what captions of each image are verified against, or `None` where unknown.
    """

    sentences: tuple[tuple[str, ...], ...] = ()
    facts: tuple | None = None


@dataclass(frozen=True)
class CaptionData(data_splits.DataSplits):
    """The data of a run.

    Attributes:
        words: the `vocabulary.Vocabulary`.
        length: the maximum number of words per caption, `<end>` included.
        unseen: further test examples, with combinations that are not in the training split; or
            `None`.
    """

    words: vocabulary.Vocabulary = None
    length: int = 0
    unseen: CaptionedExamples | None = None


def prepare(
    source,
    names,
    shape,
    resize,
    *,
    bits=0,
    words=None,
    min_count=1,
    max_length=50,
    include_unseen=False,
):
    """Returns the decoded `CaptionData` of a source.

    Args:
        source: what `load` returned.
        names, shape, resize, bits: as in `data_splits.load`.
        words: a vocabulary; by default that of the training captions.
        min_count: the number of occurrences from which a word is in that vocabulary.
        max_length: the maximum number of words per caption; longer ones are truncated.
        include_unseen: whether to include the split `UNSEEN`, where there is one.

    Raises:
        UsageError: a slice is wrong, no image can be read, or no word has `min_count`.
    """
    (train, *others), findings = image_stats.inspect_splits(
        splits.train_val_test_split(source, *names), bits
    )
    captions = [vocabulary.tokenize(s) for label in train.labels for s in label.sentences]
    words = words or vocabulary.build((" ".join(each) for each in captions), min_count)
    length = min(max_length, max(map(len, captions))) + 1
    parts = [
        part and decode_captions(part, words, length, shape, resize) for part in (train, *others)
    ]
    unseen = None
    if include_unseen and UNSEEN in source.splits:
        unseen = decode_captions(source.splits[UNSEEN], words, length, shape, resize)
    return CaptionData(source, *parts, shape, words, length, unseen, findings=findings)


def decode_captions(split, words, length, shape, resize):
    """Decodes the images and encodes the captions of a split, without unreadable images.

    Args:
        split: a `Split` of a source.
        words: the `Vocabulary`.
        length: the maximum number of words per caption, `<end>` included.
        shape, resize: as in `decoding.decode`.

    Returns:
        `CaptionedExamples`.

    Raises:
        UsageError: no image can be read.
    """
    decoded = decode(split.labelled(np.arange(len(split))), shape, resize)
    labels = [split.labels[index] for index in decoded.labels]
    captions = [label.sentences for label in labels]
    max_captions = max(map(len, captions))
    rows = np.stack([words.rows(own, max_captions, length) for own in captions])
    texts = tuple(tuple(" ".join(vocabulary.tokenize(s)) for s in own) for own in captions)
    facts = tuple(label.facts for label in labels)
    return CaptionedExamples(
        decoded.name,
        decoded.pixels,
        rows,
        decoded.dropped,
        texts,
        None if None in facts else facts,
        items=decoded.items,
        item_indices=decoded.item_indices,
    )


def unknown_word_rate(examples):
    """Returns the share of words of some examples that are not in the vocabulary."""
    words = examples.labels[examples.labels > vocabulary.END]
    return float((words == vocabulary.UNKNOWN).mean()) if words.size else 0.0
