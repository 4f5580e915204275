"""Reading of all kinds of image files: decoding, scaling, orientation, and errors."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, TiffImagePlugin

from tasks.data import image_io, pillow_images, tiff
from tests.support.paths import ROOT
from zoo.errors import UsageError

NATIVE_GREY = (None, None, 1)


def scene(width=40, height=30):
    """Returns a smooth image that differs from all its rotations and flips."""
    y, x = np.mgrid[:height, :width]
    bands = [x * 255 / width, y * 255 / height, (x + 2 * y) * 255 / (width + 2 * height)]
    picture = Image.fromarray(np.stack(bands, -1).astype("uint8"))
    ImageDraw.Draw(picture).rectangle((2, 2, width // 3, height // 4), fill=(250, 20, 30))
    return picture


def encoded(picture, kind="PNG", **options):
    """Returns an image encoded as a file, as bytes."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def npy(array, **options):
    """Returns an array as the bytes of a `.npy` file."""
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def error(one, other):
    """Returns the largest difference between two images, in levels."""
    return np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).max()


def mean_error(one, other):
    """Returns the mean difference between two images, in levels."""
    return np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).mean()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_files_are_read_exactly(kind, tmp_path):
    path = tmp_path / f"a.{kind.lower()}"
    scene().save(path)
    for item in (path, str(path), path.read_bytes(), np.asarray(scene())):
        image = image_io.read_image(item)
        assert image.dtype == np.uint8
        assert np.array_equal(image, np.asarray(scene()))


def test_lossless_webp_is_read_exactly():
    assert np.array_equal(image_io.read_image(encoded(scene(), "WEBP", lossless=True)), scene())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_lossy_files_are_read_approximately(kind):
    assert mean_error(image_io.read_image(encoded(scene(), kind, quality=95)), scene()) < 6


def test_the_result_is_writable_and_a_copy():
    pixels = np.zeros((4, 4, 3), "uint8")
    image_io.read_image(pixels)[:] = 9
    assert pixels.max() == 0


@pytest.mark.parametrize("form", [(30, 40), (30, 40, 1)])
def test_a_grey_array_becomes_rgb_by_repeating(form):
    grey = np.asarray(scene().convert("L")).reshape(form)
    assert np.array_equal(image_io.read_image(grey), np.repeat(grey.reshape(30, 40, 1), 3, -1))
    assert np.array_equal(image_io.read_image(grey, NATIVE_GREY), grey.reshape(30, 40, 1))


def test_colour_becomes_grey_by_itu_luma():
    red, green, blue = np.moveaxis(np.asarray(scene()).astype(float), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    assert np.abs(image_io.read_image(encoded(scene()), NATIVE_GREY)[..., 0] - luma).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_binary_grey_and_palette_images(mode):
    picture = scene().convert(mode)
    assert np.array_equal(image_io.read_image(encoded(picture)), picture.convert("RGB"))
    assert np.array_equal(
        image_io.read_image(encoded(picture), NATIVE_GREY)[..., 0], picture.convert("L")
    )


def test_binary_images_are_interpolated_only_if_resized():
    board = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype("uint8")).convert("1")
    assert set(np.unique(image_io.read_image(encoded(board)))) == {0, 255}
    assert error(image_io.read_image(encoded(board), (8, 8, 3))[1:-1, 1:-1], 127) <= 4


def test_sixteen_bits_are_scaled():
    ramp = np.linspace(0, 65535, 4096).round().astype("uint16").reshape(64, 64)
    image = image_io.read_image(encoded(Image.fromarray(ramp)))
    assert np.abs(image - ramp[..., None] / 257).max() <= 0.5
    assert np.array_equal(image[..., 0], image[..., 2])


