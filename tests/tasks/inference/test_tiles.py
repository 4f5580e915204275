"""Tiles of large images: they cover every pixel once and overlap."""

import pytest

from tasks.inference import tiles


@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 333, 1000])
@pytest.mark.parametrize(("tile", "grid"), [(64, 32), (96, 32), (64, 1), (100, 1)])
def test_spans_keep_every_pixel_once_and_have_context_around_it(length, tile, grid):
    spans = tiles.spans(length, tile, grid)
    kept = [pixel for span in spans for pixel in range(span.first, span.last)]
    assert kept == list(range(length))
    for span in spans:
        assert span.start % grid == 0
        assert span.end - span.start <= tile
        assert span.start <= span.first < span.last <= span.end
        assert span.start == 0 or span.first - span.start >= tile // 16
        assert span.end == length or span.end - span.last >= tile // 16
