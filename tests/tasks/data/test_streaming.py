"""Data sets that do not fit into the memory that `ulimit -v` leaves are read in each epoch."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tasks.data import batches, data_splits, decoding, memory_limits, sources
from tests.support import checks
from tests.support.paths import ROOT

linux = pytest.mark.skipif(sys.platform != "linux", reason="ulimit -v is of Linux")
LIMITED = """
import resource, sys
from tasks.data import decoding, memory_limits
import numpy as np
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
headroom = 256 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (used + headroom, used + headroom))
left = memory_limits.address_space_left()
assert headroom - 2**20 <= left <= headroom, left
assert memory_limits.available_bytes() <= headroom
assert decoding.free_memory() <= headroom
shape = (100, 100, 3)
assert isinstance(decoding.allocate_images(1000, shape), np.ndarray)
assert decoding.allocate_images(TIMES * headroom // 30_000, shape) is None
print("read in each epoch")
""".replace("TIMES", "10")


COMMAND = """
import os, pathlib, resource, sys
from scripts.__main__ import main
folder, out, headroom = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
words = ["train", "classification", "--model=convnet", "--image-size=224", "--epochs=1"]
words += ["--model-options={depths: [1, 1], widths: [2, 4], head: pool, hidden: []}"]
words += ["--test-split=", "--jit-compile=off", "--checkpoint-steps=50"]
words += ["--batch-size=16", "--learning-rate=0.001"]
# The modules of training, which are mapped as well, are loaded before the limit is set.
assert main([*words, f"--dataset={folder / 'few'}", f"--out={out}-{os.getpid()}"]) == 0
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
if headroom:
    resource.setrlimit(resource.RLIMIT_AS, (used + headroom, used + headroom))
sys.exit(main([*words, f"--dataset={folder / 'many'}", f"--out={out}"]))
"""
HEADROOM = 200 * 2**20


@linux
@pytest.mark.slow
def test_ten_times_the_limit_are_trained_and_resumed(tmp_path):
    side, count = 224, 10 * HEADROOM // (224 * 224 * 3)
    for number in range(count + 64):
        split = "few" if number < 64 else "many"
        path = tmp_path / split / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True, parents=True)
        coarse = np.random.default_rng(number).integers(0, 256, (7, 7, 3), "uint8")
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR).save(path)

    def command(name, headroom):
        words = [sys.executable, "-c", COMMAND, str(tmp_path), str(tmp_path / name), str(headroom)]
        return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    state = tmp_path / "limited" / "checkpoint" / "state.json"
    with command("limited", HEADROOM) as run:
        while run.poll() is None and not (state.exists() and json.loads(state.read_text())["step"]):
            time.sleep(0.1)
        run.kill()
    assert run.returncode == -signal.SIGKILL
    for name, headroom in (("limited", HEADROOM), ("whole", 0)):
        with command(name, headroom) as run:
            printed, _ = run.communicate()
        assert run.returncode == 0, printed.decode()
    checks.assert_same(checks.weights(tmp_path / "limited"), checks.weights(tmp_path / "whole"))


@linux
def test_memory_and_memory_maps_keep_within_the_limit():
    done = subprocess.run([sys.executable, "-c", LIMITED], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("read in each epoch\n", 0), done.stderr


def test_without_a_limit_the_address_space_is_unbounded(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert memory_limits.address_space_left() == np.inf


def test_streamed_batches_resume_within_an_epoch(tmp_path):
    for number in range(30):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), "uint8")
        Image.fromarray(noise).save(path)

    def streamed(**limits):
        def decode(*args):
            return decoding.decode(*args, **limits)

        slices = ("", "", "")
        data = data_splits.load(sources.load(tmp_path), slices, (16, 16, 3), "stretch", 0, decode)
        return batches.training(
            data.train, batch_size=4, seed=1, num_classes=2, augment="light", mix="mixup"
        )

    stream, held = streamed(memory=0, disk=0), streamed()
    assert isinstance(stream.examples.pixels, decoding.LazyImages)
    for epoch in range(2):
        whole = [*held.epoch(epoch).as_numpy_iterator()]
        for start in (0, 2):
            found = [*stream.epoch(epoch, start).as_numpy_iterator()]
            assert len(found) == len(whole) - start
            for (images, labels), (others, targets) in zip(found, whole[start:], strict=True):
                np.testing.assert_array_equal(images, others)
                np.testing.assert_array_equal(labels, targets)
