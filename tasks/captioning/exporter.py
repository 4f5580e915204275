"""What a captioner exports: the token ids of the best caption, found by beam search."""

from __future__ import annotations

from tasks.captioning import predictor
from tasks.inference.export_model import IMAGE_INPUT, ExportModel
from zoo.lazy import LazyModule, keras

beam_search = LazyModule("tasks.captioning.beam_search")

VOCABULARY = "vocabulary.txt"
SHOW = (
    'words = [metadata["vocabulary"][token] for token in outputs["tokens"]]\n'
    '    print(*(word for word in words if not word.startswith("<")))'
)


def export_model(model, about, path):
    """Returns the `ExportModel` of a captioner.

    Args:
        model: a captioner.
        about: the metadata of its file.
        path: its path or name, for messages.

    Raises:
        UsageError: the model is not a captioner.
    """
    found = predictor.from_file(path, model, about)
    generator = beam_search.caption_generator(
        model, width=found.width, length=found.length, penalty=found.penalty
    )
    image = keras.Input(found.image_shape, name=IMAGE_INPUT)
    captions = generator(image)
    outputs = {
        "tokens": captions["words"][:, 0],
        "log_probability": captions["log_probability"][:, 0],
    }
    words = list(found.words.words)
    metadata = {
        "task": "captioning",
        "vocabulary": words,
        "length": found.length,
        "resize": found.resize,
        "beam_width": found.width,
        "length_penalty": found.penalty,
    }
    return ExportModel(
        keras.Model(image, outputs, name=model.name),
        metadata,
        {"tokens": "rows", "log_probability": "values"},
        files={VOCABULARY: "\n".join(words) + "\n"},
        show=SHOW,
        unsupported={
            "keras": "a .keras file cannot hold beam search; the model.keras of the run holds the "
            "captioner itself"
        },
    )
