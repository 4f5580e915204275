"""Data sets that do not fit into the memory that `ulimit -v` leaves are on disk, or streamed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tasks.data import batches, data_splits, decoding, disk_images, memory_limits, sources
from tasks.inference import fingerprints
from tests.support import checks
from tests.support.paths import ROOT

linux = pytest.mark.skipif(sys.platform != "linux", reason="ulimit -v is of Linux")
LIMITED = """
import resource, sys
from tasks.data import decoding, disk_images, memory_limits
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
count = TIMES * headroom // 30_000
on_disk = decoding.allocate_images(count, shape, disk=count * 30_000)
assert isinstance(on_disk, disk_images.DiskImages)
on_disk[count - 1] = np.full(shape, 7)
assert on_disk[count - 1].mean() == 7 and on_disk[[0, count - 1]].mean() == 3.5
assert decoding.allocate_images(count, shape, disk=count * 30_000 - 1) is None
assert memory_limits.address_space_left() >= left - 2**20
print("within the limit")
""".replace("TIMES", "10")
# Arguments: the data sets to begin with and to train, the bytes to leave, whether to use the disk.
COMMAND = """
import os, resource, sys
from scripts.__main__ import main
from tasks.data import decoding, disk_images
few, many, out, headroom, disk = sys.argv[1:]
options = "{depths: [1], widths: [2], kernel_size: 1, pool_size: 4, head: pool, hidden: []}"
words = ["train", "classification", "--model=convnet", f"--model-options={options}"]
words += ["--image-size=SIDE", "--channels=3", "--epochs=1", "--batch-size=4", "--test-split="]
words += ["--learning-rate=0.001", "--jit-compile=off", "--checkpoint-steps=20"]
if headroom != "0":  # after a run, so that what training itself takes is mapped
    assert main([*words, f"--dataset={few}", f"--out={out}-{os.getpid()}"]) == 0
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(headroom), used + int(headroom)))
    if disk == "none":
        decoding._free_disk = lambda folder: 0
    place = type(decoding.allocate_images(COUNT * 7 // 10, (SIDE, SIDE, 3)))
    assert place is (type(None) if disk == "none" else disk_images.DiskImages), place
sys.exit(main([*words, f"--dataset={many}", f"--out={out}"]))
"""
SIDE = 512
TENTH = 64 * 2**20  # of the data set
THREADS = 200 * 2**20  # bytes that threads and the gradients of the report take, as documented
COUNT = 10 * TENTH // (SIDE * SIDE * 3)


@linux
def test_memory_and_memory_maps_keep_within_the_limit():
    done = subprocess.run([sys.executable, "-c", LIMITED], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("within the limit\n", 0), done.stderr


@linux
@pytest.mark.check
def test_ten_times_the_limit_are_trained_and_resumed(tmp_path):
    for number in range(COUNT + 80):
        path = tmp_path / ("few" if number < 80 else "many") / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True, parents=True)
        coarse = np.random.default_rng(number).integers(0, 256, (7, 7, 3), "uint8")
        Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(path)
    script = COMMAND.replace("SIDE", str(SIDE)).replace("COUNT", str(COUNT))

    def command(name, headroom, disk="disk"):
        words = [*map(str, (tmp_path / "few", tmp_path / "many", tmp_path / name, headroom)), disk]
        process = [sys.executable, "-c", script, *words]
        return subprocess.Popen(process, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    state = tmp_path / "limited/checkpoint/state.json"
    with command("limited", THREADS + TENTH) as run:
        while run.poll() is None and not (state.exists() and json.loads(state.read_text())["step"]):
            time.sleep(0.05)
        run.kill()
        printed, _ = run.communicate()
    assert run.returncode == -signal.SIGKILL, printed.decode()
    assert json.loads(state.read_text())["step"] < COUNT * 0.8 // 4
    for name, headroom, disk in (("limited", THREADS + TENTH, "none"), ("whole", 0, "disk")):
        with command(name, headroom, disk) as run:
            printed, _ = run.communicate()
        assert run.returncode == 0, printed.decode()
    checks.assert_same(checks.weights(tmp_path / "limited"), checks.weights(tmp_path / "whole"))


def test_images_on_disk_are_indexed_as_an_array(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), "uint8")
    images = disk_images.DiskImages(array.shape, tmp_path)
    for index, image in enumerate(array):
        images[index] = image
    assert (images.shape, images.dtype, len(images)) == (array.shape, array.dtype, 7)
    for indices in (0, -1, [], [3], [6, 0, 0], np.arange(4).reshape(2, 2)):
        np.testing.assert_array_equal(images[indices], array[np.array(indices, "int64")])
    head = images[:5]
    assert isinstance(head, disk_images.DiskImages)
    np.testing.assert_array_equal(head[2:][np.array([-1, 0])], array[[4, 2]])
    np.testing.assert_array_equal(np.asarray(head), array[:5])
    assert fingerprints.pixels(head, 5) == fingerprints.pixels(array[:5], 5)
    for index in (5, -6):
        with pytest.raises(IndexError):
            head[index]
    assert not list(tmp_path.iterdir())


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
