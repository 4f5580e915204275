"""Kinds of TIFF files: compressions, pages, planes and values, compared with what was written."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tasks.data import image_io, tiff, value_range

GREY = (None, None, 1)
RNG = np.random.default_rng(0)
BITS = [RNG.random((24, 32)) > 0.5 for _ in range(3)]
BYTES = [RNG.integers(0, 256, (24, 32), "uint8") for _ in range(3)]
COLORS = [RNG.integers(0, 256, (24, 32, 3), "uint8") for _ in range(3)]
DEEP = RNG.integers(0, 4096, (24, 32, 3), "uint16")


def encoded(values, **options):
    """Returns the bytes of a file that tifffile writes."""
    file = io.BytesIO()
    pytest.importorskip("tifffile").imwrite(file, values, **options)
    return file.getvalue()


def write_pages(path, images, **options):
    images[0].save(path, save_all=True, append_images=images[1:], **options)


@pytest.mark.parametrize(
    ("pages", "compression"),
    [(BITS, "group4"), (BITS, "tiff_lzw"), (BYTES, "tiff_lzw"), (COLORS, "tiff_lzw"),
     (BYTES, "packbits"), (COLORS, "tiff_adobe_deflate"), (BYTES, "zstd"), (COLORS, "raw")],
)  # fmt: skip
def test_pages_of_any_compression_are_read_value_by_value(pages, compression, tmp_path):
    path, channels = tmp_path / "a.tif", 3 if pages is COLORS else 1
    write_pages(path, [Image.fromarray(page) for page in pages], compression=compression)
    for number, page in enumerate(pages, 1):
        found = image_io.read_image(f"{path}#page={number}", (None, None, channels))
        expected = page * 255 if pages is BITS else page
        np.testing.assert_array_equal(found.squeeze(), expected)


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK", "LA"])
def test_a_page_is_read_as_a_file_of_its_own(mode, tmp_path):
    images = [Image.fromarray(page).convert(mode) for page in COLORS]
    if mode in ("RGBA", "LA"):
        for image, alpha in zip(images, BYTES, strict=True):
            image.putalpha(Image.fromarray(alpha))
    write_pages(tmp_path / "pages.tif", images)
    images[1].save(tmp_path / "single.tif")
    found = image_io.read_image(f"{tmp_path}/pages.tif#page=2")
    np.testing.assert_array_equal(found, image_io.read_image(f"{tmp_path}/single.tif"))
    if mode == "P":
        stored = image_io.read_stored(f"{tmp_path}/pages.tif#page=2")
        np.testing.assert_array_equal(stored, np.asarray(images[1]))


def test_the_orientation_of_a_page_is_applied(tmp_path):
    rotated = [(274, "H", 1, 6, False)]
    (tmp_path / "a.tif").write_bytes(
        encoded(np.stack(BYTES), photometric="minisblack", extratags=rotated)
    )
    found = image_io.read_image(f"{tmp_path}/a.tif#page=2", GREY)[..., 0]
    np.testing.assert_array_equal(found, np.rot90(BYTES[1], -1))


@pytest.mark.parametrize("scale", [1, 257])
def test_white_may_be_zero(scale, tmp_path):
    values = [page.astype("uint8" if scale == 1 else "uint16") * scale for page in BYTES]
    single = encoded(values[0], photometric="miniswhite")
    np.testing.assert_array_equal(image_io.read_image(single, GREY)[..., 0], 255 - BYTES[0])
    (tmp_path / "a.tif").write_bytes(encoded(np.stack(values), photometric="miniswhite"))
    found = image_io.read_image(f"{tmp_path}/a.tif#page=3", GREY)[..., 0]
    np.testing.assert_array_equal(found, 255 - BYTES[2])


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_colors_of_12_bits_keep_their_levels(planar, compression):
    stored = DEEP if planar == "contig" else np.moveaxis(DEEP, -1, 0)
    options = {"planarconfig": planar, "photometric": "rgb", "compression": compression}
    data = encoded(stored, **options)
    assert value_range.image_range(data) == (DEEP.min(), DEEP.max(), False)
    found = image_io.read_image(data, bits=12)
    np.testing.assert_array_equal(found, np.rint(DEEP * (255 / 4095)))


def test_colors_in_separate_planes_of_16_bits_need_tifffile(monkeypatch):
    data = encoded(np.moveaxis(DEEP, -1, 0), planarconfig="separate", photometric="rgb")

    class Missing:
        def __getattr__(self, name):
            raise ModuleNotFoundError(name)

    monkeypatch.setattr(tiff, "tifffile", Missing())
    with pytest.raises(image_io.UnreadableImage, match=r"separate planes; .*keras-zoo\[tiff\]"):
        image_io.read_image(data)


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ("int8", "a TIFF of signed 8-bit integers; convert it to .npy"),
        ("int64", "a TIFF of 64-bit integers or complex numbers; convert it to .npy"),
        ("complex64", "a TIFF of 64-bit integers or complex numbers; convert it to .npy"),
    ],
)
def test_values_that_have_no_range_are_refused_by_type(dtype, message):
    with pytest.raises(image_io.UnreadableImage, match=message):
        image_io.read_image(encoded(BYTES[0].astype(dtype)))


def test_bands_compressed_by_lzw_are_read_or_name_the_extra(monkeypatch):
    pytest.importorskip("imagecodecs")
    bands = RNG.integers(0, 256, (24, 32, 5), "uint8")
    data = encoded(bands, photometric="minisblack", planarconfig="contig", compression="lzw")
    np.testing.assert_array_equal(image_io.read_image(data, (None, None, 5)), bands)

    def missing(*_, **__):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr("tifffile.TiffPageSeries.asarray", missing)
    message = r"a TIFF with LZW compression; reading it needs imagecodecs: .*keras-zoo\[tiff\]"
    with pytest.raises(image_io.UnreadableImage, match=message):
        image_io.read_image(data, (None, None, 5))
