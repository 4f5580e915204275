"""RoIAlign: features of regions from a pyramid, by bilinear interpolation."""

from __future__ import annotations

import keras

CANONICAL_LEVEL = 4  # of a region of the canonical size (Lin et al., 2016, equation 1)


@keras.saving.register_keras_serializable("zoo")
class RoIAlign(keras.layers.Layer):
    """Averages bilinearly interpolated values in each cell of a grid over each region.

    A cell has `samples x samples` points. A pixel's value is that at its center: coordinates of
    regions are divided by the stride and reduced by 1/2, as with `aligned=True` in torchvision.
    Points more than a pixel outside the map have the value 0, others outside that of the border.

    With several maps, each region is pooled from the map of level `floor(4 + log2(size /
    canonical))`, where size is the square root of its area, or from the nearest level available.

    Interpolation and averaging are weights of rows times weights of columns, that is two matrix
    products. On a CPU this is much faster than gathering points in small maps; its cost grows with
    the map, and in maps of 160 x 160 it is twice as slow.

    Args:
        size: height and width of the grid in cells.
        strides: strides of the maps in pixels of the image, powers of two, in the order of the
            maps.
        samples: the number of points along each side of a cell.
        canonical: size in pixels of the regions that belong to stride 16.
        margin: fraction of its width and height by which a region is extended on each side.

    Call arguments:
        maps: a list of one or more `(batch, height, width, channels)`, each of a fixed size.
        regions: `(batch, n, 4)`, in pixels of the image, without a gradient.

    Returns:
        `(batch, n, size, size, channels)`, of the dtype of the maps.

    Reference:
        He et al., 2017, section 3; Lin et al., 2016, section 4.2.
    """

    def __init__(self, size, strides, samples=2, canonical=224, margin=0.0, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})
        self.size, self.strides = size, tuple(strides)
        self.samples, self.canonical, self.margin = samples, canonical, margin

    def call(self, maps, regions):
        regions = keras.ops.stop_gradient(keras.ops.cast(regions, "float32"))
        levels = self._levels(regions)
        more = (regions[..., 2:] - regions[..., :2]) * self.margin
        regions = keras.ops.concatenate([regions[..., :2] - more, regions[..., 2:] + more], -1)
        found = 0
        for level, (x, stride) in enumerate(zip(maps, self.strides, strict=True)):
            rows = self._weights(regions[..., 1] / stride, regions[..., 3] / stride, x.shape[1])
            columns = self._weights(regions[..., 0] / stride, regions[..., 2] / stride, x.shape[2])
            if len(self.strides) > 1:
                rows = rows * keras.ops.cast(levels == level, "float32")[..., None, None]
            found = found + _resample(x, rows, columns)
        return found

    def compute_output_spec(self, maps, regions):
        shape = (*regions.shape[:2], self.size, self.size, maps[0].shape[-1])
        return keras.KerasTensor(shape, maps[0].dtype)

    def get_config(self):
        own = {"size": self.size, "strides": self.strides}
        own |= {"samples": self.samples, "canonical": self.canonical, "margin": self.margin}
        return {**super().get_config(), **own}

    def _levels(self, regions):
        """Returns for each region the index of the map that it is pooled from."""
        sides = keras.ops.maximum(regions[..., 2:] - regions[..., :2], 1e-3)
        size = keras.ops.sqrt(sides[..., 0] * sides[..., 1])
        wanted = keras.ops.floor(CANONICAL_LEVEL + keras.ops.log2(size / self.canonical))
        levels = [stride.bit_length() - 1 for stride in self.strides]
        nearest = keras.ops.abs(wanted[..., None] - keras.ops.convert_to_tensor(levels, "float32"))
        # Of equally near levels the first. Keras computes `argmin` with bitwise operations, which
        # other runtimes lack.
        return keras.ops.top_k(-nearest, 1)[1][..., 0]

    def _weights(self, low, high, side):
        """Returns the weight of each of `side` pixels in each cell: `(batch, n, size, side)`.

        A pixel's weight for a point falls from 1 at the pixel to 0 at its neighbors.
        """
        ops, count = keras.ops, self.size * self.samples
        fractions = (ops.arange(count, dtype="float32") + 0.5) / count
        points = low[..., None] - 0.5 + (high - low)[..., None] * fractions
        inside = ops.cast(ops.logical_and(points >= -1, points <= side), "float32")
        points = ops.clip(points, 0, side - 1)
        pixels = ops.arange(side, dtype="float32")
        weights = ops.relu(1 - ops.abs(points[..., None] - pixels)) * inside[..., None]
        shape = (-1, ops.shape(low)[1], self.size, self.samples, side)
        return ops.mean(ops.reshape(weights, shape), axis=-2)


def _resample(x, rows, columns):
    """Multiplies maps from both sides: (b, h, w, c), (b, n, i, h), (b, n, j, w) -> (b, n, i, j, c)

    All regions share one product for the rows, which are most of the work.
    """
    ops = keras.ops
    height, width, channels = x.shape[1:]
    count, size = ops.shape(rows)[1], rows.shape[2]
    rows, columns = ops.cast(rows, x.dtype), ops.cast(columns, x.dtype)
    flat = ops.reshape(x, (-1, height, width * channels))
    x = ops.matmul(ops.reshape(rows, (-1, count * size, height)), flat)
    x = ops.reshape(x, (-1, count, size, width, channels))
    return ops.matmul(columns[:, :, None], x)