def test_sixteen_bit_colour_is_scaled():
    deep = np.asarray(scene()).astype("uint16") * 257
    assert np.array_equal(image_io.read_image(deep_png(deep)), scene())


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_blended_with_white(kind):
    alpha = np.zeros((30, 40), "uint8")
    alpha[:, 10:20], alpha[:, 20:] = 128, 255
    picture = scene()
    picture.putalpha(Image.fromarray(alpha))
    image = image_io.read_image(encoded(picture, kind, lossless=True, exact=True))
    share = alpha[..., None] / 255
    assert error(image, share * np.asarray(scene()) + (1 - share) * 255) <= 1


def test_transparent_grey_and_palette_images_are_blended_with_white():
    grey = Image.merge("LA", [Image.new("L", (4, 4), 40), Image.new("L", (4, 4), 0)])
    assert image_io.read_image(encoded(grey)).min() == 255
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 10, 10])
    palette.putpixel((0, 0), 0)
    for transparency in (0, b"\0\xff"):  # one entry, or an alpha for each
        image = image_io.read_image(encoded(palette, transparency=transparency))
        assert image[0, 0].tolist() == [255, 255, 255]
        assert image[1, 1].tolist() == [200, 10, 10]
    keyed = encoded(Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3))
    assert image_io.read_image(keyed).min() == 255


def test_cmyk_jpeg_is_near_the_original():
    data = encoded(scene().convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data  # whose CMYK is inverted
    assert mean_error(image_io.read_image(data), scene()) < 5
    assert mean_error(image_io.read_image(data, NATIVE_GREY)[..., 0], scene().convert("L")) < 5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(kind, orientation):
    upright = np.asarray(scene())
    stored = {  # how a camera in this orientation stores the image
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif, "quality": 95} | ({"lossless": True} if kind == "WEBP" else {})
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, **options)
    close = 4 if kind == "JPEG" else 0
    assert mean_error(image_io.read_image(data), upright) <= close
    for resize in pillow_images.RESIZE_MODES:
        turned = image_io.read_image(data, (20, 33, 3), resize)
        assert mean_error(turned, image_io.read_image(upright, (20, 33, 3), resize)) <= close + 0.5


def test_damaged_exif_is_ignored():
    data = encoded(
        scene(), "JPEG", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01broken"
    )
    assert mean_error(image_io.read_image(data), scene()) < 4


def test_the_first_frame_of_an_animation_is_read():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert error(image_io.read_image(data), frames[0]) <= 4, kind


def test_the_first_image_of_a_multi_picture_jpeg_is_read():
    data = encoded(scene(), "MPO", save_all=True, append_images=[Image.new("RGB", (40, 30))])
    assert mean_error(image_io.read_image(data), scene()) < 8
    assert image_io.read_image(data, (8, 8, 3)).shape == (8, 8, 3)


def test_none_keeps_the_length_of_a_side():
    assert image_io.read_image(np.asarray(scene()), (None, 10, 3)).shape == (30, 10, 3)
    assert image_io.read_image(np.asarray(scene()), (10, None, 1)).shape == (10, 40, 1)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5), (64, 64), (333, 127)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_shape_is_exact(kind, size, resize):
    data = encoded(Image.new("RGB", size, (90, 120, 30)), kind, quality=95)
    for shape in ((16, 16, 3), (5, 31, 1), (64, 63, 3)):
        image = image_io.read_image(data, shape, resize)
        assert image.shape == shape
        if resize != "pad":
            assert np.ptp(image.reshape(-1, shape[-1]), 0).max() <= 1


def test_stretch_is_an_antialiased_bilinear_resize():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), "uint8")
    weight = np.maximum(0, 1 - np.abs((np.arange(64) + 0.5) / 8 - np.arange(8)[:, None] - 0.5))
    weight /= weight.sum(1, keepdims=True)  # a triangle two output pixels wide
    image = image_io.read_image(noise, (8, 8, 1))[..., 0]
    assert error(image, (weight @ noise @ weight.T).round()) <= 1


