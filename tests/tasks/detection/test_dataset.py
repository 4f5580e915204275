"""Detection data sets: formats, faults of boxes, resizing, EXIF orientation, and batches."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from tasks.data import coco_masks, geometry, image_io, shapes, splits
from tasks.data import exif as data_exif
from tasks.detection import batches, box_annotations, dataset, voc
from zoo.errors import UsageError

SHAPE = (40, 60, 3)


def refused(call, *arguments, **named):
    """Returns the message of the `UsageError` that a call raises, which must be one line."""
    with pytest.raises(UsageError) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_image(path, size=(60, 40), seed=0, **options):
    """Writes an image of noise, `(width, height)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), "uint8")
    Image.fromarray(pixels).save(path, **options)
    return path


def objects_of(source, split="all"):
    """Returns boxes, labels and ignore flags of each image, by file name."""
    part = source.splits[split]
    return {
        str(item).rpartition("/")[2]: (t.boxes.tolist(), t.labels.tolist(), t.ignored.tolist())
        for item, t in zip(part.items, part.labels, strict=True)
    }


def decoded(source, split="all", shape=SHAPE, resize="stretch", **room):
    return dataset.decode(source.splits[split], shape, resize, **room)


# shapes


def test_shapes_have_the_boxes_that_were_drawn():
    source = dataset.load("shapes")
    assert source.classes == tuple(shapes.SHAPES)
    assert {name: len(part) for name, part in source.splits.items()} == shapes.SPLITS
    names = ("train[:6]", "validation[:2]", "test[:2]")
    data = dataset.prepare(source, names, (128, 128, 3), "stretch")
    for index in range(6):
        scene = shapes.draw("train", index)
        count = len(scene.boxes)
        assert np.array_equal(data.train.pixels[index], scene.image)
        assert data.train.boxes[index, :count].tolist() == scene.boxes.tolist()
        assert data.train.labels[index, :count].tolist() == scene.box_labels.tolist()
        assert (data.train.labels[index, count:] == -1).all()
        assert not data.train.boxes[index, count:].any()
    assert data.train.boxes.dtype == np.float32
    assert data.train.labels.dtype == np.int32
    assert data.image_shape == (128, 128, 3)


def test_images_of_shapes_are_drawn_once(monkeypatch):
    drawn, draw = [], shapes.draw
    monkeypatch.setattr(shapes, "draw", lambda *a, **k: drawn.append(a) or draw(*a, **k))
    source = dataset.load("shapes")
    dataset.decode(source.splits["test"].take(range(4)), (128, 128, 3), "stretch")
    assert len(drawn) == 4


# COCO


def coco_file(path, images, annotations, categories=("cat", "dog", "eel")):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [
            {"id": n, "file_name": name, "width": size[0], "height": size[1]}
            for n, (name, size) in enumerate(images)
        ],
        "annotations": [
            {"id": n, "image_id": image, "category_id": 10 * label, "bbox": box, **more}
            for n, (image, label, box, more) in enumerate(annotations)
        ],
        "categories": [{"id": 10 * n, "name": name} for n, name in enumerate(categories)],
    }
    path.write_text(json.dumps(content))
    return path


def test_a_coco_file(tmp_path):
    write_image(tmp_path / "images" / "a.jpg")
    write_image(tmp_path / "images" / "b.jpg", seed=1)
    path = coco_file(
        tmp_path / "boxes.json",
        [("a.jpg", (60, 40)), ("b.jpg", (60, 40)), ("lost.jpg", (60, 40))],
        [
            (0, 0, [1, 2, 30, 20], {}),
            (0, 2, [10, 10, 5.5, 5], {"iscrowd": 1}),
            (2, 0, [0, 0, 5, 5], {}),
        ],
    )
    source = dataset.load(path)
    assert source.classes == ("cat", "dog", "eel")
    assert objects_of(source) == {
        "a.jpg": ([[1, 2, 31, 22], [10, 10, 15.5, 15]], [0, 2], [False, True]),
        "b.jpg": ([], [], []),
    }
    assert [reason for _, reason in source.skipped] == ["no such file"]
    assert "lost.jpg" in source.skipped[0][0]
    examples = decoded(source)
    assert examples.labels.tolist() == [[0, 2], [-1, -1]]
    assert examples.ignored.tolist() == [[False, True], [False, False]]
    assert dataset.valid_objects(examples).tolist() == [[True, False], [False, False]]
    assert examples.notes == ("images of all without an object: 1 of 2",)


def test_a_coco_annotation_without_a_box_has_that_of_its_mask(tmp_path):
    write_image(tmp_path / "a.png")
    outline = [[2, 3, 12, 3, 12, 9, 2, 9]]
    rows = [
        (0, 0, None, {"segmentation": outline}),
        (0, 1, None, {}),
        (0, 1, [0, 0, 1, 1], {"segmentation": outline}),
    ]
    source = dataset.load(coco_file(tmp_path / "a.json", [("a.png", (60, 40))], rows))
    assert objects_of(source)["a.png"][0] == [[2, 3, 12, 9], [0, 0, 0, 0], [0, 0, 1, 1]]
    assert "that were left out: 1, the first in" in decoded(source).notes[0]


def test_coco_files_of_several_splits_need_the_same_categories(tmp_path):
    for split in ("train", "val"):
        write_image(tmp_path / split / f"{split}.png", seed=len(split))
        rows = [(f"{split}.png", (60, 40))], [(0, 1, [0, 0, 9, 9], {})]
        coco_file(tmp_path / split / "_annotations.coco.json", *rows)
    assert list(dataset.load(tmp_path).splits) == ["train", "val"]
    coco_file(tmp_path / "val" / "_annotations.coco.json", *rows, categories=("cat", "emu"))
    assert "different categories" in refused(dataset.load, tmp_path)


# Pascal VOC


def voc_file(path, objects, image="a.jpg", size=(60, 40), more=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(
        f"<object><name>{name}</name><difficult>{int(difficult)}</difficult><bndbox><xmin>{x0}</xmin>"
        f"<ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, (x0, y0, x1, y1), difficult in objects
    )
    width, height = size
    path.write_text(
        f"{more}<annotation><filename>{image}</filename><size><width>{width}</width>"
        f"<height>{height}</height></size>{text}</annotation>"
    )
    return path


def voc_folder(root):
    """Writes a Pascal VOC folder: images of two objects, of none, and of one."""
    for name in "abc":
        write_image(root / "JPEGImages" / f"{name}.jpg", seed=ord(name))
    voc_file(root / "Annotations/a.xml", [("dog", (1, 1, 60, 40), 0), ("cat", (5, 6, 5, 6), 1)])
    voc_file(root / "Annotations/b.xml", [], "b.jpg")
    voc_file(root / "Annotations/c.xml", [("emu", (2, 3, 30, 20), 0)], "c.jpg", size=(0, 0))
    return root


def test_pascal_voc_coordinates_start_at_one_with_inclusive_edges(tmp_path):
    source = dataset.load(voc_folder(tmp_path))
    assert source.classes == ("cat", "dog", "emu")
    assert objects_of(source) == {
        "a.jpg": ([[0, 0, 60, 40], [4, 5, 5, 6]], [1, 0], [False, True]),
        "b.jpg": ([], [], []),
        "c.jpg": ([[1, 2, 30, 20]], [2], [False]),
    }


def test_image_sets_of_pascal_voc_are_its_splits(tmp_path):
    lists = voc_folder(tmp_path) / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("a\nb\n\n")
    (lists / "test.txt").write_text("c\nnowhere\n")
    (lists / "dog_test.txt").write_text("c -1\n")
    source = dataset.load(tmp_path)
    assert {name: len(part) for name, part in source.splits.items()} == {"train": 2, "test": 1}
    assert source.skipped == (
        (str(tmp_path / "Annotations/nowhere.xml"), "no such annotation file"),
    )


def test_xml_files_may_be_beside_their_images(tmp_path):
    for split, name in (("train", "a"), ("valid", "b")):
        write_image(tmp_path / split / f"{name}.png", seed=ord(name))
        voc_file(tmp_path / split / f"{name}.xml", [("dog", (1, 1, 9, 9), 0)], image="else.jpg")
    source = dataset.load(tmp_path)
    assert objects_of(source, "train") == {"a.png": ([[0, 0, 9, 9]], [0], [False])}
    assert list(source.splits) == ["train", "valid"]


BILLION_LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
    "<annotation><object><name>&b;</name></object></annotation>"
)
EXTERNAL_ENTITY = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    "<annotation><filename>&a;</filename></annotation>"
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation><object>", "not XML: no element found"),
        ("", "not XML: no element found"),
        ("<a></b>", "not XML: mismatched tag"),
        ("<a>&unknown;</a>", "not XML: undefined entity"),
        (BILLION_LAUGHS, "it declares the entity 'a', which is not safe to read"),
        (EXTERNAL_ENTITY, "it declares the entity 'a', which is not safe to read"),
        ("<annotation><filename>no.jpg</filename></annotation>", "its image, no.jpg, is missing"),
        ("<annotation><object/></annotation>", "object 1 has no name"),
        (
            "<annotation><object><name>x</name><bndbox><xmin>1</xmin><ymin>nan</ymin>"
            "<xmax>1</xmax><ymax>2</ymax></bndbox></object></annotation>",
            "object 1, x, has no bndbox with the numbers",
        ),
    ],
)
def test_a_malformed_annotation_is_skipped_with_a_reason(tmp_path, text, reason):
    voc_folder(tmp_path)
    bad = tmp_path / "Annotations" / "bad.xml"
    bad.write_text(text)
    [(path, why)] = dataset.load(tmp_path).skipped
    assert path == str(bad)
    assert why.startswith(reason)


def test_xml_is_parsed_safely():
    assert voc.parse_xml(b"<a><b>1 &lt; 2</b></a>").findtext("b") == "1 < 2"
    with pytest.raises(voc.Malformed):
        voc.parse_xml(b"\x00\xff" * 20)
    deep = b"<a>" * 2000 + b"</a>" * 2000
    assert voc.parse_xml(deep).tag == "a"


def test_a_folder_of_malformed_annotations_alone_is_refused(tmp_path):
    voc_file(tmp_path / "Annotations" / "a.xml", [])
    assert "a.xml: its image, a.jpg, is missing" in refused(dataset.load, tmp_path)
    write_image(tmp_path / "JPEGImages" / "a.jpg")
    assert "no annotation in" in refused(
        dataset.load, tmp_path
    )  # without an object there is no class


# YOLO


def yolo_folder(root, lines, names=("cat", "dog"), layout="images/train"):
    """Writes a YOLO folder with an image for each of `lines`, the texts of label files."""
    for number, text in enumerate(lines):
        image = write_image(root / layout / f"{number}.jpg", seed=number)
        if text is not None:
            label = root / layout.replace("images", "labels") / f"{number}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
        assert image.is_file()
    if names:
        about = {"names": dict(enumerate(names)), "train": layout}
        (root / "data.yaml").write_text(yaml.safe_dump(about))
    return root


def test_a_yolo_folder(tmp_path):
    polygon = "0 0.1 0.2 0.5 0.9 0.3 0.4"
    folder = yolo_folder(tmp_path, ["1 .5 .5 .5 .25\n\n" + polygon, "", None])
    for name in (folder, folder / "data.yaml"):
        source = dataset.load(name)
        assert source.classes == ("cat", "dog")
        found = objects_of(source, "train")
        assert found["0.jpg"] == (
            [[0.25, 0.375, 0.75, 0.625], [0.1, 0.2, 0.5, 0.9]],
            [1, 0],
            [False, False],
        )
        assert found["1.jpg"] == found["2.jpg"] == ([], [], [])
    examples = decoded(source, "train")
    row = examples.labels.max(1).argmax()
    assert examples.boxes[row, 0].tolist() == [15, 15, 45, 25]


def test_a_byte_order_mark_is_ignored_in_yolo_and_pascal_voc(tmp_path):
    yolo_folder(tmp_path / "yolo", ["0 .5 .5 .5 .25"])
    voc_folder(tmp_path / "voc")
    paths = (tmp_path / "yolo/labels/train/0.txt", tmp_path / "yolo/data.yaml")
    for path in (*paths, tmp_path / "voc/Annotations/a.xml"):
        path.write_text(path.read_text("utf-8"), "utf-8-sig")
    assert objects_of(dataset.load(tmp_path / "yolo"), "train")["0.jpg"][1] == [0]
    assert objects_of(dataset.load(tmp_path / "voc"))["a.jpg"][1] == [1, 0]


def test_classes_of_yolo_without_names_are_numbers(tmp_path):
    folder = yolo_folder(tmp_path, ["2 .5 .5 .1 .1"], names=(), layout="images")
    source = dataset.load(folder)
    assert source.classes == ("0", "1", "2")
    assert f"one per line, in this order, to {tmp_path / 'classes.txt'}" in source.notes[0]
    (tmp_path / "classes.txt").write_text("ant\nbee\ncow\n")
    source = dataset.load(folder)
    assert (source.classes, source.notes) == (("ant", "bee", "cow"), ())


def test_missing_class_names_of_yolo_are_stated_before_training_and_in_the_report(tmp_path):
    folder = yolo_folder(tmp_path, ["0 .5 .5 .1 .1"] * 3, names=(), layout="images")
    slices = ("all[:1]", "all[1:2]", "all[2:]")
    data = dataset.prepare(dataset.load(folder), slices, (32, 32, 3), "stretch")
    for lines in (data.notes(), [line for line, _ in data.warnings()]):
        assert any("has no class names: classes are the numbers 0 to 0" in line for line in lines)


def test_splits_of_yolo_may_have_folders_of_their_own(tmp_path):
    yolo_folder(tmp_path, ["0 .5 .5 .1 .1"], names=(), layout="train/images")
    yolo_folder(tmp_path, ["0 .5 .5 .2 .2"], names=(), layout="test/images")
    assert list(dataset.load(tmp_path).splits) == ["train", "test"]


def test_a_class_of_yolo_without_a_name_is_refused(tmp_path):
    message = refused(dataset.load, yolo_folder(tmp_path, ["0 .5 .5 .1 .1\n2 .5 .5 .1 .1"]))
    assert "0.txt, line 2: class 2 has no name; there are 2 classes, cat, dog" in message


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 .5 .5 .1", "line 1: 4 numbers; needed: class x y width height"),
        ("0 .5 .5 .1 .1 .9", "line 1: 6 numbers"),
        ("cat .5 .5 .1 .1", "has a word that is not a number"),
        ("0.5 .5 .5 .1 .1", "is not a class index and finite numbers"),
        ("-1 .5 .5 .1 .1", "is not a class index and finite numbers"),
        ("inf .5 .5 .1 .1", "is not a class index and finite numbers"),
        ("0 nan .5 .1 .1", "is not a class index and finite numbers"),
        ("1e300 .5 .5 .1 .1", "the class 1e300 is not below 10,000"),
        ("0 30 20 10 10", "is in pixels; the format is x y width height relative to"),
        ("0 30 20 10 10 20 20 10 10", "is in pixels"),
    ],
)
def test_an_image_of_yolo_with_a_malformed_line_is_skipped_with_a_reason(tmp_path, line, reason):
    source = dataset.load(yolo_folder(tmp_path, ["0 .5 .5 .1 .1", line]))
    assert list(objects_of(source, "train")) == ["0.jpg"]
    [(path, why)] = source.skipped
    assert path.endswith("1.jpg")
    assert reason in why


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a, b", "is not a YAML file"),
        ("train: images", "has no class names"),
        ("names: {1: a, 2: b}", "names must be numbered from 0, not 1, 2"),
        ("names: [a, a]", "are not a list of unique names"),
        ("names: [a]\ntrain: nowhere", "nowhere, named in the data.yaml of"),
        ("names: [a]\ntrain: [[images]]", "['images'] is neither a folder nor a list of images"),
        ("names: {0: a, b: c}", "names must be numbered from 0, not 0, b"),
        ("names: [[a, b], c]", "are not a list of unique names"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *a]", "it has references (*)"),
        ("names: [a]\ntrain: !!timestamp x", "is not a YAML file"),
        ("names: [a]\ntrain: !!float ''", "is not a YAML file"),
        ("names: " + 9000 * "[", "is not a YAML file"),
    ],
)
def test_a_malformed_data_yaml_is_refused(tmp_path, text, message):
    folder = yolo_folder(tmp_path, ["0 .5 .5 .1 .1"])
    (folder / "data.yaml").write_text(text)
    assert message in refused(dataset.load, folder)


def test_the_reason_is_given_where_all_boxes_of_yolo_are_in_pixels(tmp_path):
    message = refused(dataset.load, yolo_folder(tmp_path, ["0 30 20 10 10", "1 30 20 10 10"]))
    assert message.startswith("no image with usable labels in ")
    assert ".txt, line 1: '0 30 20 10 10' is in pixels" in message or "'1 30 20" in message


def test_string_keys_and_paths_of_another_machine_are_accepted_in_yolo(tmp_path):
    folder = yolo_folder(tmp_path, ["0 .5 .5 .5 .25", "1 .5 .5 .5 .5"], layout="images")
    (folder / "data.yaml").write_text("names: {'0': cat, '1': dog}\ntrain: images/list.txt")
    (folder / "images/list.txt").write_text("\ufeffC:\\data\\0.jpg\n/home/a/1.jpg\n", "utf-8")
    source = dataset.load(folder)
    assert source.classes == ("cat", "dog")
    assert sorted(objects_of(source, "train")) == ["0.jpg", "1.jpg"]


# TFDS


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """Returns a folder of TFDS: `zoo_boxes`, `zoo_faces` without classes, `zoo_pixels`."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")
    full_box = tfds.features.BBox(0.0, 0.0, 1.0, 1.0)

    class Boxes(tfds.core.GeneratorBasedBuilder):
        pkg_dir_path = folder  # a class in a test has no package around it
        VERSION = tfds.core.Version("1.0.0")
        name = "zoo_boxes"
        group = "objects"
        bbox_format = "REL_YXYX"
        edges = tfds.features.BBox(0.1, 0.2, 0.5, 0.9)
        classes = ("cat", "dog", "eel")

        def _info(self):
            inside = {"bbox": tfds.features.BBoxFeature(bbox_format=self.bbox_format)}
            if self.classes:
                label = tfds.features.ClassLabel(names=list(self.classes))
                inside |= {"label": label, "is_difficult": np.bool_}
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "note": tfds.features.Text(),
                self.group: tfds.features.Sequence(inside),
            }
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, _):
            return {"train": self._examples()}

        def _generate_examples(self):
            return ()

        def _examples(self):
            for n in range(4):
                pixels = np.full((20, 10 * (n + 1), 3), 10 * n, "uint8")
                rows = [{"bbox": self.edges}, {"bbox": full_box}][: n % 3]
                for row in rows if self.classes else ():
                    row |= {"label": n % 2, "is_difficult": n == 2}
                yield n, {"image": pixels, "note": str(n), self.group: rows}

    class Pixels(Boxes):
        name = "zoo_pixels"
        bbox_format = "XYXY"
        edges = np.array([2, 4, 9, 8])

    class Centred(Boxes):
        name = "zoo_centred"
        bbox_format = "XYWH"

    class Faces(Boxes):
        name = "zoo_faces"
        group = "faces"
        classes = ()

    class Plain(Boxes):
        name = "zoo_plain"

        def _info(self):
            features = tfds.features.FeaturesDict({"image": tfds.features.Image()})
            return tfds.core.DatasetInfo(builder=self, features=features)

    for name in ("zoo_boxes", "zoo_faces", "zoo_pixels"):
        tfds.builder(name, data_dir=folder).download_and_prepare()
    return folder


def test_boxes_of_tfds_are_converted_from_yxyx(tfds_folder):
    source = dataset.load("tfds:zoo_boxes", tfds_folder)
    assert source.classes == ("cat", "dog", "eel")
    part = source.splits["train"]
    order = np.argsort([image_io.read_image(item).shape[1] for item in part.items])
    truths = [part.labels[n] for n in order]
    assert [len(truth.labels) for truth in truths] == [0, 1, 2, 0]
    assert np.allclose(truths[2].boxes, [[0.2, 0.1, 0.9, 0.5], [0, 0, 1, 1]])
    assert truths[1].labels.tolist() == [1]
    assert truths[2].ignored.tolist() == [True, True]
    examples = decoded(source, "train", (40, 60, 3))
    assert np.allclose(examples.boxes[order[1], 0], [12, 4, 54, 20])
    assert len(splits.select(source, "train[:50%]")) == 2


def test_boxes_of_tfds_without_a_class_are_named_after_their_feature(tfds_folder):
    source = dataset.load("tfds:zoo_faces", tfds_folder)
    assert source.classes == ("faces",)
    assert sorted(len(t.labels) for t in source.splits["train"].labels) == [0, 0, 1, 2]


def test_the_bbox_format_of_tfds_is_respected(tfds_folder):
    source = dataset.load("tfds:zoo_pixels", tfds_folder)
    examples = decoded(source, "train", (20, 20, 3))
    [truth] = [t for t in source.splits["train"].labels if len(t.labels) == 1]
    assert truth.boxes.tolist() == [[2, 4, 9, 8]]
    assert [2, 4, 9, 8] in examples.boxes[:, 0].tolist()  # the only one of that size
    assert "of the format XYWH" in refused(dataset.load, "tfds:zoo_centred", tfds_folder)


def test_a_tfds_data_set_without_boxes_is_refused(tfds_folder):
    message = refused(dataset.load, "tfds:zoo_plain", tfds_folder)
    assert message.endswith("has no Image 'image' with a sequence of boxes; its features: image")


# Loading


def test_an_unknown_data_set_is_refused_with_the_supported_layouts(tmp_path):
    assert "did you mean shapes or" in refused(dataset.load, "shape")
    assert "no such file or folder" in refused(dataset.load, tmp_path / "nothing.json")
    assert "needed: a COCO file" in refused(dataset.load, tmp_path)
    assert refused(dataset.load, "")


def test_a_file_that_is_no_image_is_skipped_with_a_reason(tmp_path):
    voc_folder(tmp_path)
    (tmp_path / "JPEGImages" / "b.jpg").write_text("no image at all")
    source = dataset.load(tmp_path)
    assert set(objects_of(source)) == {"a.jpg", "c.jpg"}
    [(path, reason)] = source.skipped
    assert path.endswith("b.jpg")
    assert reason == "not an image by its first bytes"


def test_a_data_set_without_splits_is_split_by_its_images(tmp_path):
    lines = [f"{n % 2} .5 .5 {(n + 1) / 60} .2" for n in range(60)]
    source = dataset.load(yolo_folder(tmp_path, lines, names=("cat", "dog"), layout="images"))
    (tmp_path / "data.yaml").write_text("names: [cat, dog]")
    source = dataset.load(tmp_path)
    assert list(source.splits) == ["all"]
    data = dataset.prepare(source, ("", "", ""), (20, 30, 3), "stretch")
    parts = (data.train, data.validation, data.test)
    widths = [
        round(float(w * 2)) for part in parts for w in part.boxes[:, 0, 2] - part.boxes[:, 0, 0]
    ]
    assert sorted(widths) == list(range(1, 61))
    assert len(data.train) > 35
    order = splits.select(source, "all[:50%]").labels
    assert {truth.labels[0] for truth in order} == {0, 1}  # a slice is shuffled


# Faults of boxes


def write_faulty_data_set(tmp_path):
    """Writes a COCO data set with every fault that boxes can have."""
    for n, name in enumerate(("out", "none", "good")):
        write_image(tmp_path / f"{name}.png", seed=n)
    rows = [
        (0, 0, [-10, -5, 30, 15], {}),  # reaches beyond: clipped
        (0, 0, [50, 30, 100, 100], {}),  # likewise
        (0, 1, [59.5, 10, 1, 5], {}),  # by less than a pixel: clipped without a warning
        (0, 1, [70, 10, 5, 5], {}),  # outside: left out
        (0, 1, [5, 5, 0, 9], {}),  # without width: left out
        (0, 1, [9, 9, -4, 4], {}),  # negative sides: left out
        (2, 1, [10, 10, 20, 20], {}),
    ]
    images = [(f"{name}.png", (60, 40)) for name in ("out", "none", "good")]
    return coco_file(tmp_path / "boxes.json", images, rows)


def test_boxes_are_clipped_to_their_image_or_left_out(tmp_path):
    examples = decoded(dataset.load(write_faulty_data_set(tmp_path)))
    assert examples.boxes[0].tolist() == [[0, 0, 20, 10], [50, 30, 60, 40], [59.5, 10, 60, 15]]
    assert examples.labels.tolist() == [[0, 0, 1], [-1, -1, -1], [1, -1, -1]]
    cut, empty, none = examples.notes
    assert cut.startswith(
        "boxes of all that reach beyond their images and were clipped: 2, the first"
    )
    assert cut.endswith("out.png")
    assert empty.startswith(
        "boxes of all without area in their images that were left out: 3, the first"
    )
    assert none == "images of all without an object: 1 of 3"


def test_a_class_without_objects_is_kept_with_a_warning(tmp_path):
    source = dataset.load(write_faulty_data_set(tmp_path))
    data = dataset.prepare(source, ("all[:1]", "none", "all[1:]"), SHAPE, "stretch")
    assert data.validation is None
    assert data.source.classes == ("cat", "dog", "eel")
    assert dataset.notes(data)[-2:] == [
        "all[:1] has no object of the class eel",
        "all[1:] has no object of the classes cat, eel",
    ]


def test_a_slice_without_objects_is_refused(tmp_path):
    source = dataset.load(write_faulty_data_set(tmp_path))
    message = refused(dataset.prepare, source, ("all[:1]", "none", "all[1:2]"), SHAPE, "stretch")
    assert message.startswith("no image of all[1:2] in ")
    assert "has an object" in message


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "a.json: it has no annotations"),
        ([("x", 0, [1, 1, 5, 5], {})], "of the image_id 'x'; it lists 0, 1"),
        ([(0, 0, [100, 1, 5, 5], {})], "boxes of all[:1] without area in their images"),
        (
            [(0, 0, [1, 1, 5, 5], {"iscrowd": 1})],
            "all[:1] has only ignored objects (crowd or difficult): 1",
        ),
    ],
)
def test_the_reason_why_no_image_has_an_object_is_given(tmp_path, rows, reason):
    for seed, name in enumerate(("a.png", "b.png")):
        write_image(tmp_path / name, seed=seed)
    path = coco_file(tmp_path / "a.json", [("a.png", (60, 40)), ("b.png", (60, 40))], rows)
    content = json.loads(path.read_text())
    for annotation, (image, *_) in zip(content["annotations"], rows, strict=True):
        annotation["image_id"] = image
    path.write_text(json.dumps(content))
    names = ("all[:1]", "none", "all[1:]")
    message = refused(dataset.prepare, dataset.load(path), names, SHAPE, "stretch")
    assert message.startswith("no image of all[:1] in ")
    assert reason in message


@pytest.mark.parametrize("changes", [{}, {"bbox": ["1", "2", "30", "20.5"], "iscrowd": "0"}])
def test_numbers_may_be_strings(tmp_path, changes):
    rows = [(0, 1, [1, 2, 30, 20.5], changes)]
    write_image(tmp_path / "a.png")
    path = coco_file(tmp_path / "a.json", [("a.png", (60, 40))], rows)
    content = json.loads(path.read_text())
    for row, name in ((content["annotations"][0], "image_id"), (content["images"][0], "width")):
        row[name] = str(row[name])
    content["annotations"][0]["category_id"] = str(content["annotations"][0]["category_id"])
    path.write_text(json.dumps(content))
    assert objects_of(dataset.load(path))["a.png"] == ([[1, 2, 31, 22.5]], [1], [False])


def test_no_mask_is_decoded_at_a_size_that_is_not_that_of_the_image(tmp_path, monkeypatch):
    """The bounding box of a polygon needs a mask of the size in the file, here 11,000 square."""
    rows = [(0, 0, None, {"segmentation": [[1, 1, 9, 1, 9, 9]]})]
    write_image(tmp_path / "a.png")
    path = coco_file(tmp_path / "a.json", [("a.png", (60, 40))], rows)
    content = json.loads(path.read_text())
    content["images"][0] |= {"width": 11_000, "height": 11_000}
    path.write_text(json.dumps(content))
    monkeypatch.setattr(coco_masks, "decode_segmentation", None)
    examples = refused(decoded, dataset.load(path))
    assert "its boxes are for 11000 x 11000 pixels, it has 60 x 40" in examples


def test_an_image_of_another_size_than_its_boxes_is_left_out_with_a_reason(tmp_path):
    path = write_faulty_data_set(tmp_path)
    write_image(tmp_path / "out.png", size=(40, 60))
    examples = decoded(dataset.load(path))
    assert len(examples) == 2
    [(name, reason)] = examples.dropped
    assert name.endswith("out.png")
    assert reason == "its boxes are for 60 x 40 pixels, it has 40 x 60"


def test_a_truncated_image_is_left_out_with_its_boxes(tmp_path):
    path = write_faulty_data_set(tmp_path)
    whole = (tmp_path / "out.png").read_bytes()
    (tmp_path / "out.png").write_bytes(whole[: len(whole) // 2])
    for room in ({}, {"memory": 0, "disk": 0}):
        examples = decoded(dataset.load(path), **room)
        assert examples.dropped[0][1] == "truncated"
        assert examples.labels.tolist() == [[-1], [1]]
        assert examples.boxes[1].tolist() == [[10, 10, 30, 30]]
        want = image_io.read_image(str(tmp_path / "good.png"), SHAPE)
        assert np.array_equal(examples.pixels[np.array([1])][0], want)


def test_labels_are_remapped_by_class_name(tmp_path):
    examples = decoded(dataset.load(write_faulty_data_set(tmp_path)))
    classes = ("cat", "dog", "eel")
    moved = dataset.remap_labels(examples, classes, ("dog", "cat"))
    assert moved.labels.tolist() == [[1, 1, 0], [-1, -1, -1], [0, -1, -1]]
    assert "was not trained on: dog" in refused(
        dataset.remap_labels, examples, classes, ("cat", "eel")
    )


# Boxes and image geometry: a box is drawn into an image and detected after the transformation


RED = (255, 0, 0)


def draw_box(size, box, background=(0, 0, 255)):
    """Returns an image `(width, height)` with a red box."""
    pixels = np.full((*size[::-1], 3), background, "uint8")
    x0, y0, x1, y1 = box
    pixels[y0:y1, x0:x1] = RED
    return pixels


def find_box(image):
    """Returns the bounding box of the pixels that are more red than blue."""
    rows, columns = np.nonzero(image[..., 0].astype(int) > image[..., 2])
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("shape", [(64, 64, 3), (40, 100, 3), (120, 60, 3), (80, 160, 3)])
def test_boxes_follow_every_resize_mode(resize, shape):
    box = (60, 30, 100, 50)
    image = draw_box((160, 80), box)
    truth = box_annotations.ground_truth([(box, 3, True)])
    moved, faults = box_annotations.resize_ground_truth(truth, (160, 80), shape, resize)
    seen = find_box(image_io.read_image(image, shape, resize))
    assert np.abs(moved.boxes[0] - seen).max() <= 1
    assert (moved.labels.tolist(), moved.ignored.tolist()) == ([3], [True])
    assert not +faults


def test_relative_boxes_are_scaled_to_the_image():
    truth = box_annotations.ground_truth(
        [((0.25, 0.5, 0.75, 1), 0, False)], box_annotations.RELATIVE_SIZE
    )
    moved, _ = box_annotations.resize_ground_truth(truth, (160, 80), (40, 40, 3), "pad")
    assert moved.boxes.tolist() == [[10, 20, 30, 30]]  # 10 above and below


def test_a_crop_drops_boxes_of_which_little_is_visible():
    rows = [((0, 0, 40, 80), 0, False), ((0, 0, 50, 80), 1, False), ((0, 0, 56, 80), 2, False)]
    moved, faults = box_annotations.resize_ground_truth(
        box_annotations.ground_truth(rows), (160, 80), (80, 80, 3), "crop"
    )
    assert moved.labels.tolist() == [2]  # 1/5 of the second is visible, 2/7 of this
    assert moved.boxes.tolist() == [[0, 0, 16, 80]]
    assert not +faults


def test_boxes_of_a_rotated_image_are_those_of_the_image_as_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90 degrees clockwise
    upright = draw_box((80, 160), (10, 20, 50, 60))
    stored = np.rot90(upright)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    path = coco_file(tmp_path / "a.json", [("a.png", (80, 160))], [(0, 0, [10, 20, 40, 40], {})])
    examples = decoded(dataset.load(path), shape=(160, 80, 3))
    assert find_box(examples.pixels[0]) == examples.boxes[0, 0].tolist() == [10, 20, 50, 60]


TRANSPOSITIONS = {  # EXIF orientation: from the image as shown to the image as stored
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: np.swapaxes(x, 0, 1),
    6: lambda x: np.rot90(x),
    7: lambda x: np.swapaxes(x[::-1, ::-1], 0, 1),
    8: lambda x: np.rot90(x, -1),
}


def write_rotated_image(path, orientation, size=(80, 160), box=(10, 20, 50, 60)):
    """Writes a JPEG with an EXIF orientation; returns the image as shown and as stored."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = draw_box(size, box)
    stored = TRANSPOSITIONS[orientation](shown)
    Image.fromarray(np.ascontiguousarray(stored)).save(path, quality=95, subsampling=0, exif=exif)
    return shown, stored


@pytest.mark.parametrize("orientation", list(TRANSPOSITIONS))
def test_boxes_are_transposed_like_their_image(tmp_path, orientation):
    _, stored = write_rotated_image(tmp_path / "a.jpg", orientation)
    assert data_exif.orientation(tmp_path / "a.jpg") == orientation
    assert data_exif.orientation((tmp_path / "a.jpg").read_bytes()) == orientation
    box = find_box(stored)
    assert data_exif.transpose_boxes([box], (80, 160), orientation).tolist() == [[10, 20, 50, 60]]


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("which", ["shown", "stored"])
def test_the_recorded_size_determines_the_orientation_of_boxes(tmp_path, orientation, which):
    """The width and height in a COCO file are those of the image that was annotated."""
    images = write_rotated_image(tmp_path / "a.jpg", orientation)
    image = images[which == "stored"]
    x0, y0, x1, y1 = map(int, find_box(image))
    rows = [(0, 0, [x0, y0, x1 - x0, y1 - y0], {})]
    path = coco_file(tmp_path / "a.json", [("a.jpg", image.shape[1::-1])], rows)
    examples = decoded(dataset.load(path), shape=(160, 80, 3))
    assert examples.boxes[0, 0].tolist() == [10, 20, 50, 60]
    assert np.abs(np.subtract(find_box(examples.pixels[0]), [10, 20, 50, 60])).max() <= 1
    assert examples.notes == ()


@pytest.mark.parametrize(
    ("orientation", "size", "stated"), [(6, (80, 80), (80, 80)), (3, (80, 160), (80, 160))]
)
def test_a_rotated_image_of_ambiguous_size_has_a_warning(tmp_path, orientation, size, stated):
    write_rotated_image(tmp_path / "a.jpg", orientation, size)
    path = coco_file(tmp_path / "a.json", [("a.jpg", stated)], [(0, 0, [10, 20, 40, 40], {})])
    examples = decoded(dataset.load(path), shape=(*size[::-1], 3))
    assert examples.boxes[0, 0].tolist() == [10, 20, 50, 60]
    [note] = examples.notes
    assert note.startswith("EXIF rotates 1 image of all, and it is unknown whether the boxes")
    assert note.endswith(
        f"boxes are for the image as stored or as shown; assumed as shown: {tmp_path}/a.jpg"
    )


def test_relative_boxes_refer_to_the_image_as_shown_with_a_warning(tmp_path):
    folder = yolo_folder(tmp_path, ["0 .375 .25 .5 .25", "0 .5 .5 .5 .5"])
    write_rotated_image(tmp_path / "images/train/0.jpg", 6)
    examples = decoded(dataset.load(folder), "train", shape=(160, 80, 3))
    row = examples.boxes[:, 0].tolist().index([10, 20, 50, 60])
    assert np.abs(np.subtract(find_box(examples.pixels[row]), [10, 20, 50, 60])).max() <= 1
    [note] = examples.notes
    assert note.endswith("images/train/0.jpg")


@pytest.mark.parametrize("which", ["shown", "stored"])
def test_boxes_that_fit_one_orientation_only_determine_it(tmp_path, which):
    """A Pascal VOC annotation without a size, whose box exceeds the image otherwise."""
    box = (10, 100, 50, 140)
    image = write_rotated_image(tmp_path / "a.jpg", 6, box=box)[which == "stored"]
    x0, y0, x1, y1 = find_box(image)
    (tmp_path / "a.xml").write_text(
        "<annotation><filename>a.jpg</filename><object><name>cat</name><bndbox>"
        f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        "</bndbox></object></annotation>"
    )
    examples = decoded(dataset.load(tmp_path), shape=(160, 80, 3))
    assert np.abs(np.subtract(examples.boxes[0, 0], box)).max() <= 1
    assert examples.notes == ()


def make_examples(count=64, side=96):
    """Returns examples of one red box, ten pixels or more from the border, and an ignored one."""
    random = np.random.default_rng(1)
    start = random.integers(10, 40, (count, 2))
    stop = start + random.integers(16, 40, (count, 2))
    edges = np.concatenate([start, stop], 1)
    pixels = np.stack([draw_box((side, side), box) for box in edges])
    truth = np.stack([edges, np.tile([0, 0, 9, 9], (count, 1))], 1).astype("float32")
    labels = np.tile(np.array([2, 1], "int32"), (count, 1))
    ignored = np.tile([False, True], (count, 1))
    return dataset.DetectionExamples(
        "squares", pixels, labels, boxes=truth, ignored=ignored, proposals=truth[:, :1].copy()
    )


@pytest.mark.parametrize(
    "augment",
    [
        pytest.param(level, marks=() if level in ("none", "strong") else pytest.mark.check)
        for level in geometry.LEVELS
    ],
)
def test_boxes_follow_every_augmentation(augment):
    examples = make_examples()
    stream = batches.training(examples, batch_size=16, seed=3, augment=augment)
    num_boxes = 0
    for inputs, _ in stream.epoch(0):
        inputs = {name: value.numpy() for name, value in inputs.items()}
        assert np.array_equal(inputs["proposals"], inputs["boxes"][:, :1])
        for image, box, labels in zip(
            inputs["image"], inputs["boxes"], inputs["labels"], strict=True
        ):
            assert labels[1] == -1  # ignored objects are padding in training
            assert not box[1].any()
            if labels[0] < 0:
                continue
            assert labels[0] == 2
            assert np.abs(box[0] - find_box(image)).max() <= 1.5
            num_boxes += 1
    assert num_boxes > 50
    if augment != "none":
        plain = np.sort(examples.boxes[:, 0], axis=0)
        moved = [x["boxes"].numpy()[:, 0] for x, _ in stream.epoch(0)]
        assert not np.allclose(plain, np.sort(np.concatenate(moved), axis=0))


def test_boxes_of_which_little_is_visible_are_dropped():
    edges = np.array([[-30, 0, 10, 40], [-31, 0, 10, 40], [95, 95, 99, 99], [0, 0, 0, 0]])
    clipped, kept = batches.clip_boxes(edges.astype("float32"), (96, 96))
    assert kept.numpy().tolist() == [True, False, False, False]
    assert clipped.numpy()[0].tolist() == [0, 0, 10, 40]


# Batches


def batch_bytes(stream, epoch, start=0):
    return [
        b"".join(inputs[name].numpy().tobytes() for name in sorted(inputs))
        for inputs, _ in stream.epoch(epoch, start)
    ]


def test_an_epoch_can_be_repeated_and_resumed():
    noise = {"first": 7, "second": 3}

    def make(seed=5):
        return batches.training(
            make_examples(20),
            batch_size=6,
            seed=seed,
            augment="light",
            noise=noise,
            heads=("a", "b"),
        )

    stream = make()
    assert (stream.steps, stream.size) == (3, 6)
    first = batch_bytes(stream, 2)
    assert batch_bytes(make(), 2, 1) == first[1:]
    assert batch_bytes(stream, 3) != first != batch_bytes(make(6), 2)
    inputs, zeros = next(iter(stream.epoch(0)))
    assert inputs["first"].shape == (6, 7)
    assert inputs["second"].shape == (6, 3)
    values = np.concatenate([x["first"].numpy().ravel() for x, _ in stream.epoch(0)])
    assert len(np.unique(values)) == len(values)
    assert 0 <= values.min() < 0.1 < 0.9 < values.max() < 1
    assert {name: value.numpy().tolist() for name, value in zeros.items()} == {
        "a": [0.0] * 6,
        "b": [0.0] * 6,
    }


def test_an_unknown_augmentation_level_is_refused():
    message = refused(batches.training, make_examples(2), batch_size=2, seed=0, augment="much")
    assert message.startswith("no level of augmentation named 'much'")


def test_images_decoded_lazily_give_the_same_batches(tmp_path):
    source = dataset.load(write_faulty_data_set(tmp_path))
    eager, lazy = decoded(source), decoded(source, memory=0, disk=0)
    assert isinstance(eager.pixels, np.ndarray)
    assert not isinstance(lazy.pixels, np.ndarray)
    one, other = (
        batches.training(examples, batch_size=2, seed=0, augment="light")
        for examples in (eager, lazy)
    )
    assert batch_bytes(one, 0) == batch_bytes(other, 0)


@pytest.mark.parametrize(
    ("proposals", "replicas"),
    [
        (True, 2),
        *(pytest.param(*pair, marks=pytest.mark.check) for pair in ((True, 1), (False, 2))),
        (False, 1),
    ],
)
def test_predictions_come_once_and_in_order(proposals, replicas, two_devices):
    import keras
    import tensorflow as tf

    examples = make_examples(9)
    devices = [f"CPU:{n}" for n in range(replicas)]
    with tf.distribute.MirroredStrategy(devices).scope():
        inputs = image = keras.Input((96, 96, 3), name="image")
        regions = keras.Input((1, 4), name="proposals")
        if proposals:
            inputs = {"image": image, "proposals": regions}
        value = keras.ops.mean(keras.ops.cast(image, "float32"), axis=(1, 2))
        model = keras.Model(inputs, {"scores": value, "boxes": regions if proposals else value})
    predictions = batches.predict(model, examples, batch_size=4)
    assert np.allclose(predictions["scores"], examples.pixels.mean((1, 2)), atol=1e-3)
    if proposals:
        assert np.array_equal(predictions["boxes"], examples.proposals)
