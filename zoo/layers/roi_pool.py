"""RoI pooling: features of regions from a map, by maxima."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("zoo")
class RoIPool(keras.layers.Layer):
    """Takes the maximum of the map in each cell of a grid over each region.

    A region includes every pixel of the map that it touches; cell `i` of `size` includes those from
    `floor(i * n / size)` to `ceil((i + 1) * n / size)` of its `n` rows or columns, so that cells
    overlap unless `size` divides `n`. A region without area, or outside the map, gives 0. (Caffe
    rounds the coordinates of a region to the nearest pixel of the map instead.)

    The maxima of all windows whose sides are powers of two are computed once, in a sparse table;
    any rectangle is covered by four of them.

    Args:
        size: height and width of the grid in cells.
        stride: stride of the map in pixels of the image.

    Call arguments:
        x: `(batch, height, width, channels)`, of a fixed size.
        regions: `(batch, n, 4)`, in pixels of the image, without a gradient.

    Returns:
        `(batch, n, size, size, channels)`, of the dtype of the map.

    Reference:
        Girshick, 2015, section 2.1.
    """

    def __init__(self, size, stride, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})
        self.size, self.stride = size, stride

    def call(self, x, regions):
        ops = keras.ops
        regions = ops.stop_gradient(ops.cast(regions, "float32"))
        height, width, channels = x.shape[1:]
        table, tall, wide = _sparse_table(
            x, *(-(-side // self.size) + 1 for side in (height, width))
        )
        page = height * width
        rows = self._cells(regions[..., 1], regions[..., 3], height, wide * page, width)
        columns = self._cells(regions[..., 0], regions[..., 2], width, page, 1)
        first = ops.arange(ops.shape(x)[0]) * (tall * wide * page)  # offset of each image
        flat, found = ops.reshape(table, (-1, channels)), None
        for row in rows[:2]:
            for column in columns[:2]:
                at = first[:, None, None, None] + row[..., :, None] + column[..., None, :]
                values = ops.take(flat, at, axis=0)
                found = values if found is None else ops.maximum(found, values)
        not_empty = ops.logical_and(rows[2][..., :, None], columns[2][..., None, :])
        return ops.where(not_empty[..., None], found, ops.zeros_like(found))

    def compute_output_spec(self, x, regions):
        shape = (*regions.shape[:2], self.size, self.size, x.shape[-1])
        return keras.KerasTensor(shape, x.dtype)

    def get_config(self):
        return {**super().get_config(), "size": self.size, "stride": self.stride}

    def _cells(self, low, high, side, page, step):
        """Returns the offsets in the table of the two windows that cover each cell along an axis.

        Args:
            low, high: `(batch, n)`, bounds of the regions in pixels of the image.
            side: length of the map along this axis.
            page: entries of the table between two window sizes.
            step: entries of the table between two pixels.

        Returns:
            Two int32 `(batch, n, size)`, and whether each cell is not empty.
        """
        ops = keras.ops
        start = ops.cast(ops.clip(ops.floor(low / self.stride), 0, side), "int32")
        end = ops.cast(ops.clip(ops.ceil(high / self.stride), 0, side), "int32")
        count = ops.where(high > low, ops.maximum(end - start, 0), 0)[..., None]
        cells = ops.arange(self.size, dtype="int32")
        first = start[..., None] + (cells * count) // self.size
        last = start[..., None] - (-(cells + 1) * count) // self.size
        longest = -(-side // self.size) + 1
        powers = ops.take(ops.convert_to_tensor(_floor_log2(longest), "int32"), last - first)
        windows = ops.left_shift(ops.ones_like(powers), powers)
        not_empty = ops.broadcast_to(count > 0, ops.shape(first))
        begins = (first, ops.maximum(last - windows, 0))
        return *(powers * page + ops.minimum(b, side - 1) * step for b in begins), not_empty


def _floor_log2(longest):
    """Returns the rounded-down binary logarithm of each length up to `longest`."""
    return [max(length, 1).bit_length() - 1 for length in range(longest + 1)]


def _sparse_table(x, tallest, widest):
    """Returns the maxima of windows of 1, 2, 4 and so on rows and columns from each pixel on.

    Windows that extend beyond the border wrap around; they are not used.

    Returns:
        `(batch, heights, widths, height, width, channels)`, and the numbers of heights and widths.
    """

    def doubled(x, axis, longest):
        found = [x]
        for power in range(_floor_log2(longest)[-1]):
            found.append(keras.ops.maximum(found[-1], keras.ops.roll(found[-1], -(2**power), axis)))
        return found

    pages = [doubled(tall, 2, widest) for tall in doubled(x, 1, tallest)]
    table = keras.ops.stack([keras.ops.stack(row, axis=1) for row in pages], axis=1)
    return table, len(pages), len(pages[0])