def test_crop_keeps_the_centre():
    wide = np.zeros((20, 60, 3), "uint8")
    wide[:, 20:40] = 255  # the center square
    halved = image_io.read_image(wide, (10, 30, 3))
    assert np.array_equal(image_io.read_image(wide, (10, 10, 3), "crop"), halved[:, 10:20])
    tall = wide.transpose(1, 0, 2)
    assert np.array_equal(
        image_io.read_image(tall, (10, 10, 3), "crop"),
        image_io.read_image(tall, (30, 10, 3))[10:20],
    )
    assert np.array_equal(image_io.read_image(wide, (20, 20, 3), "crop"), wide[:, 20:40])
    portrait = image_io.read_image(wide, (20, 10, 3), "crop")  # half of the center
    assert np.array_equal(portrait, wide[:, 25:35])


def test_pad_keeps_the_aspect_ratio_and_the_whole_image():
    wide = np.full((20, 60, 3), 200, "uint8")
    image = image_io.read_image(wide, (30, 30, 3), "pad")
    assert image[10:20].min() == image.max() == 200
    assert image[:10].max() == image[20:].max() == 0
    tall = image_io.read_image(wide.transpose(1, 0, 2), (30, 31, 3), "pad")
    assert (tall[..., 0] > 0).all(0).tolist() == [False] * 10 + [True] * 10 + [False] * 11
    same = np.asarray(scene(60, 20))
    assert np.array_equal(image_io.read_image(same, (60, 60, 3), "pad")[20:40], same)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_a_large_jpeg_decoded_at_lower_scale_is_the_same(resize):
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), "uint8")
    large = Image.fromarray(noise).resize((1201, 899), Image.Resampling.BICUBIC)
    data = encoded(large, "JPEG", quality=95)
    decoded = np.asarray(Image.open(io.BytesIO(data)))
    for shape in ((64, 64, 3), (40, 90, 3), (300, 300, 3), (500, 700, 3)):
        image = image_io.read_image(data, shape, resize)
        exact = image_io.read_image(decoded, shape, resize)
        assert mean_error(image, exact) < 0.7
        assert error(image, exact) <= 8


def test_a_jpeg_is_never_decoded_smaller_than_the_result(monkeypatch):
    sizes = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, *a, **k: (sizes.append(self.size), resize(self, *a))[1]
    )
    data = encoded(Image.new("RGB", (1024, 768)), "JPEG")
    for side, decoded in ((32, 128), (64, 128), (96, 256), (128, 256), (300, 512)):
        image_io.read_image(data, (side, side, 3))
        assert min(sizes.pop()) >= min(decoded, 768) * 3 // 4
        assert min(image_io.read_image(data, (side, side, 3)).shape[:2]) == side
    image_io.read_image(data, (80, 80, 3))
    assert sizes[-1] == (256, 192)  # a quarter: the eighth has 96 rows, too near to 80


def test_unreadable_files_are_named_with_the_reason(tmp_path):
    good = encoded(scene(), "JPEG")
    files = {
        "truncated": good[: len(good) // 2],
        "empty file": b"",
        "not an image by its first bytes": b"Dear reader, this is text. It is no image at all.",
        "damaged at its beginning": good[:4],
    }
    for number, (reason, data) in enumerate(files.items()):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(data)
        with pytest.raises(image_io.UnreadableImage) as caught:
            image_io.read_image(path, (8, 8, 3))
        assert caught.value.reason == reason
        assert str(caught.value) == f"{path}: {reason}"
        assert isinstance(caught.value, UsageError)
    with pytest.raises(image_io.UnreadableImage, match=r"missing\.jpg: no such file"):
        image_io.read_image(tmp_path / "missing.jpg")
    with pytest.raises(image_io.UnreadableImage, match="is a directory"):
        image_io.read_image(tmp_path)
    with pytest.raises(image_io.UnreadableImage, match="image of 0 bytes: empty file"):
        image_io.read_image(b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "16-bit PNG", "WEBP", "BMP", "GIF", "TIFF", "NPY"])
