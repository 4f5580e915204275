"""Data sets of images with captions: what their names mean, and how they are decoded."""

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
    "needed: shapes; a file of lines such as image.jpg#0, a tab and a caption, as Flickr8k and "
    "Flickr30k have; a CSV with the columns image,caption; a captions JSON of COCO's; or a "
    "folder with such a file"
)
UNSEEN = "unseen"  # the split of `shapes` whose combinations no other has


def load(name):
    """Finds a data set of images with captions by name.

    Args:
        name: `shapes`; or a file or folder as `annotation_files.find_files` takes it.

    Returns:
        A `Source` without classes. The labels of its splits are objects with `sentences`, and with
        `facts`, by which a sentence can be known to be true, or `None`.

    Raises:
        UsageError: there is nothing of that name, or it is not laid out as it should be.
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
            captions, newly_skipped = annotation_files.read(file)
            skipped += newly_skipped
            for own, rows in captions.items():
                parts.setdefault(split if own == "all" else own, []).extend(rows)
    found = {
        split: Split(split, [row.path for row in rows], object_array(rows))
        for split, rows in parts.items()
    }
    return Source(name, (), found, tuple(skipped))


@dataclass(frozen=True, eq=False)
class CaptionedExamples(Examples):
    """One split of images and captions, ready to be batched.

    Attributes:
        labels: int32 `(count, most, 1 + length)`, the words of each sentence as
            `Vocabulary.rows` has them.
        sentences: of each image, in tokens with a space between, as they are judged.
        facts: what is true of each image, or `None` where nobody knows.
    """

    sentences: tuple[tuple[str, ...], ...] = ()
    facts: tuple | None = None


@dataclass(frozen=True)
class Data(data_splits.DataSplits):
    """What a run learns from.

    Attributes:
        words: the `vocabulary.Vocabulary`.
        length: words of a sentence at most, `<end>` among them.
        unseen: further examples to judge, of what no image to learn from shows; or `None`.
    """

    words: vocabulary.Vocabulary = None
    length: int = 0
    unseen: CaptionedExamples | None = None


def data(
    source,
    names,
    shape,
    resize,
    *,
    bits=0,
    words=None,
    min_count=1,
    longest=50,
    include_unseen=False,
):
    """Returns the `Data` of a source, decoded.

    Args:
        source: what `load` returned.
        names: slices to learn from, to choose by and to judge on, as `splits.train_val_test_split`
        takes them.
        shape: `(height, width, channels)` that every image becomes.
        resize: how: `stretch`, `crop` or `pad`.
        bits: as `image_stats.inspect_splits` takes them.
        words: a vocabulary; by default that of the sentences to learn from.
        min_count: how often a word must be there to be in it.
        longest: the most words of a sentence; what is longer is cut.
        include_unseen: whether the split `UNSEEN` is judged too, where there is one.

    Raises:
        UsageError: a slice is wrong, no image is left, or no word is so frequent.
    """
    (train, *others), findings = image_stats.inspect_splits(
        splits.train_val_test_split(source, *names), bits
    )
    captions = [vocabulary.tokenize(s) for label in train.labels for s in label.sentences]
    words = words or vocabulary.build((" ".join(each) for each in captions), min_count)
    length = min(longest, max(map(len, captions))) + 1
    parts = [part and examples(part, words, length, shape, resize) for part in (train, *others)]
    unseen = None
    if include_unseen and UNSEEN in source.splits:
        unseen = examples(source.splits[UNSEEN], words, length, shape, resize)
    return Data(source, *parts, shape, words, length, unseen, findings=findings)


def examples(split, words, length, shape, resize):
    """Returns the `Captioned` of a split, decoded; images that cannot be read are left out."""
    numbers = split.labelled(np.arange(len(split)))
    read = decode(numbers, shape, resize)
    labels = [split.labels[index] for index in read.labels]
    max_captions = max(len(label.sentences) for label in labels)
    captions = [label.sentences for label in labels]
    rows = np.stack([words.rows(own, max_captions, length) for own in captions])
    texts = tuple(tuple(" ".join(vocabulary.tokenize(s)) for s in own) for own in captions)
    facts = tuple(label.facts for label in labels)
    known = facts if all(fact is not None for fact in facts) else None
    own = {"items": read.items, "places": read.places}
    return CaptionedExamples(read.name, read.pixels, rows, read.dropped, texts, known, **own)


def unknown_word_rate(part):
    """Returns the share of the words of some examples that the vocabulary does not have."""
    words = part.labels[part.labels > vocabulary.END]
    return float((words == vocabulary.UNKNOWN).mean()) if words.size else 0.0
