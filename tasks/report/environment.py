"""The software and hardware of a run, for its report."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from zoo.lazy import keras, tf

PACKAGES = ("keras-zoo", "keras", "tensorflow", "numpy")


def describe():
    """Returns versions, processor, devices and dtype policy, a dict of strings."""
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "?") for gpu in gpus]
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "backend": keras.backend.backend(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "gpus": ", ".join(names) or "none",
        "precision": keras.config.dtype_policy().name,
    }


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor():
    """Returns the model of the processor, from `/proc/cpuinfo` on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
