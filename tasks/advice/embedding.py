"""Features of the images of a data set: their neighbors, and k-nearest-neighbor accuracy.

Similarity is the cosine of features whose mean over the images was subtracted: without that, the
features of many networks, which are not negative, are all similar to each other.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from tasks.advice import doctor
from tasks.data import decoding, image_io, image_stats, sources, splits
from tasks.inference import feature_cache
from tasks.report import confidence_intervals
from zoo import atomic_files, graphs, surgery
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import LazyModule, keras, np

parquet = LazyModule("pyarrow.parquet")
pyarrow = LazyModule("pyarrow")

DEFAULT_SIDE = 224  # pixels, of images for a network of any size
CLASSIFICATION = "classification"  # the task whose data sets have class labels
PENULTIMATE = "penultimate"  # the name of the features before the last dense layer
BLOCK = 1024  # rows of the similarity matrix that are in memory at a time
SUFFIXES = (".npz", ".parquet")
EXTRA = "pip install 'keras-zoo[embed]'"


@dataclass(frozen=True, eq=False)
class Embedding:
    """Features of images.

    Attributes:
        features: float32 `(images, features)`.
        labels: int64 `(images,)`, or multi-hot `(images, classes)`.
        classes: The class names.
        examples: The `decoding.Examples`, with the pixels and the titles of the images.
        stage: The name of the features.
        extractor: The `keras.Model` from images to features.
        resize, bits: How images are read, as in `image_io.read_image`.
    """

    features: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    examples: object
    stage: str
    extractor: object
    resize: str
    bits: int

    def titles(self):
        """Returns the title of each image."""
        return [self.examples.title(index) for index in range(len(self.features))]

    def label_names(self):
        """Returns the class name of each image; several are joined by `|`."""
        names = np.asarray(self.classes)
        if self.labels.ndim == 1:
            return [str(name) for name in names[self.labels]]
        return ["|".join(names[row.astype(bool)]) for row in self.labels]


def embed(target, dataset="", *, stage="", split="", data_dir="", weights="", image_size=0):
    """Computes features of a data set; they are cached as those of frozen layers are.

    Args:
        target: A run folder, a `.keras` file, or a pretrained model.
        dataset: A data set with labels, as for `sources.load`; by default that of the run.
        stage: A stage such as `stage4`, whose feature maps are averaged over the image; by default
            the input of the last dense layer of a classifier, and the last stage of others.
        split: The slice to use; by default all images.
        data_dir: The folder of TFDS data sets.
        weights: A weights file to load instead of the published weights of a pretrained model.
        image_size: Height and width, for a network of any size; 0 for that of the network.

    Returns:
        An `Embedding`.

    Raises:
        UsageError: There is no such model, data set, slice or stage.
    """
    loaded = doctor.load_model(target, weights)
    dataset = dataset or loaded.recipe.get("dataset", "")
    if not dataset:
        raise UsageError(f"{target} is not a run; pass a data set: zoo embed MODEL DATASET")
    data_dir = data_dir or loaded.recipe.get("data_dir") or None
    source = _load_source(target, dataset, data_dir, loaded.recipe)
    part = image_stats.inspect_splits([splits.select(source, split or "all")])[0][0]
    extractor, stage = feature_extractor(loaded.model, stage)
    shape = _image_shape(extractor, image_size)
    resize = loaded.about.get("resize", "stretch")
    examples = decoding.decode(part, shape, resize)
    features = feature_cache.compute_features(extractor, examples)
    return Embedding(
        np.asarray(features, np.float32),
        np.asarray(examples.labels),
        tuple(map(str, source.classes)),
        *(examples, stage, extractor, resize, part.bits),
    )


def _load_source(target, dataset, data_dir, recipe):
    """Returns the data set; that of a run of another task may have no class labels."""
    try:
        return sources.load(dataset, data_dir)
    except UsageError as error:
        if dataset != recipe.get("dataset") or recipe["task"] == CLASSIFICATION:
            raise
        raise UsageError(
            f"{dataset}, the data set of {target}, cannot be read as images with class labels; "
            "pass one that can: zoo embed RUN DATASET"
        ) from error


def feature_extractor(model, stage=""):
    """Returns a network from images to features `(batch, features)`, and the name of these.

    Args:
        model: A `keras.Model`.
        stage: As in `embed`.

    Raises:
        UsageError: The model has no such stage, or no features.
    """
    net = graphs.flatten(model)
    found = _stages_of_image(net)
    is_classifier = isinstance(model.output_shape, tuple) and len(model.output_shape) == 2
    if stage in ("", PENULTIMATE) and is_classifier:
        graphs.single_input(net)
        surgery.freeze(model, 1)
        parts = surgery.split(model)
        if parts is None:
            raise UsageError(f"{model.name} has no layers before its last dense layer")
        return _pooled(parts[0].inputs[0], parts[0].outputs[0]), PENULTIMATE
    if not found:
        raise UsageError(f"{model.name} has no stages to take features of images from")
    stage = stage or list(found)[-1]
    if stage not in found:
        raise unknown_name_error(
            "stage", stage, [*found, *([PENULTIMATE] if is_classifier else [])]
        )
    image = next(x for x in net.inputs if len(x.shape) == 4)
    return _pooled(image, found[stage]), stage


def _stages_of_image(net):
    """Returns the stages of a network that depend on the image only, not on other inputs."""
    others = {id(x) for x in net.inputs if len(x.shape) != 4}
    return {
        name: x
        for name, x in surgery.stages(net).items()
        if others.isdisjoint(
            id(y) for node in graphs.ancestors(net, [x]) for y in node.output_tensors
        )
    }


def subset(embedding, indices):
    """Returns the embedding of some images; its `examples` remain those of all."""
    return dataclasses.replace(
        embedding, features=embedding.features[indices], labels=embedding.labels[indices]
    )


def neighbours(embedding, features, count):
    """Returns the most similar images.

    Args:
        embedding: An `Embedding` of `images` images.
        features: `(queries, features)`.
        count: The number of neighbors.

    Returns:
        The indices of the images, int64 `(queries, count)`, the most similar first, and their
        similarity in [-1, 1], of the same shape. Fewer if the embedding has fewer images.
    """
    mean = embedding.features.mean(axis=0)
    directions, queries = _unit(embedding.features - mean), _unit(features - mean)
    blocks = [
        _nearest(queries[first : first + BLOCK] @ directions.T, count)
        for first in range(0, len(queries), BLOCK)
    ]
    return tuple(np.concatenate(each) for each in zip(*blocks, strict=True))


def own_neighbours(embedding, count):
    """Returns the `neighbours` of each image of an embedding, without itself."""
    directions = _unit(embedding.features - embedding.features.mean(axis=0))
    found = []
    for first in range(0, len(directions), BLOCK):
        similarity = directions[first : first + BLOCK] @ directions.T
        rows = np.arange(len(similarity))
        similarity[rows, first + rows] = -np.inf
        found.append(_nearest(similarity, min(count, len(directions) - 1)))
    return tuple(np.concatenate(each) for each in zip(*found, strict=True))


def knn_accuracy(embedding, count, *, seed=0):
    """Returns the leave-one-out accuracy of the k-nearest-neighbor classifier.

    The prediction for an image is the most frequent class of its `count` neighbors; ties are
    broken by the sum of the similarities.

    Args:
        embedding: An `Embedding` with one label per image.
        count: The number of neighbors.
        seed: The seed of the bootstrap.

    Returns:
        A dict of `knn_accuracy`, with the ends of its 95% interval, and `majority_share`, the
        accuracy of always predicting the most frequent class; empty for multi-label data.
    """
    labels = embedding.labels
    if labels.ndim != 1 or len(labels) < 2:
        return {}
    nearest, similarity = own_neighbours(embedding, count)
    votes = np.zeros((len(labels), len(embedding.classes)))
    rows = np.arange(len(labels))[:, None]
    np.add.at(votes, (rows, labels[nearest]), 1 + (1 + similarity) / (4 * nearest.shape[1]))
    correct = votes.argmax(axis=1) == labels
    ends = confidence_intervals.mean_interval(correct, seed=seed)
    figures = confidence_intervals.with_interval("knn_accuracy", float(correct.mean()), ends)
    return {**figures, "majority_share": float(np.bincount(labels).max() / len(labels))}


def read_features(embedding, path):
    """Returns the features of an image file, `(1, features)`."""
    shape = embedding.examples.pixels.shape[1:]
    pixels = image_io.read_image(path, shape, embedding.resize, embedding.bits)
    return np.asarray(embedding.extractor.predict(pixels[None], verbose=0), np.float32)


def check_output(path):
    """Raises `UsageError` if `write` cannot write a file of this name; called before the work."""
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise UsageError(f"features are written to {' or '.join(SUFFIXES)}, not {path}")
    if suffix == ".parquet":
        try:
            _ = pyarrow.table
        except ModuleNotFoundError as error:
            raise UsageError(f"a .parquet file needs pyarrow: {EXTRA}") from error


def write(path, embedding):
    """Writes features, labels and titles to a `.npz` or a `.parquet` file, atomically."""
    check_output(path)
    names = {"image": embedding.titles(), "label": embedding.label_names()}
    with atomic_files.atomic_write(path) as partial:
        if Path(path).suffix == ".parquet":
            columns = {**names, "features": list(embedding.features)}
            parquet.write_table(pyarrow.table(columns), partial)
        else:
            arrays = {key: np.asarray(value, np.str_) for key, value in names.items()}
            np.savez_compressed(partial, features=embedding.features, **arrays)


def _pooled(image, features):
    """Returns a network to features, averaged over their height and width if they are maps."""
    if len(features.shape) > 2:
        features = keras.ops.mean(features, axis=tuple(range(1, len(features.shape) - 1)))
    return keras.Model(image, features)


def _image_shape(extractor, side):
    image = graphs.single_input(extractor).shape
    if len(image) != 4:
        raise UsageError(f"the network takes an input of shape {image}, not images")
    height, width, channels = image[1:]
    if side and {height, width} - {None, side}:
        raise UsageError(f"the network takes images of {height} x {width}; leave out --image-size")
    return height or side or DEFAULT_SIDE, width or side or DEFAULT_SIDE, channels


def _unit(rows):
    """Returns rows of length 1; a row of zeros stays one."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1), np.float32)


def _nearest(similarity, count):
    """Returns the indices of the largest values of each row, in order, and these values."""
    count = min(count, similarity.shape[1])
    order = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    values = np.take_along_axis(similarity, order, axis=1)
    by_value = np.argsort(-values, axis=1, kind="stable")
    take = np.take_along_axis
    return take(order, by_value, axis=1), take(values, by_value, axis=1)
