"""What suits the processor that a run is on: its numbers and its compiler."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import unknown
from zoo.lazy import tf

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16", "float64")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # as /proc/cpuinfo names them


def policy(name):
    """Returns the Keras dtype policy that `name` means here.

    Args:
        name: a policy, or `auto`: `mixed_bfloat16` on a GPU of compute capability 8 or more and
            on a CPU that multiplies bfloat16, `float32` elsewhere.
    """
    if name == "auto":
        return "mixed_bfloat16" if has_bfloat16() else "float32"
    if name not in POLICIES:
        raise unknown("precision", name, ["auto", *POLICIES])
    return name


def jit():
    """Returns Keras's `jit_compile` for training here: XLA for GPUs alone.

    On a CPU, where Keras would use it too, XLA compiles for long and its convolutions are slower
    than TensorFlow's own.
    """
    return "auto" if tf.config.list_physical_devices("GPU") else False


def has_bfloat16():
    """Tells whether the device that a run would use computes in bfloat16 by itself."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return details.get("compute_capability", (0, 0)) >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and not BFLOAT16_FLAGS.isdisjoint(cpuinfo.read_text().split())
