"""Compares gradients of a model or a layer with central differences, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import zoo
from tasks.engine import finetune
from zoo import graphs
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np, tf

tqdm = LazyModule("tqdm")

STEP = 1e-5  # of the differences; their error is about its square
TOLERANCE = 1e-5  # relative error above which a gradient is wrong
MAX_PARAMETERS = 10_000_000  # of a model: float64 doubles its memory


@dataclass(frozen=True)
class TensorCheck:
    """The gradient of one tensor, compared.

    Attributes:
        name: path of a weight, or the name of an input.
        size: number of its values.
        checked: number of values that were compared.
        error: largest difference beyond rounding, relative to the tensor's largest gradient.
        index: where it is, as an index into the tensor.
        gradient: automatic differentiation's value there.
        difference: the central difference there.
    """

    name: str
    size: int
    checked: int
    error: float
    index: tuple[int, ...]
    gradient: float
    difference: float

    @property
    def right(self) -> bool:
        """Whether the relative error is within `TOLERANCE`."""
        return bool(self.error <= TOLERANCE)


def gradcheck(target, inputs=None, *, samples=12, seed=0, step=STEP) -> list[TensorCheck]:
    """Compares the gradients of all trainable weights and floating-point inputs.

    The scalar that is differentiated is a random projection of the outputs. Weights that are zero
    at first, such as biases, get random values, so that each has a gradient. Where a kink of a
    ReLU or of max pooling lies within a step, the difference of the other side counts, or that of
    a step 30 or 1,000 times smaller.

    Args:
        target: a `keras.Model`, which is rebuilt in float64, or a `keras.Layer` of dtype float64.
        inputs: arrays for the inputs, of which those in float64 are checked, or a tuple of several
            arguments of a layer's call; random ones by default for a model.
        samples: values that are compared per tensor, chosen at random; all of smaller ones.
        seed: of values, projection and choice.
        step: of the differences.

    Returns:
        A check per tensor, weights first.

    Raises:
        UsageError: the model is too large or selects boxes inside, or a layer is checked without
            inputs or does not compute in float64.
    """
    rng = np.random.default_rng(seed)
    if isinstance(target, keras.Model):
        target = to_float64(_with_gradients(target))
        inputs = _random_inputs(target, rng) if inputs is None else inputs
        _calibrate(target, inputs)
    elif inputs is None:
        raise UsageError("to check a layer, pass its inputs: gradcheck(layer, inputs)")
    inputs = keras.tree.map_structure(_variable, inputs)
    outputs = _call(target, inputs)  # builds a layer
    if step <= STEP:
        _check_dtype(target, outputs)
    _fill_zeros(target.trainable_variables, rng)
    outputs = _float_outputs(target, inputs)
    projections = [tf.constant(rng.normal(size=output.shape)) for output in outputs]

    def value():
        terms = zip(_float_outputs(target, inputs), projections, strict=True)
        return tf.add_n([tf.reduce_sum(output * projection) for output, projection in terms])

    checked = {weight.path: weight.value for weight in target.trainable_variables}
    flat = [x for x in keras.tree.flatten(inputs) if isinstance(x, tf.Variable)]
    checked |= {f"input {number}": tensor for number, tensor in enumerate(flat)}
    with tf.GradientTape() as tape:
        loss = value()
    gradients = tape.gradient(loss, list(checked.values()))
    terms = zip(outputs, projections, strict=True)
    magnitude = sum(float(tf.reduce_sum(abs(output * weight))) for output, weight in terms)
    value = tf.function(value)
    centre = float(value())
    tensors = tqdm.tqdm(checked.items(), "tensors", leave=False, disable=None, delay=2)
    return [
        _check(name, tensor, gradient, value, centre, samples, rng, step, magnitude)
        for (name, tensor), gradient in zip(tensors, gradients, strict=True)
    ]


def to_float64(model):
    """Returns a copy of a functional model that computes in float64.

    Raises:
        UsageError: it is too large.
    """
    if model.count_params() > MAX_PARAMETERS:
        raise UsageError(
            f"{model.name} has {model.count_params():,} parameters; gradcheck takes models of at "
            f"most {MAX_PARAMETERS:,}: use a smaller one of its family, or a smaller --image-size"
        )
    graph = graphs.flatten(model)

    def clone(layer):
        config = layer.get_config()
        if "dtype" in config:  # of a layer's policy, or of a cast
            config["dtype"] = "float64"
        return layer.__class__.from_config(config)

    def double(tensor):
        dtype = tensor.dtype if "int" in tensor.dtype else "float64"
        return keras.Input(batch_shape=tensor.shape, dtype=dtype, name=tensor.name)

    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        entries = keras.tree.map_structure(double, graph.input)
        copy = keras.models.clone_model(graph, input_tensors=entries, clone_function=clone)
    finally:
        keras.config.set_floatx(before)
    copy.set_weights(graph.get_weights())
    return copy


def wrong(checks: Sequence[TensorCheck]) -> list[TensorCheck]:
    """Returns the checks whose gradient differs, the worst first."""
    return sorted((x for x in checks if not x.right), key=lambda x: -x.error)


def _with_gradients(model):
    """Returns a detector with the outputs that are trained, in place of those it selects from them.

    Other models are returned as they are.
    """
    if any(isinstance(layer, zoo.layers.ProposalLayer) for layer in model.layers):
        raise UsageError(
            f"{model.name} selects boxes inside the network, which stops gradients; gradcheck "
            "takes detectors of one stage, such as retinanet"
        )
    detect = [layer for layer in model.layers if isinstance(layer, zoo.layers.DecodeDetections)]
    if not detect:
        return model
    _, logits, deltas, _ = detect[0].input
    return keras.Model(model.input, [logits, deltas], name=model.name)


def _random_inputs(model, rng):
    embeddings = [each for each in model.layers if isinstance(each, keras.layers.Embedding)]
    high = min([255, *(each.input_dim for each in embeddings)])

    def draw(tensor):
        shape = [size or (4 if axis == 0 else 32) for axis, size in enumerate(tensor.shape)]
        if "int" in tensor.dtype:
            return rng.integers(1, 4, shape).astype(tensor.dtype)
        return rng.uniform(0, high, shape)

    return keras.tree.map_structure(draw, model.input)


def _calibrate(model, inputs):
    """Sets BatchNorm statistics to those of the inputs, so that signals neither vanish nor grow."""
    norms = finetune.batch_norm_layers(model)
    before = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(keras.tree.map_structure(tf.convert_to_tensor, inputs), training=True)
    for layer, momentum in zip(norms, before, strict=True):
        layer.momentum = momentum


def _check_dtype(target, outputs):
    """Raises `UsageError` if a layer computes in fewer bits than differences need."""
    dtypes = {x.dtype.name for x in keras.tree.flatten(outputs) if x.dtype.is_floating}
    dtypes.add(getattr(target, "compute_dtype", "float64"))
    if "float64" not in dtypes:
        raise UsageError(
            f"{target.name} computes in {min(dtypes)}, whose rounding hides the differences; make "
            "the layer with dtype='float64', or pass a larger step"
        )


def _variable(array):
    array = np.asarray(array)
    return tf.Variable(array) if array.dtype == "float64" else tf.constant(array)


def _fill_zeros(weights, rng):
    for weight in weights:
        if not np.any(weight.numpy()):
            weight.assign(0.1 * rng.normal(size=weight.shape))


def _call(target, inputs):
    inputs = keras.tree.map_structure(tf.convert_to_tensor, inputs)
    return target(*inputs) if isinstance(inputs, tuple) else target(inputs)


def _float_outputs(target, inputs):
    outputs = _call(target, inputs)
    return [tf.cast(x, "float64") for x in keras.tree.flatten(outputs) if x.dtype.is_floating]


def _check(name, tensor, gradient, value, centre, samples, rng, step, magnitude):
    gradient = (
        np.zeros(tensor.shape) if gradient is None else tf.convert_to_tensor(gradient).numpy()
    )
    size = int(np.prod(tensor.shape))
    flat_indices = rng.choice(size, min(samples, size), replace=False)
    finite = np.isfinite(gradient).ravel()
    if not finite.all():
        flat_indices[0] = finite.argmin()
    scale = max(np.abs(gradient.ravel()[finite]).max(initial=0.0), 1e-8)
    worst = (-1.0, 0, 0.0)
    for flat_index in flat_indices:
        index = np.unravel_index(flat_index, tensor.shape) if tensor.shape.rank else ()
        own = float(gradient[index])
        limit = TOLERANCE * scale
        error, difference = _closest(tensor, index, own, value, centre, step, magnitude, limit)
        worst = max(worst, (error / scale, int(flat_index), difference))
    error, flat_index, difference = worst
    index = tuple(map(int, np.unravel_index(flat_index, tensor.shape))) if tensor.shape.rank else ()
    own = float(gradient[index])
    return TensorCheck(name, size, len(flat_indices), float(error), index, own, difference)


def _closest(tensor, index, own, value, centre, step, magnitude, limit):
    """Returns the error beyond rounding, and the difference that it is from.

    That is the first difference within `limit`, or, where there is none, the central one.

    A kink of a piecewise linear function spoils the difference on its side only, and fewer of
    them lie within a smaller step. On a smooth function a one-sided difference is the worse one,
    so that it hides no wrong gradient.
    """
    found = []
    for size in (step, step / 30, step / 1000):
        left, right = _differences(tensor, index, value, centre, size)
        rounding = 8 * np.finfo("float64").eps * magnitude / size
        for difference in ((left + right) / 2, left, right):
            found.append((_excess(abs(difference - own), rounding), difference))
            if found[-1][0] <= limit:
                return found[-1]
    return found[0]


def _excess(error, rounding):
    """Returns what of an error is more than rounding: infinity if it is not a finite number."""
    return max(0.0, error - rounding) if np.isfinite(error) else np.inf


def _differences(tensor, index, value, centre, step):
    """Returns the differences to the left and to the right of a tensor's value."""
    before = np.array(tensor.numpy())  # also of a scalar
    step *= max(1.0, abs(float(before[index])))
    ends = []
    for moved_by in (-step, step):
        moved = before.copy()
        moved[index] += moved_by
        tensor.assign(moved)
        ends.append(float(value()))
    tensor.assign(before)
    return (centre - ends[0]) / step, (ends[1] - centre) / step
