"""Keras dtype policies that suit the device: float32 or mixed bfloat16."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

from zoo.errors import unknown_name_error
from zoo.lazy import keras, tf

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16", "float64")
# FLOPs per example below which casting costs more than bfloat16 saves.
MIN_MIXED_PRECISION_FLOPS = 1e9
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of /proc/cpuinfo


def resolve_dtype_policy(name, flops=0):
    """Returns the Keras dtype policy for `name` on this hardware.

    Args:
        name: A policy, or `auto`: `mixed_bfloat16` on a GPU of compute capability 8 or more and
            on a CPU with bfloat16 instructions, `float32` elsewhere and for small models.
        flops: FLOPs of the model for one example, or 0 if unknown.
    """
    if name == "auto":
        small = 0 < flops < MIN_MIXED_PRECISION_FLOPS
        return "mixed_bfloat16" if has_bfloat16() and not small else "float32"
    if name not in POLICIES:
        raise unknown_name_error("precision", name, ["auto", *POLICIES])
    return name


@contextmanager
def dtype_policy_scope(name, flops=0):
    """Sets the global dtype policy to that of `resolve_dtype_policy` within the block."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(resolve_dtype_policy(name, flops))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def has_bfloat16():
    """Returns whether the device of a run has bfloat16 instructions."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return details.get("compute_capability", (0, 0)) >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and not BFLOAT16_FLAGS.isdisjoint(cpuinfo.read_text().split())


def in_float32(model):
    """Returns a model of the same weights that computes in float32, or `model` if it does so."""
    config = keras.saving.serialize_keras_object(model)
    changed = _with_float32_policies(config)
    if changed == config:
        return model
    plain = keras.saving.deserialize_keras_object(changed)
    plain.set_weights(model.get_weights())
    return plain


def _with_float32_policies(config):
    """Returns a config in which dtype policies of lower precision are replaced by float32."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy" and "float16" in config["config"]["name"]:
            return {**config, "config": {**config["config"], "name": "float32"}}
        return {key: _with_float32_policies(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_with_float32_policies(value) for value in config)
    return config