def test_damaged_files_are_unreadable_or_read_but_never_crash(kind):
    if kind == "16-bit PNG":
        data = deep_png(np.asarray(scene()).astype("uint16") * 257)
    else:
        data = npy(np.asarray(scene())) if kind == "NPY" else encoded(scene(), kind)
    for length in range(0, len(data) - 40, max(1, len(data) // 50)):
        with pytest.raises(image_io.UnreadableImage):
            image_io.read_image(data[:length], (8, 8, 3))
    rng = np.random.default_rng(0)
    for _ in range(100):
        damaged = np.frombuffer(data, "uint8").copy()
        damaged[rng.integers(0, len(data), 4)] = rng.integers(0, 256, 4)
        with contextlib.suppress(image_io.UnreadableImage):
            assert image_io.read_image(damaged.tobytes(), (8, 8, 3)).shape == (8, 8, 3)


def test_decompression_bombs_are_rejected_and_large_photos_are_not(monkeypatch):
    data = encoded(scene())
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", 1000
    )  # Pillow warns above this number, and fails above twice of it
    assert image_io.read_image(data, (8, 8, 3)).shape == (8, 8, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(image_io.UnreadableImage, match="decompression bomb"):
        image_io.read_image(data)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 3), "int64"),
        np.zeros((4, 4, 4), "uint8"),
        np.zeros((4,), "uint8"),
        np.zeros((1, 4, 4, 3), "uint8"),
        np.zeros((0, 4, 3), "uint8"),
    ],
)
def test_other_arrays_are_rejected(pixels):
    with pytest.raises(image_io.UnreadableImage, match="array of shape"):
        image_io.read_image(pixels)


# Other channels, and files of arrays


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 13])
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_channels_of_an_array_are_resized_independently(channels, resize):
    stack = np.random.default_rng(0).integers(0, 256, (31, 47, channels), "uint8")
    whole = image_io.read_image(npy(stack), (12, 20, channels), resize)
    assert whole.shape == (12, 20, channels)
    for band in range(channels):
        alone = image_io.read_image(stack[..., band], (12, 20, 1), resize)
        assert np.array_equal(whole[..., band : band + 1], alone)
    assert np.array_equal(image_io.read_image(stack, (12, 20, channels), resize), whole)
    assert np.array_equal(image_io.read_image(stack, (None, None, channels)), stack)


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_sixteen_bits_of_an_array_are_scaled(dtype, tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (9, 7, 5), "uint16")
    np.save(tmp_path / "a.npy", deep.astype(dtype))
    read = image_io.read_image(tmp_path / "a.npy", (None, None, 5))
    assert np.abs(read - deep / 257).max() <= 0.5
    assert image_io.read_image(np.full((2, 2), 65535, dtype), (2, 2, 1)).min() == 255


def test_fortran_order_and_grey_arrays():
    image = np.asarray(scene())
    assert np.array_equal(image_io.read_image(npy(np.asfortranarray(image))), image)
    grey = np.asarray(scene().convert("L"))
    assert np.array_equal(image_io.read_image(npy(grey)), np.repeat(grey[..., None], 3, -1))
    assert np.array_equal(image_io.read_image(npy(image), NATIVE_GREY)[..., 0], grey)


@pytest.mark.parametrize(
    ("item", "wanted", "reason"),
    [
        (npy(np.zeros((4, 4, 5), "uint8")), 3, "has 5 channels, expected 3"),
        (npy(np.zeros((4, 4), "uint8")), 5, "has 1 channel, expected 5"),
        (np.zeros((4, 4, 3), "uint8"), 4, "has 3 channels, expected 4"),
        (np.zeros((4, 4, 4), "uint8"), 3, "has 4 channels, expected 3"),
        (encoded(scene()), 5, "has 3 channels, expected 5"),
        (npy(np.zeros((4, 4, 3), int)), 3, "a int64 array of shape (4, 4, 3); expected (height"),
        (npy(np.zeros((4, 4, 3), "uint8"))[:-1], 3, "truncated"),
        (npy(np.zeros((4, 0, 3), "uint8")), 3, "no pixels"),
    ],
)
def test_arrays_with_other_channels_are_rejected_with_the_reason(item, wanted, reason):
    with pytest.raises(image_io.UnreadableImage) as caught:
        image_io.read_image(item, (8, 8, wanted))
    assert caught.value.reason.startswith(reason)


