"""Data sets that do not fit into the memory that `ulimit -v` leaves are read in each epoch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tasks.data import batches, data_splits, decoding, memory_limits, sources
from tests.support.paths import ROOT

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


@pytest.mark.skipif(sys.platform != "linux", reason="ulimit -v is of Linux")
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
