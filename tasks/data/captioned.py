"""Data sets of images with captions: what their names mean, and how they are decoded."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.data import caption_files, caption_shapes, labelled, looks, splits, vocabulary
from tasks.data.dataset import Source, Split, objects
from tasks.data.decoding import Examples, decode
from tasks.data.folders import reading
from zoo.errors import UsageError
from zoo.lazy import np
from zoo.paths import expanded

LAYOUTS = (
    "needed: shapes; a file of lines such as image.jpg#0, a tab and a caption, as Flickr8k and "
    "Flickr30k have; a CSV with the columns image,caption; a captions JSON of COCO's; or a "
    "folder with such a file"
)
UNSEEN = "unseen"  # the split of `shapes` whose combinations no other has


def load(name):
    """Finds a data set of images with captions by name.

    Args:
        name: `shapes`; or a file or folder as `caption_files.found` takes it.

    Returns:
        A `Source` without classes. The labels of its splits are objects with `sentences`, and with
        `facts`, by which a sentence can be known to be true, or `None`.

    Raises:
        UsageError: there is nothing of that name, or it is not laid out as it should be.
    """
    name = str(name)
    if name == "shapes":
        return caption_shapes.load()
    path = expanded(name)
    with reading(name):
        files = caption_files.found(path) if name and path.exists() else {}
        if not files:
            what = "has no captions" if name and path.exists() else "is no such file or folder"
            raise UsageError(f"the data set {name!r} {what}; {LAYOUTS}")
        parts, skipped = {}, []
        for split, file in files.items():
            told, passed = caption_files.read(file)
            skipped += passed
            for own, rows in told.items():
                parts.setdefault(split if own == "all" else own, []).extend(rows)
    found = {
        split: Split(split, [row.path for row in rows], objects(rows))
        for split, rows in parts.items()
    }
    return Source(name, (), found, tuple(skipped))


@dataclass(frozen=True, eq=False)
class Captioned(Examples):
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
class Data(labelled.Data):
    """What a run learns from.

    Attributes:
        words: the `vocabulary.Vocabulary`.
        length: words of a sentence at most, `<end>` among them.
        unseen: further examples to judge, of what no image to learn from shows; or `None`.
    """

    words: vocabulary.Vocabulary = None
    length: int = 0
    unseen: Captioned | None = None


def data(source, names, shape, resize, *, bits=0, words=None, least=1, longest=50, further=False):
    """Returns the `Data` of a source, decoded.

    Args:
        source: what `load` returned.
        names: slices to learn from, to choose by and to judge on, as `splits.plan` takes them.
        shape: `(height, width, channels)` that every image becomes.
        resize: how: `stretch`, `crop` or `pad`.
        bits: as `looks.settled` takes them.
        words: a vocabulary; by default that of the sentences to learn from.
        least: how often a word must be there to be in it.
        longest: the most words of a sentence; what is longer is cut.
        further: whether the split `UNSEEN` is judged too, where there is one.

    Raises:
        UsageError: a slice is wrong, no image is left, or no word is so frequent.
    """
    (train, *others), seen = looks.settled(splits.plan(source, *names), bits)
    told = [vocabulary.tokens(s) for label in train.labels for s in label.sentences]
    words = words or vocabulary.build((" ".join(each) for each in told), least)
    length = min(longest, max(map(len, told))) + 1
    parts = [part and examples(part, words, length, shape, resize) for part in (train, *others)]
    unseen = None
    if further and UNSEEN in source.splits:
        unseen = examples(source.splits[UNSEEN], words, length, shape, resize)
    return Data(source, *parts, shape, words, length, unseen, seen=seen)


def examples(split, words, length, shape, resize):
    """Returns the `Captioned` of a split, decoded; images that cannot be read are left out."""
    numbers = split.labelled(np.arange(len(split)))
    read = decode(numbers, shape, resize)
    labels = [split.labels[index] for index in read.labels]
    most = max(len(label.sentences) for label in labels)
    told = [label.sentences for label in labels]
    rows = np.stack([words.rows(own, most, length) for own in told])
    texts = tuple(tuple(" ".join(vocabulary.tokens(s)) for s in own) for own in told)
    facts = tuple(label.facts for label in labels)
    known = facts if all(fact is not None for fact in facts) else None
    own = {"items": read.items, "places": read.places}
    return Captioned(read.name, read.pixels, rows, read.dropped, texts, known, **own)


def unknown(part):
    """Returns the share of the words of some examples that the vocabulary does not have."""
    words = part.labels[part.labels > vocabulary.END]
    return float((words == vocabulary.UNKNOWN).mean()) if words.size else 0.0
