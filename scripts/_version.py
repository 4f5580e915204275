"""The lines of `zoo --version`: what a bug report needs, without an import of TensorFlow."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path

import zoo

DEFAULT_BACKEND = "tensorflow"  # of Keras
ABSENT = "not installed"


def lines():
    """Returns one line per component, the version of keras-zoo first."""
    backend = selected_backend()
    return [
        f"keras-zoo {zoo.__version__}",
        f"keras {_installed('keras')}",
        f"tensorflow {_installed('tensorflow')}",
        f"backend {backend} {_installed(backend)}",
        f"python {platform.python_version()}",
    ]


def selected_backend():
    """Returns the backend that Keras would use: of `KERAS_BACKEND`, else of its `keras.json`."""
    folder = Path(os.environ.get("KERAS_HOME") or Path("~", ".keras")).expanduser()
    try:
        configured = json.loads((folder / "keras.json").read_text()).get("backend")
    except (OSError, ValueError, AttributeError):  # absent or broken: Keras takes its default
        configured = None
    chosen = os.environ.get("KERAS_BACKEND") or configured
    return chosen if isinstance(chosen, str) else DEFAULT_BACKEND


def _installed(package):
    try:
        return importlib.metadata.version(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ABSENT
