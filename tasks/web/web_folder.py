"""The folder of a page that runs a model in the browser, from a web server or from a disk."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tasks.inference.predictor import describe_channels
from tasks.report import palette
from tasks.web import onnxruntime_web, page
from zoo.errors import UsageError

TASKS = ("classification", "segmentation", "detection", "captioning", "gan")
PAGE, RUNTIME, ABOUT = "index.html", "onnxruntime-web", "about.js"


def check(exported) -> None:
    """Raises `UsageError` if the page cannot run an `inference.export_model.ExportModel`."""
    name = exported.metadata["task"]
    if name not in TASKS:
        raise UsageError(
            f"a web page shows {', '.join(TASKS[:-1])} or {TASKS[-1]}, not {name}; "
            "export it with --format onnx"
        )
    if exported.takes_images and exported.image_shape[-1] not in (1, 3):
        raise UsageError(
            f"browsers read gray and RGB images, not {exported.image_shape[-1]} channels; export "
            "it with --format onnx"
        )


def write(path, inputs, metadata, runtime) -> None:
    """Writes the page of an ONNX file, and the scripts that it loads, into the file's folder.

    A page that was opened from a disk must not read files; so each file that it needs is also the
    text of a script, in base64.

    Args:
        path: The path of the ONNX file.
        inputs: dtype and shape of each input by name, `[dtype, None, ...]`.
        metadata: The metadata of the exported model.
        runtime: The `onnxruntime_web.OnnxRuntimeWeb`.
    """
    path = Path(path)
    folder = path.parent / RUNTIME
    folder.mkdir()
    script = runtime.files[onnxruntime_web.SCRIPT]
    (folder / onnxruntime_web.SCRIPT).write_bytes(script)
    about = {
        "name": metadata.get("model", path.stem),
        "preprocessing": _preprocessing(inputs, metadata),
        "inputs": inputs,
        "metadata": metadata,
        "colors": palette.class_colours(metadata.get("classes", ())).tolist(),
        "background": [
            label
            for label, name in enumerate(metadata.get("classes", ()))
            if name in palette.BACKGROUND_NAMES
        ],
    }
    text = f"const zooFiles = {{}};\nconst zooModel = {json.dumps(about)};\n"
    (path.parent / ABOUT).write_text(text, encoding="utf-8")
    scripts = [ABOUT, f"{RUNTIME}/{onnxruntime_web.SCRIPT}"]
    for name in onnxruntime_web.EMBEDDED:
        scripts.append(f"{RUNTIME}/{name}.js")
        _write_embedded(folder / f"{name}.js", name, runtime.files[name])
    scripts.append(f"{path.name}.js")
    _write_embedded(path.with_name(f"{path.name}.js"), path.name, path.read_bytes())
    (path.parent / PAGE).write_text(page.standalone(scripts), encoding="utf-8")


def _write_embedded(path, name, content):
    path.write_text(f'zooFiles["{name}"] = "{base64.b64encode(content).decode()}";\n')


def _preprocessing(inputs, metadata):
    shape = next(iter(inputs.values()))[1:]
    if metadata["task"] == "gan":
        return "latent vectors on the arc between two"
    _, height, width, channels = shape
    if not (height and width):
        height, width = metadata["size"]
    size = "at its own size" if metadata.get("own_size") else f"to {height} x {width}"
    return f"{metadata['resize']} {size}, {describe_channels(channels)}"
