"""Layers of networks for images of any size: padding, pooling with indices, resizing."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.support.networks import pixels, run
from zoo import layers

pytestmark = pytest.mark.backend


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 7), (8, 6)], ids=str)
@pytest.mark.parametrize(("multiple", "remainder", "margin"), [(4, 0, 0), (8, 4, 13), (1, 0, 2)])
def test_reflection_to_a_multiple_is_that_of_numpy(size, multiple, remainder, margin):
    x = pixels((2, *size, 3))
    y = run(layers.ReflectPadToMultiple2D(multiple, remainder, margin), x)
    added = [(remainder - side) % multiple for side in size]
    widths = [(0, 0), *((margin, margin + side) for side in added), (0, 0)]
    np.testing.assert_array_equal(y, np.pad(x, widths, mode="reflect"))
    shape = layers.ReflectPadToMultiple2D(multiple, remainder, margin).compute_output_shape(x.shape)
    assert shape == y.shape


def slow_pooling(x):
    batch, height, width, depth = x.shape
    maxima = np.zeros((batch, -(-height // 2), -(-width // 2), depth), x.dtype)
    indices = np.zeros(maxima.shape, int)
    for n, i, j, c in np.ndindex(maxima.shape):
        best = -np.inf
        for row in range(2):
            for column in range(2):
                y, z = 2 * i + row, 2 * j + column
                if y < height and z < width and x[n, y, z, c] > best:
                    best = maxima[n, i, j, c] = x[n, y, z, c]
                    indices[n, i, j, c] = 2 * row + column
    return maxima, indices


def slow_unpooling(x, indices):
    batch, height, width, depth = x.shape
    y = np.zeros((batch, 2 * height, 2 * width, depth), x.dtype)
    for n, i, j, c in np.ndindex(x.shape):
        row, column = divmod(indices[n, i, j, c], 2)
        y[n, 2 * i + row, 2 * j + column, c] = x[n, i, j, c]
    return y


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (8, 6), (6, 3)], ids=str)
@pytest.mark.parametrize("fixed", [True, False])
def test_pooling_returns_indices_and_unpooling_puts_values_back(size, fixed):
    if not fixed and keras.config.backend() == "torch":
        pytest.skip("the backend needs fixed sizes")
    x = np.random.default_rng(0).integers(-4, 5, (2, *size, 3)).astype("float32")  # with ties
    image = keras.Input((*size, 3) if fixed else (None, None, 3))
    maxima, indices = layers.ArgmaxPooling2D()(image)
    back = layers.MaxUnpooling2D()([maxima, indices])
    model = keras.Model(image, [maxima, indices, back])
    found = [keras.ops.convert_to_numpy(y) for y in model(x)]
    expected = slow_pooling(x)
    for array, slow in zip(found, [*expected, slow_unpooling(*expected)], strict=True):
        np.testing.assert_array_equal(array, slow)
    if fixed:
        assert [y.shape[1:] for y in model.outputs] == [y.shape[1:] for y in found]
    assert [y.dtype for y in model.outputs] == [str(y.dtype) for y in found]


@pytest.mark.parametrize(("size", "larger"), [((4, 5), (9, 7)), ((1, 1), (3, 2)), ((6, 6), (4, 6))])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_maps_are_resized_to_the_size_of_other_maps(size, larger, dtype):
    x, other = (keras.ops.cast(pixels((2, *s, 3)), dtype) for s in (size, larger))
    expected = keras.ops.image.resize(x, larger, "bilinear")
    found = layers.ResizeLike(dtype=dtype)([x, other])
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(y) for y in (found, expected)))


@pytest.mark.parametrize("stride", [2, 3, 4, 8])
def test_bilinear_kernels_upsample_as_interpolation_does(stride):
    x = np.random.default_rng(0).normal(size=(1, 6, 5, 3)).astype("float32")
    kernel = {
        "kernel_size": 2 * stride - stride % 2,
        "kernel_initializer": layers.BilinearInitializer(),
    }
    learned = keras.layers.Conv2DTranspose(3, strides=stride, padding="same", **kernel)
    fixed = keras.layers.UpSampling2D(stride, interpolation="bilinear")
    inside = (slice(None), slice(stride, -stride), slice(stride, -stride))
    np.testing.assert_allclose(run(learned, x)[inside], run(fixed, x)[inside], atol=1e-5)
