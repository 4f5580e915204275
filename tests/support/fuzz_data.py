"""Small data sets in the formats that people have, for `fuzz_cases`.

`write` writes them into a folder. It needs `tifffile`, `pydicom` and `pyarrow`.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile

import numpy as np
from PIL import Image

LABELS = ("black", "white")
# File to damage, and the data set that it belongs to.
FILES = {
    "table.jsonl": "table.jsonl",
    "tree/metadata.csv": "tree",
    "studio.json": "studio.json",
    "cvat.xml": "cvat.xml",
    "labelme/0.json": "labelme",
    "roboflow/train/_classes.csv": "roboflow",
    "photos.zip": "photos.zip",
    "shards/train-0.tar": "shards",
    "shards/val-0.tar": "shards",
    "deep/black/0.npy": "deep",
    "tiff/black/0.tif": "tiff",
    "tiff/white/1.tif": "tiff",
    "dicom/black/0.dcm": "dicom",
    "table.parquet": "table.parquet",
}


def pictures(count=20):
    """Returns pairs of a label and an image, half of them of each label."""
    rng = np.random.default_rng(0)
    levels = (40, 200)
    for index in range(count):
        pixels = rng.normal(levels[index % 2], 20, (16, 16, 3)).clip(0, 255).astype("uint8")
        yield LABELS[index % 2], pixels


def encoded(pixels):
    """Returns the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(folder):
    """Writes the data sets into a folder."""
    for place in ("tree", "labelme", "roboflow/train", "shards"):
        (folder / place).mkdir(parents=True)
    for place in ("deep", "tiff", "dicom"):
        for label in LABELS:
            (folder / place / label).mkdir(parents=True)
    pairs = [(f"{n}.png", label, pixels) for n, (label, pixels) in enumerate(pictures())]
    for name, _, pixels in pairs:
        for place in ("", "tree", "labelme", "roboflow/train"):
            (folder / place / name).write_bytes(encoded(pixels))
    _tables(folder, [(name, label) for name, label, _ in pairs])
    _annotations(folder, [(name, label) for name, label, _ in pairs])
    _archives(folder, pairs)
    for name, label, pixels in pairs:
        np.save(folder / "deep" / label / name.replace("png", "npy"), pixels.astype("uint16") * 16)
    _tiff(folder, pairs)
    _dicom(folder, pairs)
    _parquet(folder, pairs)


def _tables(folder, rows):
    lines = [json.dumps({"path": name, "label": label}) for name, label in rows]
    (folder / "table.jsonl").write_text("\n".join(lines) + "\n")
    lines = [f"{name},{label}" for name, label in rows]
    (folder / "tree/metadata.csv").write_text("\n".join(["file_name,label", *lines]) + "\n")
    lines = [f"{name}, {int(label == 'black')}, {int(label == 'white')}" for name, label in rows]
    lines.insert(0, "filename, black, white")
    (folder / "roboflow/train/_classes.csv").write_text("\n".join(lines) + "\n")


def _annotations(folder, rows):
    tasks = [
        {
            "data": {"image": f"/data/upload/1/{name}"},
            "annotations": [{"result": [{"type": "choices", "value": {"choices": [label]}}]}],
        }
        for name, label in rows
    ]
    (folder / "studio.json").write_text(json.dumps(tasks))
    images = "".join(
        f'<image id="{n}" name="{name}" width="16" height="16"><tag label="{label}"/></image>'
        for n, (name, label) in enumerate(rows)
    )
    (folder / "cvat.xml").write_text(f"<annotations><version>1.1</version>{images}</annotations>")
    for name, label in rows:
        content = {"imagePath": name, "flags": {each: each == label for each in LABELS}}
        (folder / "labelme" / name.replace("png", "json")).write_text(json.dumps(content))


def _archives(folder, pairs):
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for name, label, pixels in pairs:
            archive.writestr(f"{label}/{name}", encoded(pixels))
    for split in ("train", "val"):
        with tarfile.open(folder / f"shards/{split}-0.tar", "w") as archive:
            for name, label, pixels in pairs:
                for member, content in (
                    (name, encoded(pixels)),
                    (name.replace("png", "cls"), str(LABELS.index(label)).encode()),
                ):
                    info = tarfile.TarInfo(member)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))


def _tiff(folder, pairs):
    """Writes stacks of three pages, and pictures of five bands of floating-point values."""
    import tifffile

    for name, label, pixels in pairs:
        path = folder / "tiff" / label / name.replace("png", "tif")
        pages = np.stack([pixels[..., 0] + page for page in range(5)])
        if label == "black":
            tifffile.imwrite(path, pages[:3], photometric="minisblack")
        else:
            bands = pages.astype("float32") / 255
            tifffile.imwrite(path, bands, photometric="minisblack", planarconfig="separate")


def _dicom(folder, pairs):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    for name, label, pixels in pairs:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[name])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        scan = Dataset()
        scan.file_meta = meta
        scan.SOPClassUID, scan.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        scan.Rows = scan.Columns = 16
        scan.SamplesPerPixel, scan.PhotometricInterpretation = 1, "MONOCHROME2"
        scan.BitsAllocated, scan.BitsStored, scan.HighBit, scan.PixelRepresentation = 16, 12, 11, 0
        scan.RescaleSlope, scan.RescaleIntercept = 1, 0
        scan.PixelData = (pixels[..., 0].astype("<u2") * 16).tobytes()
        path = folder / "dicom" / label / name.replace("png", "dcm")
        scan.save_as(path, enforce_file_format=True)


def _parquet(folder, pairs):
    import pyarrow
    from pyarrow import parquet

    columns = {"path": [name for name, _, _ in pairs], "label": [label for _, label, _ in pairs]}
    parquet.write_table(pyarrow.table(columns), folder / "table.parquet")
