"""Formats of pictures besides the common ones: DICOM, HEIC, AVIF, JPEG 2000, PPM and TGA."""

from __future__ import annotations

import io
import math
import warnings

import numpy as np
import pytest
from PIL import Image

from tasks.data import dicom, image_formats, image_io, value_range
from zoo.errors import UsageError


def scene():
    y, x = np.mgrid[:24, :32]
    return np.stack([8 * x, 10 * y, 4 * (x + y)], -1).astype("uint8")


def encoded(kind, pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("suffix", "kind", "options"),
    [("ppm", "PPM", {}), ("tga", "TGA", {}), ("tga", "TGA", {"compression": "tga_rle"}),
     ("jp2", "JPEG2000", {"irreversible": False}), ("j2k", "JPEG2000", {"no_jp2": True})],
)  # fmt: skip
def test_lossless_formats_are_read_exactly(suffix, kind, options, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(encoded(kind, scene(), **options))
    assert not image_io.rejection_reason(path)
    np.testing.assert_array_equal(image_io.read_image(str(path)), scene())
    assert image_io.image_size(str(path)) == (24, 32)
    path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(image_io.UnreadableImage):
        image_io.read_image(str(path))


def test_grey_netpbm_and_palette_tga():
    grey = scene()[..., 0]
    for kind in ("PPM", "TGA"):
        found = image_io.read_image(encoded(kind, grey), (None, None, 1))
        np.testing.assert_array_equal(found[..., 0], grey)


NETPBM = {  # suffix: plain and raw files of the gray values 0, 255, 255 and 255, 0, 255
    "pbm": (b"P1\n# a comment\n3 2\n1 0 0\n0 1 0\n", b"P4\n3 2\n\x80\x40"),
    "pgm": (b"P2\n3 2\n9\n0 9 9\n9 0 9\n", b"P5\n3 2\n255\n\x00\xff\xff\xff\x00\xff"),
    "ppm": (b"P3\n3 2\n1\n0 0 0 1 1 1 1 1 1\n1 1 1 0 0 0 1 1 1\n",),
}


@pytest.mark.parametrize(
    ("suffix", "data"), [(k, data) for k, each in NETPBM.items() for data in each]
)
def test_kinds_of_netpbm_are_read_exactly(suffix, data, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    assert not image_io.rejection_reason(path)
    found = image_io.read_image(str(path), (None, None, 1))[..., 0]
    np.testing.assert_array_equal(found, [[0, 255, 255], [255, 0, 255]])
    path.write_bytes(data[:8])
    with pytest.raises(image_io.UnreadableImage):
        image_io.read_image(str(path))


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_damaged_avif_and_heic_are_unreadable(kind):
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    data = encoded(kind, scene())
    for length in (12, 40, len(data) // 2, len(data) - 20):
        with pytest.raises(image_io.UnreadableImage):
            image_io.read_image(data[:length])


def test_avif_is_read_approximately(tmp_path):
    data = encoded("AVIF", scene(), quality=95)
    assert np.abs(image_io.read_image(data).astype(int) - scene()).mean() < 4


def test_heic_is_read_approximately_or_names_its_extra(monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(scene())).save(file, quality=95)
    data = file.getvalue()
    assert np.abs(image_io.read_image(data).astype(int) - scene()).mean() < 4
    assert image_io.image_size(data) == (24, 32)

    class Missing:
        def __getattr__(self, name):
            raise ModuleNotFoundError(name)

    monkeypatch.setattr(image_formats, "pillow_heif", Missing())
    with pytest.raises(image_io.UnreadableImage, match=r"keras-zoo\[heif\]"):
        image_io.read_image(data)
    monkeypatch.setattr(dicom, "pydicom", Missing())
    with pytest.raises(image_io.UnreadableImage, match=r"keras-zoo\[medical\]"):
        image_io.read_image(bytes(128) + b"DICM")


def made_dicom(values, *, bits=12, signed=0, photometric="MONOCHROME2", **elements):
    """Returns the bytes of an uncompressed DICOM file."""
    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    made = pydicom.Dataset()
    made.file_meta = meta
    made.Rows, made.Columns = values.shape[:2]
    made.SamplesPerPixel = values.shape[2] if values.ndim == 3 else 1
    if values.ndim == 3:
        made.PlanarConfiguration = 0
    made.PhotometricInterpretation = photometric
    made.BitsAllocated = 8 * values.dtype.itemsize
    made.BitsStored, made.HighBit, made.PixelRepresentation = bits, bits - 1, signed
    for name, value in elements.items():
        setattr(made, name, value)
    made.PixelData = values.tobytes()
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def grey(data):
    return image_io.read_image(data, (None, None, 1))[..., 0].astype(int)


def test_stored_bits_of_a_dicom_become_the_whole_range(tmp_path):
    values = np.arange(0, 4096, 4, dtype="uint16").reshape(32, 32)
    path = tmp_path / "a.dcm"
    path.write_bytes(made_dicom(values))
    assert not image_io.rejection_reason(path)
    np.testing.assert_array_equal(grey(str(path)), np.rint(values * (255 / 4095)))
    assert image_io.image_size(str(path)) == (32, 32)
    signed = (values.astype("int32") - 2048).astype("int16")
    np.testing.assert_array_equal(
        grey(made_dicom(signed, signed=1)), np.rint(values * (255 / 4095))
    )


def test_rescale_slope_window_and_inversion_of_a_dicom():
    pydicom_pixels = pytest.importorskip("pydicom.pixels")
    pydicom = pytest.importorskip("pydicom")
    values = np.arange(0, 4096, 4, dtype="uint16").reshape(32, 32)
    window = {"RescaleSlope": "2", "RescaleIntercept": "-1024", "RescaleType": "HU"}
    window |= {"WindowCenter": ["40", "500"], "WindowWidth": ["400", "1500"]}
    data = made_dicom(values, **window)
    header = pydicom.dcmread(io.BytesIO(data))
    expected = pydicom_pixels.apply_voi_lut(
        pydicom_pixels.apply_modality_lut(header.pixel_array, header), header
    )
    expected = (expected - expected.min()) / (expected.max() - expected.min()) * 255
    assert np.abs(grey(data) - expected).max() <= 1
    assert 0 < (grey(data) == 255).mean() < 1
    inverted = made_dicom(values, photometric="MONOCHROME1", **window)
    np.testing.assert_array_equal(grey(inverted), 255 - grey(data))


def test_colours_of_a_dicom():
    data = made_dicom(scene(), bits=8, photometric="RGB")
    np.testing.assert_array_equal(image_io.read_image(data), scene())


def test_an_invalid_dicom_gives_one_line_and_no_warning():
    """pydicom itself warns of a window that is no number, and of pixels beyond the last."""
    pydicom = pytest.importorskip("pydicom")
    good = made_dicom(np.zeros((16, 16), "uint16"), WindowCenter="40", WindowWidth="400")
    padded = made_dicom(np.zeros((16, 16), "uint16"), Rows=15)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        pydicom.dcmread(io.BytesIO(padded)).pixel_array  # noqa: B018
    assert shown
    assert read_quietly(padded) == ""
    invalid = good.replace(b"DS\x02\x0040", b"DS\x02\x00x!")
    assert invalid != good
    for data in (invalid, invalid[:-300], good[:300] + bytes(300)):
        assert read_quietly(data).count("\n") == 0
        assert read_quietly(data)


def read_quietly(data):
    """Returns the error of reading an image, or an empty text; no warning is shown."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        try:
            image_io.read_image(data, (None, None, 1))
            error = ""
        except image_io.UnreadableImage as caught:
            error = str(caught)
    assert not shown
    return error


def test_frames_and_damage_of_a_dicom_are_named():
    values = np.zeros((3, 8, 8), "uint16")
    frames = made_dicom(values.reshape(24, 8), NumberOfFrames=3)
    with pytest.raises(image_io.UnreadableImage, match="a DICOM file of 3 frames"):
        image_io.read_image(frames)
    whole = made_dicom(np.zeros((16, 16), "uint16"))
    for cut in (140, 300, len(whole) - 40):
        with pytest.raises(UsageError):
            image_io.read_image(whole[:cut])


DEEP = np.random.default_rng(0).integers(0, 4096, (24, 32, 3), "uint16")


@pytest.mark.parametrize("top", [4095, 65535])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_netpbm_of_12_bits_keeps_its_levels(channels, plain, top):
    values = DEEP[..., :channels]
    kind = {1: b"P5", 3: b"P6"}[channels] if not plain else {1: b"P2", 3: b"P3"}[channels]
    body = values.astype(">u2").tobytes()
    if plain:
        body = b" ".join(b"%d" % number for number in values.ravel())
    data = kind + b"\n32 24\n%d\n" % top + body
    low, high, floats = value_range.image_range(data)
    bits = value_range.detect_bits(low, high, floats)
    assert bits == (12 if top == 65535 else 16)  # other scales are converted to 16 bits
    found = image_io.read_image(data, (None, None, channels), bits=bits)
    np.testing.assert_array_equal(found, np.rint(values * (255 / 4095)))
    with pytest.raises(image_io.UnreadableImage):
        image_io.read_image(data[:60], (None, None, channels))


@pytest.mark.parametrize("options", [{}, {"no_jp2": True}])
def test_jpeg_2000_of_12_bits_keeps_its_levels(options, monkeypatch):
    data = encoded("JPEG2000", DEEP[..., 0], irreversible=False, **options)
    assert value_range.image_range(data) == (DEEP[..., 0].min(), DEEP[..., 0].max(), False)
    expected = np.rint(DEEP * (255 / 4095))
    found = image_io.read_image(data, (24, 32, 1), bits=12)
    np.testing.assert_array_equal(found, expected[..., :1])
    codecs = pytest.importorskip("imagecodecs")
    kind = {"codecformat": "j2k" if options else "jp2", "level": 0, "reversible": True}
    data = codecs.jpeg2k_encode(DEEP, **kind)
    assert value_range.image_range(data) == (DEEP.min(), DEEP.max(), False)
    np.testing.assert_array_equal(image_io.read_image(data, bits=12), expected)
    white = codecs.jpeg2k_encode(np.full((8, 8, 3), 4095, "uint16"), bitspersample=12, **kind)
    assert (image_io.read_image(white) == 255).all()

    class Missing:
        def __getattr__(self, name):
            raise ModuleNotFoundError(name)

    monkeypatch.setattr(image_formats, "imagecodecs", Missing())
    with pytest.raises(image_io.UnreadableImage, match=r"of 16-bit colors; .*keras-zoo\[tiff\]"):
        image_io.read_image(data)


def test_complex_numbers_are_refused_without_a_warning():
    file = io.BytesIO()
    np.save(file, np.ones((8, 8), "complex64"))
    assert math.isnan(value_range.image_range(file.getvalue())[0])
    with pytest.raises(image_io.UnreadableImage, match="a complex64 array"):
        image_io.read_image(file.getvalue())


def lookup_table(values, bits=16):
    """Returns an item of a `ModalityLUTSequence` or `VOILUTSequence` of 4,096 values."""
    table = pytest.importorskip("pydicom").Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, bits], values.astype("<u2").tobytes()
    table.ModalityLUTType = "US"
    table["LUTData"].VR = "OW"
    return table


STORED = np.arange(0, 4096, 4, dtype="uint16").reshape(32, 32)


def test_the_palette_of_a_dicom_gives_its_colors():
    indices = np.arange(256, dtype="uint8").reshape(16, 16)
    tables = np.random.default_rng(0).integers(0, 65536, (3, 256), "uint16")
    elements = {}
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        elements[f"{name}PaletteColorLookupTableData"] = table.astype("<u2").tobytes()
    data = made_dicom(indices, bits=8, photometric="PALETTE COLOR", **elements)
    expected = np.rint(np.moveaxis(tables[:, indices], 0, -1) * (255 / 65535))
    np.testing.assert_array_equal(image_io.read_image(data), expected)


def test_lookup_tables_of_a_dicom_are_applied():
    falling = 65535 - np.arange(4096) * 16
    data = made_dicom(STORED, ModalityLUTSequence=[lookup_table(falling)])
    np.testing.assert_array_equal(grey(data), np.rint(falling[STORED] * (255 / 65535)))
    root = np.sqrt(np.arange(4096) / 4095) * 65535
    data = made_dicom(STORED, VOILUTSequence=[lookup_table(root)])
    np.testing.assert_array_equal(grey(data), np.rint(root.astype(int)[STORED] * (255 / 65535)))


@pytest.mark.parametrize(
    ("function", "formula"),
    [
        ("LINEAR_EXACT", lambda x: (x - 1500) / 1000),
        ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 2000) / 1000))),
    ],
)
def test_functions_of_the_window_of_a_dicom(function, formula):
    window = {"WindowCenter": "2000", "WindowWidth": "1000", "VOILUTFunction": function}
    expected = np.rint(255 * formula(STORED.astype(float)).clip(0, 1))
    np.testing.assert_array_equal(grey(made_dicom(STORED, **window)), expected)


def test_frames_of_an_enhanced_dicom_have_their_own_slope_and_window(tmp_path):
    pydicom = pytest.importorskip("pydicom")

    def group(**values):
        made = pydicom.Dataset()
        for name, value in values.items():
            setattr(made, name, value)
        return made

    shared = group(
        PixelValueTransformationSequence=[group(RescaleSlope="2", RescaleIntercept="-1000")]
    )
    frames = [
        group(FrameVOILUTSequence=[group(WindowCenter=center, WindowWidth="501")])
        for center in ("1000.5", "2000.5")
    ]
    path = tmp_path / "a.dcm"
    path.write_bytes(
        made_dicom(
            np.concatenate([STORED, STORED]),
            Rows=32,
            NumberOfFrames=2,
            SharedFunctionalGroupsSequence=[shared],
            PerFrameFunctionalGroupsSequence=frames,
        )
    )
    for number, center in ((1, 1000), (2, 2000)):
        shares = (STORED * 2.0 - 1000 - (center - 250)) / 500
        found = grey(f"{path}#page={number}")
        np.testing.assert_array_equal(found, np.rint(255 * shares.clip(0, 1)))
