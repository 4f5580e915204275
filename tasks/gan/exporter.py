"""What a GAN exports: its generator, from latent vectors to images."""

from __future__ import annotations

from tasks.gan import sampling
from tasks.inference.export_model import ExportModel
from zoo.lazy import keras, np

SHOW = 'image = outputs["generated"]\nImage.fromarray(image.squeeze()).save("generated.png")'


def export_model(model, about, path):
    """Returns the `ExportModel` of a generator.

    Args:
        model: a generator of the zoo.
        about: the metadata of its file.
        path: its path or name, for messages.
    """
    classes = list(about.get("classes", ()))
    inputs = {"latent": keras.Input((sampling.latent_size(model),), name="latent")}
    if sampling.is_conditional(model):
        inputs["label"] = keras.Input((), dtype="int32", name="label")
    inputs = inputs if len(inputs) > 1 else inputs["latent"]
    images = model(inputs)
    pixels = keras.ops.cast(keras.ops.clip(keras.ops.round(images), 0, 255), "uint8")

    def make_inputs(count):
        rows = {"latent": sampling.sample_latents(count, sampling.latent_size(model), 0)}
        labels = np.arange(count, dtype="int32") % max(1, len(classes))
        return rows | ({"label": labels} if sampling.is_conditional(model) else {})

    return ExportModel(
        keras.Model(inputs, {"generated": pixels}, name=model.name),
        {"task": "gan", "classes": classes},
        {"generated": "pixels"},
        show=SHOW,
        make_inputs=make_inputs,
    )
