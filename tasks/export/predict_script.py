"""The `predict.py` beside an exported file: ten lines that need nothing but its runtime."""

from __future__ import annotations

from tasks.inference import exported_file
from tasks.inference.export_model import ExportModel

HEAD = '''"""Predicts with {file}: python predict.py{words}

Needs: pip install {packages}
"""

import json, pathlib, sys, zipfile

import {module}
import numpy as np
from PIL import Image, ImageOps

path = str(pathlib.Path(__file__).with_name("{file}"))
'''
OPEN = {
    "onnx": """session = onnxruntime.InferenceSession(path)
metadata = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
predict = lambda inputs: zip([x.name for x in session.get_outputs()], session.run(None, inputs))
""",
    "openvino": f"""network = openvino.Core().read_model(path)
model = openvino.compile_model(network, "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
texts = network.get_rt_info(["{exported_file.METADATA_SECTION}"]).astype(dict)
metadata = {{key: json.loads(value.astype(str)) for key, value in texts.items()}}
predict = lambda inputs: ((x.any_name, value) for x, value in model(inputs).items())
""",
    "litert": f"""model = interpreter.Interpreter(path).get_signature_runner()
metadata = json.loads(zipfile.ZipFile(path).read("{exported_file.METADATA_FILE}"))
predict = lambda inputs: model(**inputs).items()
""",
    "saved_model": f"""loaded = tensorflow.saved_model.load(path)
metadata = json.loads(pathlib.Path(path, "{exported_file.SAVED_MODEL_EXTRAS}/{exported_file.METADATA_FILE}").read_text())
predict = lambda inputs: loaded.signatures["serving_default"](**{{k: tensorflow.constant(v) for k, v in inputs.items()}}).items()
""",  # noqa: E501
    "keras": """model = keras.saving.load_model(path)
metadata = json.loads(zipfile.ZipFile(path).read("zoo.json"))
predict = lambda inputs: model(inputs if len(inputs) > 1 else [*inputs.values()][0]).items()
""",
}
OPEN["web"] = OPEN["onnx"]
MODULES = {  # import and packages of pip
    "onnx": ("onnxruntime", "onnxruntime"),
    "web": ("onnxruntime", "onnxruntime"),
    "openvino": ("openvino", "openvino"),
    "litert": ("ai_edge_litert.interpreter as interpreter", "ai-edge-litert"),
    "saved_model": ("tensorflow", "tensorflow"),
    "keras": ("keras", "keras tensorflow"),
}
IMAGES = """for file in sys.argv[1:]:
    image = ImageOps.exif_transpose(Image.open(file)).convert("{mode}"){resized}
    pixels = np.asarray(image, "{dtype}").reshape(1, *image.size[::-1], {channels})
    outputs = {{name: np.asarray(value)[0] for name, value in predict({{"{name}": pixels}})}}
    {show}
"""
OTHERS = """inputs = {{{inputs}}}
outputs = {{name: np.asarray(value)[0] for name, value in predict(inputs)}}
{show}
"""
RESIZES = {
    "stretch": "image.resize(({width}, {height}), Image.Resampling.BILINEAR)",
    "crop": "ImageOps.fit(image, ({width}, {height}), Image.Resampling.BILINEAR)",
    "pad": "ImageOps.pad(image, ({width}, {height}), Image.Resampling.BILINEAR)",
}


def render(name, file, exported: ExportModel, dtypes):
    """Returns the text of the script.

    Args:
        name: the format, a key of `OPEN`.
        file: name of the exported file.
        exported: the model.
        dtypes: dtype of each input by name.
    """
    module, packages = MODULES[name]
    words = " IMAGE..." if exported.takes_images else ""
    head = HEAD.format(file=file, words=words, packages=f"numpy pillow {packages}", module=module)
    if exported.takes_images:
        ((entry, dtype),) = dtypes.items()
        height, width, channels = exported.image_shape
        how = RESIZES[exported.metadata.get("resize", "stretch")]
        resized = f"\n    image = {how.format(width=width, height=height)}" if height else ""
        mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels, "RGB")
        body = IMAGES.format(
            mode=mode,
            resized=resized,
            dtype=dtype,
            channels=channels,
            name=entry,
            show=exported.show,
        )
    else:
        rows = exported.make_inputs(1)
        inputs = (
            f'"{key}": np.random.standard_normal({value.shape}).astype("{value.dtype}")'
            if value.dtype.kind == "f"
            else f'"{key}": np.zeros({value.shape}, "{value.dtype}")'
            for key, value in rows.items()
        )
        body = OTHERS.format(inputs=", ".join(inputs), show=exported.show)
    return _without_unused_imports(head + OPEN[name] + body)


def _without_unused_imports(text):
    lines = text.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("import json"))
    used = [
        name
        for name in ("json", "pathlib", "sys", "zipfile")
        if any(f"{name}." in line for line in lines[at + 1 :])
    ]
    lines[at] = f"import {', '.join(used)}"
    pillow = [name for name in ("Image", "ImageOps") if any(f"{name}." in x for x in lines)]
    at = next(n for n, line in enumerate(lines) if line.startswith("from PIL"))
    lines[at : at + 1] = [f"from PIL import {', '.join(pillow)}"] if pillow else []
    return "\n".join(lines) + "\n"
