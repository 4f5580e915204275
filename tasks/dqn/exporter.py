"""What an agent exports: the value of each action in a state."""

from __future__ import annotations

from tasks.inference.export_model import ExportModel, check_single_input
from zoo.lazy import keras, np

OBSERVATION = "observation"
SHOW = 'print("action", outputs["action_values"].argmax(), outputs["action_values"])'


def export_model(model, about, path):
    """Returns the `ExportModel` of a Q-network.

    Args:
        model: a `keras.Model` from observations to action values.
        about: the metadata of its file.
        path: its path or name, for messages.

    Raises:
        UsageError: the model has several inputs.
    """
    check_single_input(model, path)
    (entry,) = model.inputs
    observation = keras.Input(tuple(entry.shape[1:]), dtype=entry.dtype, name=OBSERVATION)
    values = keras.layers.Activation("linear", dtype="float32")(model(observation))

    def make_inputs(count):
        shape, random = (count, *entry.shape[1:]), np.random.default_rng(0)
        pixels = len(shape) == 4
        rows = random.integers(0, 256, shape) if pixels else random.standard_normal(shape)
        return {OBSERVATION: rows.astype(entry.dtype)}

    metadata = {
        key: about[key]
        for key in ("environment", "environment_options", "frames", "actions")
        if key in about
    }
    return ExportModel(
        keras.Model(observation, {"action_values": values}, name=model.name),
        {"task": "dqn", **metadata},
        {"action_values": "values"},
        show=SHOW,
        make_inputs=make_inputs,
    )
