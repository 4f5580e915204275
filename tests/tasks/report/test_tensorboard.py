"""TensorBoard event files, read record by record and by TensorBoard."""

from __future__ import annotations

import io
import math

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from tasks.report import tensorboard

HISTORY = [{"epoch": 1, "loss": 2.0, "val_loss": 3.0}, {"epoch": 2, "loss": 1.0, "val_loss": 2.5}]


def read(folder):
    """Returns `(tag, step, plugin, value)` of everything in the files of a folder."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            found += [
                (
                    value.tag,
                    event.step,
                    value.metadata.plugin_data.plugin_name,
                    tf.make_ndarray(value.tensor),
                )
                for value in event.summary.value
            ]
    return found


def picture(png):
    with PIL.Image.open(io.BytesIO(png)) as image:
        return np.asarray(image)


def test_scalars_continue_the_history(tmp_path):
    tensorboard.SummaryWriter(tmp_path, HISTORY[:1]).scalars({"epoch": 2, "loss": math.nan})
    log = tensorboard.SummaryWriter(
        tmp_path, HISTORY
    )  # as after an interruption in the third epoch
    log.scalars({"epoch": 3, "loss": 0.5})
    found = read(tmp_path)
    assert [entry[:3] for entry in found] == [
        ("loss", 1, "scalars"),
        ("val_loss", 1, "scalars"),
        ("loss", 2, "scalars"),
        ("val_loss", 2, "scalars"),
        ("loss", 3, "scalars"),
    ]
    assert [float(entry[3]) for entry in found] == [2, 3, 1, 2.5, 0.5]


@pytest.mark.parametrize("shape", [(3, 5, 7, 3), (1, 4, 4, 1), (0, 4, 6, 3)])
def test_images_are_written_exactly(shape, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    tensorboard.SummaryWriter(tmp_path).images("samples", images, 4)
    ((tag, step, plugin, value),) = read(tmp_path)
    assert (tag, step, plugin) == ("samples", 4, "images")
    assert [int(text) for text in value[:2]] == [shape[2], shape[1]]  # width comes first
    assert len(value) == 2 + shape[0]
    for png, image in zip(value[2:], images, strict=True):
        np.testing.assert_array_equal(picture(png).reshape(shape[1:]), image)


@pytest.mark.parametrize(("channels", "shown"), [(2, [0]), (4, [0, 1, 2]), (13, [0, 1, 2])])
def test_the_first_channels_of_other_images_are_written(channels, shown, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (1, 5, 6, channels)).astype(np.uint8)
    tensorboard.SummaryWriter(tmp_path).images("several bands", images, 1)
    found = picture(read(tmp_path)[0][3][2]).reshape(5, 6, -1)
    np.testing.assert_array_equal(found, images[0][..., shown])


def test_float_images_are_rounded(tmp_path):
    images = tf.constant([-3.0, 0.6, 254.4, 300.0], shape=(1, 2, 2, 1))
    tensorboard.SummaryWriter(tmp_path).images("mixed", images, 1)
    assert picture(read(tmp_path)[0][3][2]).tolist() == [[0, 1], [254, 255]]
    with pytest.raises(ValueError, match="expected"):
        tensorboard.SummaryWriter(tmp_path).images("no image", np.zeros((4, 4, 3), np.uint8), 1)


@pytest.mark.parametrize("count", [1, 2, 10, 31, pytest.param(1000, marks=pytest.mark.check)])
def test_confusion_cells_are_shaded_by_their_fraction(count, tmp_path):
    matrix = np.diag(np.arange(1, count + 1))
    matrix[0, -1] += 3  # with two classes, a quarter of the first is correct
    names = [f"a class with a long name {index}" for index in range(count)]
    tensorboard.SummaryWriter(tmp_path).confusion(matrix, names, 2)
    ((tag, step, _, value),) = read(tmp_path)
    assert (tag, step) == ("confusion", 2)
    drawn = picture(value[2]).astype(int)
    assert drawn.shape == (int(value[1]), int(value[0]), 3)
    assert max(drawn.shape) < 1100
    dark, white = np.array((6, 42, 96)), np.array((255, 255, 255))
    side = max(480 // count, 1 if count > 30 else 16)
    # Cells end 8 pixels before the lower right corner.
    spots = drawn.shape[0] - 8 - side * np.arange(count, 0, -1) + side // 2
    cells = drawn[np.ix_(spots, spots)]
    if count > 1:
        for place, share in ((0, 0.25), (-1, 0.75)):
            colour = white + math.sqrt(share) * (dark - white)
            np.testing.assert_allclose(cells[0, place], colour, atol=1)
    for index in range(1, count):
        assert cells[index, index].tolist() == dark.tolist()
        assert cells[index, 0].tolist() == white.tolist()
    if 1 < count <= 30:  # names are to the left
        left = drawn[spots[0] - side // 2 :, : spots[0] - side // 2 - 8]
        assert (left.min(axis=(1, 2)) < 100).sum() > 5 * count


def test_a_class_without_an_example_is_white():
    drawn = tensorboard._heat_map(np.array([[0, 0], [0, 5]]), ["a", "b"])
    assert drawn[-300, -300].tolist() == [255, 255, 255]


def test_tensorboard_reads_the_files(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = tensorboard.SummaryWriter(tmp_path, HISTORY)
    log.images("samples", np.full((2, 5, 7, 3), 9, np.uint8), 2)
    log.confusion(np.eye(3), ["a", "b", "c"], 2)
    seen = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert set(seen.Tags()["tensors"]) == {"loss", "val_loss", "samples", "confusion"}
    assert set(seen.PluginTagToContent("images")) == {"samples", "confusion"}
    assert set(seen.PluginTagToContent("scalars")) == {"loss", "val_loss"}
    assert [tensor.step for tensor in seen.Tensors("loss")] == [1, 2]
    assert float(tf.make_ndarray(seen.Tensors("loss")[1].tensor_proto)) == 1
    for tag, data_class in {"samples": 3, "loss": 1}.items():
        assert seen.SummaryMetadata(tag).data_class == data_class
    assert picture(tf.make_ndarray(seen.Tensors("samples")[0].tensor_proto)[3])[0, 0, 0] == 9
