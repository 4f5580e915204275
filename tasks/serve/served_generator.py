"""A generator that is served: samples on the way between two latent vectors."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from tasks.deploy import model_loader
from tasks.gan import image_grid, sampling
from tasks.inference import exported_file
from tasks.serve.batcher import Batcher
from zoo import model_files
from zoo.lazy import np

MAX_SEED = 2**32 - 1
MAX_STEPS = 64


@dataclass(frozen=True)
class SampleRequest:
    """What to generate.

    Attributes:
        first, second: Seeds of the latent vectors at both ends.
        label: Index of the class, for a class-conditional generator.
        steps: The number of images, from the first sample to the second.
    """

    first: int = 1
    second: int = 2
    label: int = 0
    steps: int = 16


def is_generator(target) -> bool:
    """Returns whether a target, as for `model_loader.find_model`, is a generator."""
    found = model_loader.find_model(target)
    if not isinstance(found, Path):
        return False
    if exported_file.is_exported(found):
        return exported_file.open_file(found).metadata.get("task") == "gan"
    return found.suffix == ".keras" and model_files.read_metadata(found).get("task") == "gan"


class ServedGenerator:
    """A generator with its queue.

    Args:
        target: A run folder, a `.keras` file or an exported file.
        name: Its name in requests.
        queue_size: The largest number of waiting requests.
        observe: A function of the number of requests that are computed at a time.

    Raises:
        UsageError: The model cannot be read.
    """

    def __init__(self, target, name, *, queue_size, observe):
        self.name = name
        path = model_loader.find_model(target)
        load = _load_exported if exported_file.is_exported(path) else _load_keras
        self.runtime, self.classes, self._size, self._run = load(path)
        self._generate([SampleRequest()], None)  # nothing is traced in a request
        self.batcher = Batcher(
            self._generate,
            batch_size=1,
            workers=1,
            max_wait=0,
            queue_size=queue_size,
            observe=observe,
        )

    def describe(self) -> dict:
        """Returns what a client may want to know about the model, as JSON types."""
        return {
            "name": self.name,
            "kind": "gan",
            "classes": list(self.classes),
            "preprocessing": "latent vectors on the arc between two",
            "runtime": self.runtime,
            "draws": True,
            "explains": "",
            "generates": True,
        }

    def check(self, request: SampleRequest) -> str:
        """Returns what is wrong with a request, or an empty string."""
        limits = {
            "first": (0, MAX_SEED),
            "second": (0, MAX_SEED),
            "label": (0, max(0, len(self.classes) - 1)),
            "steps": (2, MAX_STEPS),
        }
        for field, (low, high) in limits.items():
            if not low <= (value := getattr(request, field)) <= high:
                return f"{field} must be from {low} to {high}, not {value}"
        return ""

    def _generate(self, requests, key):
        return [self._sample(request) for request in requests]

    def _sample(self, request):
        """Returns the images of a request as data URLs."""
        ends = [
            sampling.sample_latents(1, self._size, seed)[0]
            for seed in (request.first, request.second)
        ]
        latent = sampling.slerp(*ends, request.steps).astype("float32")
        images = self._run(latent, np.full(request.steps, request.label))
        encoded = (base64.b64encode(image_grid.png(image)).decode() for image in images)
        return [f"data:image/png;base64,{text}" for text in encoded]


def _load_keras(path):
    """Returns runtime, classes, length of latent vectors, and the function to images."""
    trained = sampling.load_generator(path)

    def run(latent, labels):
        return sampling.generate(trained.generator, latent, labels)

    return "keras", trained.classes, sampling.latent_size(trained.generator), run


def _load_exported(path):
    opened = exported_file.open_file(path)

    def run(latent, labels):
        inputs = {"latent": latent, "label": np.asarray(labels, "int32")}
        return opened.run({name: inputs[name] for name in opened.shapes})["generated"]

    size = opened.shapes["latent"][-1]
    return exported_file.SUFFIXES[path.suffix].title, tuple(opened.metadata["classes"]), size, run