def test_an_npy_file_runs_no_code_and_cannot_exhaust_memory():
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("run",)

    with pytest.raises(image_io.UnreadableImage):
        image_io.read_image(npy(np.array([[Trap()]], object), allow_pickle=True))
    with contextlib.closing(io.BytesIO()) as file:
        shape = (10**6, 10**6, 3)
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        with pytest.raises(image_io.UnreadableImage, match="truncated"):
            image_io.read_image(file.getvalue())


def test_transparency_can_be_a_channel():
    alpha = np.tile(np.arange(40, dtype="uint8") * 6, (30, 1))
    picture = scene()
    picture.putalpha(Image.fromarray(alpha))
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(image_io.read_image(encoded(picture, kind), (None, None, 4)), picture)
    two = image_io.read_image(encoded(picture.convert("LA")), (None, None, 2))
    assert np.array_equal(two, picture.convert("LA"))
    opaque = image_io.read_image(encoded(scene()), (None, None, 4))
    assert np.array_equal(opaque[..., :3], scene())
    assert opaque[..., 3].min() == 255
    ink = image_io.read_image(encoded(scene().convert("CMYK"), "TIFF"), (None, None, 4))
    assert ink[..., 3].min() == 255


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_kinds_of_tiff(mode, compression):
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(scene().convert("L")).astype("uint16") * 257)
        expected = scene().convert("L").convert("RGB")
    else:
        picture = scene().convert(mode)
        expected = picture.convert("RGB")
    assert np.array_equal(
        image_io.read_image(encoded(picture, "TIFF", compression=compression)), expected
    )


@pytest.mark.parametrize("order", "<>")
def test_sixteen_bits_of_a_tiff_are_scaled_in_either_order(order):
    deep = (np.arange(64) * 1000).reshape(8, 8).astype(order + "u2")
    tags = [(256, 8), (257, 8), (258, 16), (259, 1), (262, 1), (273, 122), (277, 1), (278, 8)]
    entries = b"".join(
        struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in [*tags, (279, 128)]
    )
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, 9)
    image = image_io.read_image(start + entries + bytes(4) + deep.tobytes(), NATIVE_GREY)[..., 0]
    assert np.abs(image - deep / 257).max() <= 0.5


