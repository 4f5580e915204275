"""Who answers: found by name, by folder or by file."""

from __future__ import annotations

from pathlib import Path

import zoo
from tasks.data import image_stats
from tasks.engine import resume
from zoo import model_files
from zoo.errors import UsageError
from zoo.lazy import LazyModule
from zoo.paths import special_file_type

# What a saved model was taught, as it tells itself: the module whose `of_file` makes the answerer.
# A file that does not tell, such as one of another maker, is taken for a classifier.
PREDICTOR_MODULES = {
    "classification": LazyModule("tasks.classification.predictor"),
    "segmentation": LazyModule("tasks.segmentation.predictor"),
    "detection": LazyModule("tasks.detection.predictor"),
    "captioning": LazyModule("tasks.captioning.predictor"),
    "style_transfer": LazyModule("tasks.style_transfer.predictor"),
}
OTHER_COMMANDS = {
    "gan": "zoo generate",
    "dqn": "zoo evaluate",
}  # commands for what answers no image
TASK_OF_KIND = {"classifier": "classification"}  # kind of a zoo name: which of these answers for it


def load_predictor(target, weights=None):
    """Opens the model that `target` means, with all that is needed to use it.

    Args:
        target: what `find` takes.
        weights: a weights file in place of the source of a zoo name.

    Returns:
        An `predictor.Predictor`.

    Raises:
        UsageError: there is no such thing, or nobody who could answer with it.
    """
    found = find_model(target)
    if not isinstance(found, Path):
        return PREDICTOR_MODULES[TASK_OF_KIND[found.kind]].from_spec(found, weights)
    if weights:
        raise UsageError(f"{found} has its own weights; --weights goes with a zoo name")
    model, about = model_files.load(found)
    task = about.get("task", "classification")
    if task in OTHER_COMMANDS:
        raise UsageError(
            f"{found} was taught {task} and answers no image; {OTHER_COMMANDS[task]} uses it"
        )
    if task not in PREDICTOR_MODULES:
        raise UsageError(
            f"{found} was taught {task}; answers are for {', '.join(PREDICTOR_MODULES)}"
        )
    answerer = PREDICTOR_MODULES[task].from_file(found, model, about)
    object.__setattr__(answerer, "bits", image_stats.stated_bits(about, found))
    return answerer


def find_model(target):
    """Returns the path of a model file or the `Spec` of a zoo name, without loading anything.

    Args:
        target: a run's folder, a `.keras` file, or a zoo name with a tag, such as
            `resnet50.imagenet`.

    Raises:
        UsageError: there is no such thing, or it has not learned anything.
    """
    path = Path(target)
    if path.is_dir():
        return resume.model_path(path)
    if path.is_file():
        return path
    if kind := special_file_type(path):
        raise UsageError(f"{target} is {kind}, not a model file")
    if path.suffix == ".keras" or len(path.parts) > 1:
        raise UsageError(f"no model file and no run's folder at {target}")
    spec = zoo.spec(str(target))
    if spec.weights is None:
        tags = zoo.names(f"{spec.architecture}.*")
        hint = f"; {' and '.join(tags)} have learned" if tags else ""
        raise UsageError(f"{target} has random weights and knows nothing yet{hint}")
    if spec.kind not in TASK_OF_KIND:
        raise UsageError(f"{target} is a {spec.kind}; train it, and name the run's folder")
    return spec
