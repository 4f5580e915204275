"""Converts models to other runtimes: OpenVINO, LiteRT and ONNX Runtime.

They get the graph with the weights as constants, by `stateless_call` of Keras. TensorFlow is
faster that way, too, and a converter need not handle variables (that of LiteRT gives NaN if there
are any). The returned functions take uint8 images `(batch, height, width, channels)`, return
logits `(batch, classes)`, and are thread-safe.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tasks.inference import threads
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, tf

_litert = LazyModule("ai_edge_litert.interpreter")
_onnxruntime = LazyModule("onnxruntime")
_openvino = LazyModule("openvino")
_tf2onnx = LazyModule("tf2onnx.convert")

OPENVINO_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
ONNX_OPSET = 18


def to_openvino(model, precision):
    """Converts a model to OpenVINO, for the CPU.

    Raises:
        UsageError: The processor does not support the precision.
    """
    return function_to_openvino(freeze(model), precision)


def function_to_openvino(function, precision):
    """Converts a concrete function of TensorFlow to OpenVINO, for the CPU.

    Args:
        function: A function from uint8 images to one tensor, which captures no variables.
        precision: A key of `OPENVINO_PRECISIONS`.

    Raises:
        UsageError: The processor does not support the precision.
    """
    # Importing OpenVINO sends telemetry, unless its telemetry package is missing.
    sys.modules.setdefault("openvino_telemetry", None)
    core = _openvino.Core()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bfloat16" and "BF16" not in capabilities:
        raise UsageError(
            "this processor does not support bfloat16; use --precision float32, the default"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pb"
        path.write_bytes(function.graph.as_graph_def().SerializeToString())
        network = core.read_model(path)
    _embed_captured_weights(network, function)
    hints = {
        "INFERENCE_PRECISION_HINT": OPENVINO_PRECISIONS[precision],
        "NUM_STREAMS": threads.num_workers(),
        "INFERENCE_NUM_THREADS": threads.num_workers() * threads.threads_per_worker(),
        "ENABLE_CPU_PINNING": False,  # the cores also read images
    }
    compiled = core.compile_model(network, "CPU", hints)

    def make():
        request = compiled.create_infer_request()
        return lambda images: request.infer({0: images})[0]

    return threads.per_thread(make)


def _embed_captured_weights(network, function):
    """Replaces the inputs of a network that stand for captured values by constants."""
    parameters = {entry.output(0).get_any_name(): entry for entry in network.get_parameters()}
    inputs, values = function.graph.inputs, function.captured_inputs
    for tensor, value in zip(inputs[len(inputs) - len(values) :], values, strict=True):
        if entry := parameters.get(tensor.name):  # small values are constants of the graph already
            constant_node = _openvino.op.Constant(value.numpy(), shared_memory=True)
            entry.output(0).replace(constant_node.output(0))
            network.remove_parameter(entry)


def to_litert(model, precision):
    """Converts a model to LiteRT."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([freeze(model)], tf.Module())
    content = converter.convert()

    def make():
        interpreter = _litert.Interpreter(
            model_content=content, num_threads=threads.threads_per_worker()
        )
        (entry,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
        shape = None

        def predict(images):
            nonlocal shape
            if shape != images.shape:
                shape = images.shape
                interpreter.resize_tensor_input(entry["index"], shape)
                interpreter.allocate_tensors()
            interpreter.set_tensor(entry["index"], images)
            interpreter.invoke()
            return interpreter.get_tensor(logits["index"])

        return predict

    return threads.per_thread(make)


def to_onnx(model, precision):
    """Converts a model to ONNX Runtime, for the CPU."""
    function = freeze(model)
    signature = [tf.TensorSpec(tensor.shape, tensor.dtype, "images") for tensor in function.inputs]
    graph, _ = _tf2onnx.from_function(
        tf.function(function), input_signature=signature, opset=ONNX_OPSET
    )
    options = _onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads.threads_per_worker()
    session = _onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (entry,) = session.get_inputs()
    return lambda images: session.run(None, {entry.name: images})[0]


def freeze(model):
    """Returns a model as a concrete function of TensorFlow with its weights as constants."""
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    values = [keras.ops.convert_to_numpy(variable) for variable in variables]
    split = len(model.trainable_variables)

    def predict(images):
        weights = [tf.constant(value) for value in values]
        return model.stateless_call(weights[:split], weights[split:], images, training=False)[0]

    return concrete_function(model, predict)


def concrete_function(model, predict, dtype="uint8"):
    """Returns a concrete function of images, or of inputs of `dtype`, for any batch size."""
    shape = tf.TensorSpec((None, *model.input_shape[1:]), dtype, "images")
    return tf.function(predict, autograph=False).get_concrete_function(shape)
