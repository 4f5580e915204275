"""Digests of models and images, for cache keys.

Everything is hashed completely. The same contents give the same digest in another process and on
another machine.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import os
from concurrent.futures import ThreadPoolExecutor

from tasks.data import decoding
from tasks.data.pillow_images import MAX_BITS
from zoo import graphs
from zoo.lazy import LazyModule, keras, np

disk_images = LazyModule("tasks.data.disk_images")
pages = LazyModule("tasks.data.pages")

CHUNK_BYTES = 2**23  # hashed at once by a thread
# Keys of layer configurations that do not affect the output.
IGNORED_CONFIG_KEYS = ("name", "trainable", "build_config", "activity_regularizer")
IGNORED_CONFIG_SUFFIXES = ("_initializer", "_regularizer", "_constraint")


def digest(*parts):
    """Returns a digest of 32 hexadecimal digits of JSON values, in order."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def weights(model):
    """Returns the digest of all weights of a model, in order."""
    return arrays([keras.ops.convert_to_numpy(weight) for weight in model.weights])


def arrays(values):
    """Returns the digest of arrays: their bytes, shapes and dtypes."""
    chunks = itertools.chain.from_iterable(map(_chunks, values))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the GIL
        digests = list(pool.map(lambda chunk: hashlib.sha256(chunk()).hexdigest(), chunks))
    return digest([[str(value.dtype), *value.shape] for value in values], digests)


def architecture(model):
    """Returns the digest of the architecture of a functional model, without its weights.

    Names are ignored, as Keras numbers layers per process. For layers that are not of Keras the
    source code of their class is included, if available.
    """
    return digest(_graph_json(graphs.require_graph(model)))


def pixels(source, count):
    """Returns the digest of images.

    Args:
        source: What `Examples.pixels` may be. Arrays are hashed completely, `DiskImages` too. For
            `LazyImages` the paths, sizes and modification times of files are hashed, other items
            completely, and the target shape and resize method. For an object that transforms
            images, which has the original ones as `pixels`, these, its class and its other
            attributes are hashed. Anything else is read and hashed.
        count: The number of images.
    """
    if isinstance(source, decoding.LazyImages):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            items = list(pool.map(_item_fingerprint, source.items))
        deep = (
            () if source.bits == MAX_BITS else (source.bits,)
        )  # so that older cached features stay valid
        return digest("files", items, list(source.shape), source.resize, *deep)
    if isinstance(source, np.ndarray | disk_images.DiskImages):
        return arrays([source])
    if hasattr(source, "pixels"):
        attributes = {name: value for name, value in vars(source).items() if name != "pixels"}
        encoded = json.dumps(attributes, sort_keys=True, default=_to_jsonable)
        return digest(type(source).__qualname__, encoded, pixels(source.pixels, count))
    indices = range(count)
    digests = [arrays([np.asarray(source[np.array([i])])]) for i in indices]
    return digest("read", digests)


def _chunks(array):
    """Yields functions that each return a part of the bytes of an array."""
    if not array.size:
        return
    rows = array[None] if array.ndim == 0 else array
    step = max(1, CHUNK_BYTES // max(1, rows[0].nbytes))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        yield lambda part=part: np.ascontiguousarray(part).reshape(-1).view("uint8")


def _item_fingerprint(item):
    if isinstance(item, bytes):
        return hashlib.sha256(item).hexdigest()
    if isinstance(item, np.ndarray):
        return [str(item.dtype), list(item.shape), hashlib.sha256(item.tobytes()).hexdigest()]
    try:
        about = os.stat(pages.file_of(item))
    except OSError:
        return [str(item), "gone"]
    return [os.path.abspath(item), about.st_size, about.st_mtime_ns]


def _graph_json(net):
    """Returns the calls of a graph as JSON: operation, inputs and arguments."""
    numbers = {id(x): number for number, x in enumerate(_tensors(net))}

    def encoded(value):
        return f"tensor {numbers[id(value)]}" if id(value) in numbers else value

    calls = []
    for node in graphs.nodes(net):
        arguments = [] if node.is_input else [node.arguments.args, node.arguments.kwargs]
        calls.append(
            [*_operation_fingerprint(node.operation), keras.tree.map_structure(encoded, arguments)]
        )
    output_numbers = [numbers[id(x)] for x in net.outputs]
    return json.dumps([calls, output_numbers], sort_keys=True, default=_to_jsonable)


def _tensors(net):
    return [x for node in graphs.nodes(net) for x in node.output_tensors]


def _operation_fingerprint(operation):
    kind = type(operation)
    inner = graphs.functional_graph(operation)
    if inner is not None:
        return [kind.__name__, _graph_json(inner), ""]
    source = ""
    if not kind.__module__.startswith("keras."):
        try:
            source = inspect.getsource(kind)
        except (OSError, TypeError):
            source = "unknown"
    return [f"{kind.__module__}.{kind.__qualname__}", _relevant_config(operation), source]


def _relevant_config(operation):
    layer = isinstance(operation, keras.Layer)
    config = operation.get_config() if layer else vars(operation)  # of an operation such as `add`
    return {
        key: value
        for key, value in config.items()
        if key not in IGNORED_CONFIG_KEYS
        and not key.endswith(IGNORED_CONFIG_SUFFIXES)
        and key[0] != "_"
    }


def _to_jsonable(value):
    if isinstance(value, np.ndarray):
        return arrays([value])
    if hasattr(value, "tolist"):
        return value.tolist()
    return value.get_config() if hasattr(value, "get_config") else repr(value)