def deep_png(values):
    """Returns a PNG file of 16-bit colors `(height, width, 3)`, as bytes."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_used_bits_are_scaled_to_8(bits):
    top = 2**bits - 1
    ramp = np.linspace(0, top, 4096).round().astype("uint16").reshape(64, 64)
    expected = ramp[..., None] * (255 / top)
    files = {
        "png": encoded(Image.fromarray(ramp)),
        "tiff": encoded(Image.fromarray(ramp), "TIFF"),
        "npy": npy(ramp),
        "array": ramp,
        "colour": deep_png(np.repeat(ramp[..., None], 3, -1)),
    }
    for kind, data in files.items():
        image = image_io.read_image(data, bits=bits)
        assert np.abs(image - expected).max() <= 0.5 + 1e-9, kind
        assert len(np.unique(image)) == 256, kind


def test_values_beyond_the_bit_depth_are_rejected():
    with pytest.raises(image_io.UnreadableImage, match="0 to 5000, beyond the 12 bits"):
        image_io.read_image(np.array([[0, 5000]], "uint16"), bits=12)
    negative = encoded(Image.fromarray(np.array([[-3, 70000]], "int32")), "TIFF")
    with pytest.raises(image_io.UnreadableImage, match="-3 to 70000; expected 0 to 65535"):
        image_io.read_image(negative)


def tiff_of_bands(array, photometric=1, extra=()):
    """Returns an uncompressed TIFF file of an array `(height, width, bands)`, as bytes."""
    height, width, bands = array.shape
    bits = 8 * array.dtype.itemsize
    depths = struct.pack(f"<{bands}H", *[bits] * bands)
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, bands, 8),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 200),
        (277, 3, 1, bands),
        (278, 3, 1, height),
        (279, 4, 1, array.nbytes),
        *((338, 3, 1, value) for value in extra),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    start = b"II*\0" + struct.pack("<I", 50) + depths.ljust(42, b"\0")
    body = start + struct.pack("<H", len(tags)) + entries + bytes(4)
    return body.ljust(200, b"\0") + array.tobytes()


@pytest.fixture
def no_tifffile(monkeypatch):
    """Makes tifffile missing."""

    class Missing:
        def __getattr__(self, name):
            raise ModuleNotFoundError("tifffile")

    monkeypatch.setattr(tiff, "tifffile", Missing())


def test_a_tiff_of_many_bands_is_rejected_without_tifffile(no_tifffile):
    data = tiff_of_bands(np.zeros((4, 5, 8), "<u2"))
    for read in (image_io.read_image, image_io.image_size, image_io.read_stored):
        with pytest.raises(
            image_io.UnreadableImage, match="a TIFF of 8 bands of 16 bits"
        ) as caught:
            read(data)
        assert "numpy.save('x.npy', tifffile.imread('x.tif'))" in caught.value.reason
        assert "keras-zoo[tiff]" in caught.value.reason


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("options", [{}, {"bigtiff": True, "tile": (16, 16)}])
def test_a_tiff_of_many_bands_is_read_in_order(planar, options):
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(0).integers(0, 4096, (20, 24, 6), "uint16")
    stored = values if planar == "contig" else np.moveaxis(values, -1, 0)
    file = io.BytesIO()
    tifffile.imwrite(file, stored, photometric="minisblack", planarconfig=planar, **options)
    data = file.getvalue()
    assert image_io.num_channels(data) == 6
    assert image_io.image_size(data) == (20, 24)
    expected = np.rint(values * (255 / 4095))
    found = image_io.read_image(data, (None, None, 6), bits=12)
    np.testing.assert_array_equal(found, expected)


def false_tiff_of_bands():
    """Returns a TIFF file of 520 bytes whose header claims 40 GB."""
    data = tiff_of_bands(np.zeros((4, 5, 8), "<u2"))
    for tag, size in ((256, 5), (257, 4)):
        huge = struct.pack("<HHII", tag, 4, 1, 50_000)
        data = data.replace(struct.pack("<HHII", tag, 3, 1, size), huge)
    return data


def test_a_tiff_that_claims_more_bands_than_it_stores_is_rejected():
    pytest.importorskip("tifffile")
    reason = r"claims 40,000,000,000 bytes and stores 520$"
    with pytest.raises(image_io.UnreadableImage, match=reason):
        image_io.read_image(false_tiff_of_bands(), (8, 8, 8))


@pytest.mark.check
def test_the_log_of_tifffile_is_not_printed(tmp_path):
    pytest.importorskip("tifffile")
    (tmp_path / "a.tif").write_bytes(false_tiff_of_bands())
    code = (
        "import sys; from tasks.data import image_io\n"
        "try: image_io.read_image(sys.argv[1], (8, 8, 8))\n"
        "except image_io.UnreadableImage as error: print(error.reason)"
    )
    words = [sys.executable, "-c", code, tmp_path / "a.tif"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stderr, done.stdout[:18]) == ("", "a TIFF that claims")


@pytest.mark.parametrize("channels", [3, 4])
def test_a_fourth_band_that_is_not_alpha_is_not_dropped(channels, no_tifffile):
    bands = np.asarray(scene().convert("RGBA"))
    assert image_io.read_image(tiff_of_bands(bands, 2, [2]), (None, None, 4)).shape == (30, 40, 4)
    infrared = tiff_of_bands(bands, 2, [0])
    with pytest.raises(image_io.UnreadableImage, match="a TIFF of 4 bands of 8 bits"):
        image_io.read_image(infrared, (None, None, channels))


def test_a_tiff_of_pages_is_rejected_but_thumbnails_are_ignored():
    page = Image.new("L", (8, 8), 9)
    stack = encoded(page, "TIFF", save_all=True, append_images=[page, page])
    with pytest.raises(image_io.UnreadableImage, match="a TIFF of 3 pages") as caught:
        image_io.read_image(stack, NATIVE_GREY)
    assert "numpy.moveaxis(tifffile.imread('x.tif'), 0, -1)" in caught.value.reason
    file = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(file, True) as writer:
        scene().save(writer, "TIFF")
        writer.newFrame()
        scene(20, 15).save(writer, "TIFF", tiffinfo={254: 1})
    assert np.array_equal(image_io.read_image(file.getvalue()), scene())


def test_wrong_arguments_are_rejected():
    with pytest.raises(UsageError, match="'squash'; choose from stretch, crop, pad"):
        image_io.read_image(np.asarray(scene()), (8, 8, 3), "squash")
    with pytest.raises(UsageError, match="not 0"):
        image_io.read_image(np.asarray(scene()), (8, 8, 0))


def test_reading_is_thread_safe_and_without_warnings():
    palette = encoded(scene().convert("P"), transparency=b"\x80" * 16)
    broken = encoded(scene(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01broken")
    expected = [image_io.read_image(data, (16, 16, 3)) for data in (palette, broken)]
    filters = len(warnings.filters)
    wrong = []

    def read():
        for _ in range(20):
            for data, image in zip((palette, broken), expected, strict=True):
                if not np.array_equal(image_io.read_image(data, (16, 16, 3)), image):
                    wrong.append(data)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(warnings.filters) == filters


def test_images_are_recognised_by_suffix_and_first_bytes(tmp_path):
    assert image_io.is_image("a/B.JPG")
    assert not image_io.is_image("notes.txt")
    assert not image_io.is_image("jpg")
    scene().save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("text")
    (tmp_path / "none.gif").touch()
    (tmp_path / "memo.bmp").write_text("BMW is a maker of cars, and this is no bitmap.")
    assert image_io.rejection_reason(tmp_path / "good.png") == ""
    assert image_io.rejection_reason(tmp_path / "bad.png") == "not an image by its first bytes"
    assert image_io.rejection_reason(tmp_path / "memo.bmp") == "not an image by its first bytes"
    assert image_io.rejection_reason(tmp_path / "none.gif") == "empty file"
    assert image_io.rejection_reason(tmp_path / "gone.png") == "no such file"
    assert image_io.rejection_reason(tmp_path / "notes.txt").startswith(
        "not an image by its suffix (.jpg "
    )


def test_real_photos_are_read_as_by_pillow(zoo_data):
    photos = [path for path in sorted((zoo_data / "photos").iterdir()) if image_io.is_image(path)]
    assert photos
    for path in photos:
        with Image.open(path) as picture:
            assert np.array_equal(image_io.read_image(path), picture.convert("RGB"))
            small = picture.convert("RGB").resize((96, 80), Image.Resampling.BILINEAR)
        assert mean_error(image_io.read_image(path, (80, 96, 3)), small) < 0.7


@pytest.mark.parametrize("read", [image_io.read_image, image_io.read_stored, image_io.image_size])
def test_bugs_are_not_reported_as_damaged_images(read, monkeypatch, tmp_path):
    path = tmp_path / "x.png"
    scene().save(path)

    def fail(*_, **__):
        raise AttributeError("a bug")

    for name in ("upright_size", "decode_and_resize"):
        monkeypatch.setattr(pillow_images, name, fail)
    for module in ("image_io", "image_formats"):
        monkeypatch.setattr(f"tasks.data.{module}.Image.open", fail)
    with pytest.raises(AttributeError, match="a bug"):
        read(path)
