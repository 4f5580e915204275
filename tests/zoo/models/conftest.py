"""A process without the model builders, which tests of all kinds of models load saved models in."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tests.support.networks import EAGER
from tests.support.paths import ROOT

READER = f"""
import pathlib, sys
import keras, numpy
import zoo.layers

for line in sys.stdin:
    folder = pathlib.Path(line.strip())
    model = keras.saving.load_model(folder / "model.keras")
    model.run_eagerly = {EAGER}
    inputs = dict(numpy.load(folder / "inputs.npz"))
    outputs = model.predict(inputs.get("single", inputs), verbose=0)
    numpy.save(folder / "outputs.npy", outputs)
    assert "zoo.models" not in sys.modules
    print("done", flush=True)
"""


@pytest.fixture(scope="session")
def reader(tmp_path_factory):
    """A function of a model and its inputs: saves it, and predicts in another process.

    The process imports Keras and `zoo.layers`, but no builder. Tests that use it are marked with
    `xdist_group("reader")`, so that only one such process is started.
    """
    log = tmp_path_factory.mktemp("reader") / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-c", READER],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):

        def predict(model, inputs):
            folder = tmp_path_factory.mktemp(model.name)
            model.save(folder / "model.keras")
            named = inputs if isinstance(inputs, dict) else {"single": inputs}
            np.savez(folder / "inputs.npz", **named)
            process.stdin.write(f"{folder}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n", log.read_text()[-2000:]
            return np.load(folder / "outputs.npy")

        yield predict
        process.stdin.close()
