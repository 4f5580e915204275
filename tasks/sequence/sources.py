"""Where sequences come from: built-in ones, a text, tables and arrays of numbers, class folders."""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.data.class_folders import iter_files
from tasks.sequence import arrays, synthetic, table
from zoo.errors import UsageError
from zoo.lazy import np
from zoo.paths import expand_user, read_text

TABLE_SUFFIXES = (".csv", ".tsv")
ARRAY_SUFFIXES = (".npy", ".npz")
TEXT_SUFFIX = ".txt"


@dataclass(frozen=True, eq=False)
class Source:
    """Sequences before they are split.

    Attributes:
        sequences: Texts, or float64 arrays `(steps, channels)`. One of them without labels.
        labels: int64 `(sequences,)`, indices into `classes`; empty without labels.
        classes: The class names; empty without labels.
        channels: The names of the channels; empty for text.
        in_time_order: Whether the sequences of a class follow each other in time, as windows of
            one recording do.
        notes: Lines about what was left out.
    """

    sequences: list = field(repr=False)
    labels: np.ndarray = field(default=(), repr=False)
    classes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    in_time_order: bool = False
    notes: tuple[str, ...] = ()

    @property
    def is_text(self):
        """Whether the sequences are texts."""
        return isinstance(self.sequences[0], str)


def load(name, length, columns="", label_column=""):
    """Loads a source.

    Args:
        name: One of `BUILT_IN`; the path of a text, a table (`.csv`, `.tsv`) or an array (`.npy`,
            `.npz`); or of a folder with one subfolder of such files per class.
        length: Steps of generated sequences, and of the windows of a table with labels.
        columns: Names of the columns of a table that are channels, separated by commas; by
            default all but the label.
        label_column: Name of the column of a table with the class of each step.

    Returns:
        A `Source`.

    Raises:
        UsageError: There is no such data set, or it cannot be read as sequences.
    """
    path = expand_user(name)
    is_table = path.suffix.lower() in TABLE_SUFFIXES
    if (columns or label_column) and not (is_table or path.is_dir()):
        flag = "--columns" if columns else "--label-column"
        raise UsageError(f"{flag} is for tables (.csv, .tsv), not for {name}; leave it out")
    if name in BUILT_IN:
        return BUILT_IN[name](length)
    if path.is_dir():
        return _from_class_folders(path, columns, label_column)
    if not path.exists():
        known = ", ".join(BUILT_IN)
        raise UsageError(f"no data set {name}: pass {known}, or the path of a file or folder")
    if is_table:
        return _from_table(path, length, columns, label_column)
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return _from_arrays(path)
    text = read_text(path)
    if len(set(text)) == 1:
        raise UsageError(f"{path} holds the character {text[0]!r} only; there is nothing to learn")
    return Source([_not_empty(path, text)])


def read(path, *, text, columns=""):
    """Returns one sequence of a file: a text, or an array `(steps, channels)` and channel names.

    Args:
        path: A `Path`.
        text: Whether texts are expected, rather than series.
        columns: As in `load`.

    Raises:
        UsageError: The file holds no such sequence.
    """
    suffix = path.suffix.lower()
    if text != (suffix not in (*TABLE_SUFFIXES, *ARRAY_SUFFIXES)):
        expected = "a text" if text else "a series (.csv, .tsv, .npy)"
        raise UsageError(f"{path} is not {expected}, which the other data are")
    if text:
        return _not_empty(path, read_text(path)), ()
    if suffix in TABLE_SUFFIXES:
        found = table.read(path, columns)
        return found.values, found.channels
    values, labels = arrays.read(path)
    if labels is not None or values.ndim > 2:
        raise UsageError(f"{path} holds several sequences; expected one, (steps, channels)")
    return values.reshape(len(values), -1), _numbered(values.reshape(len(values), -1).shape[1])


def is_numbered(channels):
    """Returns whether names of channels are those of a file without names."""
    return channels == _numbered(len(channels))


def _not_empty(path, text):
    if not text:
        raise UsageError(f"{path} is empty; expected a text")
    return text


def _from_table(path, length, columns, label_column):
    found = table.read(path, columns, label_column)
    if not label_column:
        return Source([found.values], channels=found.channels)
    classes = table.sort_labels(set(found.labels))
    windows, labels, left_out = table.windows_of_labels(found, length)
    if not windows:
        raise UsageError(
            f"{path}: no {length} steps in a row have the same {label_column}; use a smaller "
            "--length"
        )
    notes = [f"{left_out:,} steps left out, which fill no window"] if left_out else []
    indices = np.array([classes.index(label) for label in labels])
    options = {"channels": found.channels, "in_time_order": True, "notes": tuple(notes)}
    return Source(windows, indices, tuple(classes), **options)


def _from_arrays(path):
    values, labels = arrays.read(path)
    if labels is None:
        values = values.reshape(len(values), -1)
        return Source([values], channels=_numbered(values.shape[1]))
    classes = table.sort_labels(set(labels))
    indices = np.array([classes.index(label) for label in labels])
    channels = _numbered(values.shape[2])
    return Source(list(values), indices, tuple(classes), channels=channels)


def _from_class_folders(folder, columns, label_column):
    if label_column:
        raise UsageError(f"the subfolders of {folder} are the classes; leave out --label-column")
    folders = sorted(x for x in folder.iterdir() if x.is_dir() and not x.name.startswith("."))
    suffixes = (TEXT_SUFFIX, *TABLE_SUFFIXES, ".npy")
    files = [
        (path, label)
        for label, each in enumerate(folders)
        for path in sorted(iter_files(each))
        if path.suffix.lower() in suffixes
    ]
    if not files:
        raise UsageError(f"no CLASS/FILE in {folder} ends in {', '.join(suffixes)}")
    text = files[0][0].suffix.lower() == TEXT_SUFFIX
    found, names = [], None
    for path, _ in files:
        sequence, channels = read(path, text=text, columns=columns)
        names = names or channels
        if channels != names:
            raise UsageError(
                f"{path} has the channels {', '.join(channels)}, not {', '.join(names)} as "
                f"{files[0][0]}; make them equal, or choose some with --columns"
            )
        found.append(sequence)
    labels = np.array([label for _, label in files])
    return Source(found, labels, tuple(each.name for each in folders), channels=names or ())


def _numbered(count):
    return tuple(f"channel {index}" for index in range(1, count + 1))


def _from_waves(length):
    sequences, labels = synthetic.waves(length)
    return Source(sequences, labels, synthetic.WAVES, channels=("wave",))


def _from_temporal_order(length):
    texts, labels = synthetic.temporal_order(length)
    return Source(texts, labels, synthetic.ORDERS)


BUILT_IN = {  # name: function of the length of a sequence
    "python_docs": lambda length: Source([synthetic.python_docs()]),
    "mackey_glass": lambda length: Source([synthetic.mackey_glass()], channels=("x",)),
    "waves": _from_waves,
    "temporal_order": _from_temporal_order,
}
