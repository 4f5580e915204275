"""Captions: tokenization, caption files, batches, and the verification of claims on `shapes`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tasks.captioning import batches, dataset, metrics, shapes_captions, vocabulary
from tasks.captioning.train_model import RANDOM_INPUT
from tasks.captioning.vocabulary import END, PAD, START, UNKNOWN
from tasks.data import shapes
from zoo.errors import UsageError

SHAPE = (8, 8, 3)


def refused(call, *args, **kwargs):
    """Returns the message of the `UsageError` that a call raises, which must be one line."""
    with pytest.raises(UsageError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def write_images(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        Image.new("RGB", (10, 8), (8 * index,) * 3).save(folder / name)


def captions_of(source, split="all"):
    return {label.name: label.sentences for label in source.splits[split].labels}


# Tokenization


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("A man, riding a horse.", "a man riding a horse"),
        ('Two dogs\' "toys" -- (red & blue)!', "two dogs toys red blue"),
        ("The dog's ball isn't big; it'll roll", "the dog 's ball is n't big it 'll roll"),
        ("A T-shirt at 3.5 p.m", "a t-shirt at 3.5 p.m"),
        ("Caf\u00e9 \u2019s chairs, it\u2019s 10 o'clock", "caf\u00e9 s chairs it 's 10 o'clock"),
        (" . ", ""),
        ("\u4e00\u53ea\u9ed1\u72d7\u5728\u8dd1\u3002", "\u4e00 \u53ea \u9ed1 \u72d7 \u5728 \u8dd1"),
        ("\u72ac\u304c\u30dc\u30fc\u30eb\u30fb\u3092", "\u72ac \u304c \u30dc \u30fc \u30eb \u3092"),
        ("iPhone\u624b\u673a 3\u53f0", "iphone \u624b \u673a 3 \u53f0"),
        ("\uac1c \ud55c \ub9c8\ub9ac", "\uac1c \ud55c \ub9c8\ub9ac"),  # Korean has spaces
        ("dog\U0001f436\U0001f436 \u2764\ufe0f!", "dog \U0001f436 \U0001f436 \u2764\ufe0f"),
        (
            "\U0001f44d\U0001f3fd \U0001f1eb\U0001f1f7\U0001f1ef\U0001f1f5",
            "\U0001f44d\U0001f3fd \U0001f1eb\U0001f1f7 \U0001f1ef\U0001f1f5",
        ),
        ("\U0001f469\u200d\U0001f680s", "\U0001f469\u200d\U0001f680 s"),
    ],
)
def test_a_sentence_is_tokenized(sentence, words):
    assert " ".join(vocabulary.tokenize(sentence)) == words


def test_chinese_and_japanese_are_detokenized_without_spaces():
    spaced = "\u4e00 \u53ea dog \u5728 \u8dd1 \U0001f436"
    assert vocabulary.tokenize(spaced) == spaced.split()
    assert vocabulary.detokenize(spaced) == "\u4e00\u53ea dog \u5728\u8dd1 \U0001f436"
    assert vocabulary.detokenize("a dog 's ball") == "a dog 's ball"


def test_captions_in_chinese_are_compared_by_character():
    """A whole sentence as one token would be correct or wrong as a whole."""
    caption = "\u4e00\u53ea\u9ed1\u72d7\u5728\u8349\u5730\u8dd1"
    reference = "\u4e00\u53ea\u767d\u72d7\u5728\u8349\u5730\u8dd1"
    texts = [" ".join(vocabulary.tokenize(text)) for text in (caption, reference)]
    figures = metrics.compute_metrics(texts[:1], [texts[1:]])
    assert figures["bleu1"] == pytest.approx(7 / 8)
    assert figures["rouge_l"] == pytest.approx(7 / 8)


def test_a_vocabulary_has_special_tokens_first_then_words_by_frequency():
    words = vocabulary.build(["a cat", "A dog.", "a cat ran", "zebras"], min_count=1)
    assert words.words[:4] == ("<pad>", "<start>", "<end>", "<unknown>")
    assert words.words[4:] == ("a", "cat", "dog", "ran", "zebras")
    assert (PAD, START, END, UNKNOWN) == (0, 1, 2, 3)
    rare = vocabulary.build(["a cat", "a dog", "a cat ran"], min_count=2)
    assert rare.words[4:] == ("a", "cat")
    assert rare.word_ids("A cat flew") == [4, 5, UNKNOWN]
    assert "lower --min-count" in refused(vocabulary.build, ["a"], 2)
    assert "must begin with <pad>" in refused(vocabulary.Vocabulary, ("a", "b"))


def test_rows_are_padded_and_truncated():
    words = vocabulary.build(["a b c"])
    rows = words.rows(["a b", "c b a c"], max_sentences=3, length=4)
    assert rows.tolist() == [[1, 4, 5, 2, 0], [1, 6, 5, 4, 6], [0, 0, 0, 0, 0]]
    assert rows.dtype == "int32"
    assert words.sentence(rows[0]) == "a b"
    assert words.sentence([4, 2, 5]) == "a"
    assert words.rows(["a b c"], 1, 4)[0].tolist() == [1, 4, 5, 6, 2]


# Files


@pytest.fixture
def photos(tmp_path):
    write_images(tmp_path / "Images", ["a.jpg", "b.jpg"])
    return tmp_path


LINES = ["a.jpg#0\tA cat .", "a.jpg#1\tOne cat, sitting", "b.jpg#0\tA dog"]
CAPTIONS = {"a.jpg": ("A cat .", "One cat, sitting"), "b.jpg": ("A dog",)}
TEXTS = {  # caption files of all text formats
    "Flickr8k.token.txt": "\n".join(LINES) + "\n",
    "captions.txt": 'image,caption\na.jpg,A cat .\na.jpg,"One cat, sitting"\nb.jpg,A dog\n',
    "captions.csv": "image,caption\na.jpg,A cat .\na.jpg,One cat, sitting\nb.jpg,A dog\n",
    "results.csv": (
        "image_name| comment_number| comment\na.jpg| 0| A cat .\na.jpg| 1| One cat, sitting\n"
        "b.jpg| 0| A dog\n"
    ),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("is_folder", [True, False])
def test_text_files_of_every_format_give_the_same_captions(photos, name, is_folder):
    (photos / name).write_text(TEXTS[name], encoding="utf-8")
    source = dataset.load(photos if is_folder else photos / name)
    assert captions_of(source) == CAPTIONS
    assert [Image.open(item).getpixel((0, 0))[0] for item in source.splits["all"].items] == [0, 8]


def coco_text(**changes):
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 3, "file_name": "b.jpg"}],
        "annotations": [
            {"image_id": 3, "id": 1, "caption": "A dog"},
            {"image_id": 7, "id": 2, "caption": "A cat ."},
            {"image_id": 7, "id": 3, "caption": "One cat, sitting"},
        ],
        **changes,
    }
    return json.dumps(content)


def test_coco_json_gives_the_same_captions(photos):
    (photos / "captions_all.json").write_text(coco_text())
    assert captions_of(dataset.load(photos / "captions_all.json")) == CAPTIONS


def test_files_named_after_splits_are_splits(photos):
    (photos / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        (photos / f"annotations/captions_{split}.json").write_text(coco_text())
        (photos / f"annotations/instances_{split}.json").write_text("{}")
    source = dataset.load(photos)
    assert list(source.splits) == ["train", "val"]
    assert captions_of(source, "val") == CAPTIONS


def test_splits_are_read_from_lists_or_from_a_column(photos):
    (photos / "Flickr8k.token.txt").write_text("\n".join(LINES))
    (photos / "Flickr_8k.trainImages.txt").write_text("a.jpg\n")
    (photos / "Flickr_8k.testImages.txt").write_text("b.jpg\n")
    source = dataset.load(photos)
    assert captions_of(source, "train") == {"a.jpg": CAPTIONS["a.jpg"]}
    assert captions_of(source, "test") == {"b.jpg": CAPTIONS["b.jpg"]}
    (photos / "my.csv").write_text("path,caption,split\na.jpg,a,train\nb.jpg,b,test\n")
    assert set(dataset.load(photos / "my.csv").splits) == {"train", "test"}


def test_missing_images_and_images_without_captions_are_skipped(photos):
    write_images(photos / "Images", ["c.jpg"])
    (photos / "Images/d.jpg").write_bytes(b"")
    lines = [*LINES, "d.jpg#0\tNothing", "e.jpg#0\tNowhere"]
    (photos / "captions.txt").write_text("\n".join(lines))
    source = dataset.load(photos)
    assert captions_of(source) == CAPTIONS
    skipped = {path.rpartition("/")[2]: reason for path, reason in source.skipped}
    assert skipped == {"c.jpg": "it has no caption", "d.jpg": "empty file", "e.jpg": "no such file"}


WRONG = {  # the text of a file: part of the message
    "a.jpg#0\tA cat\nb.jpg#0\t . \n": "has no caption for b.jpg; add one, or remove it",
    "image,caption\na.jpg,\nb.jpg,\n": "has no caption for a.jpg, b.jpg; add one, or remove them",
    "a.jpg#0\tA cat\nb.jpg A dog\n": "line 2: 'b.jpg A dog' is not image.jpg#0, a tab and a",
    "file,label\na.jpg,cat\n": "needed: lines such as image.jpg#0, a tab and a caption; or",
    "image,caption\nx.jpg,A cat\n": "none of the 1 images of",
    "image,caption\n,A cat\n": "line 2: the column image is empty",
    "": "is empty",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_malformed_caption_file_is_refused(photos, text):
    (photos / "captions.csv").write_text(text)
    assert WRONG[text] in refused(dataset.load, photos / "captions.csv")


def test_a_malformed_coco_file_is_refused(photos):
    path = photos / "captions.json"
    for text, wanted in {
        "{": "is not a JSON file",
        coco_text(annotations=[{"image_id": 3, "bbox": [0, 0, 1, 1]}]): "has no captions",
        coco_text(annotations=[{"image_id": 3, "caption": "A dog"}]): "has no caption for a.jpg",
        coco_text(images=[{"id": 3}]): "image {'id': 3} has no file_name",
        coco_text(images=[{"id": [3], "file_name": "a.jpg"}]): "has no id",
        coco_text(images=[{"id": 3, "file_name": "a.jpg"}, 5]): "image 5 has no file_name",
        coco_text(
            annotations=[{"image_id": "x", "caption": "A dog"}]
        ): "no annotation refers to a listed image: image_id 'x'; images have the id 7, 3",
        100_000 * "[": "is not a JSON file",
    }.items():
        path.write_text(text)
        assert wanted in refused(dataset.load, path)


def test_string_identifiers_and_paths_of_another_machine_are_accepted(photos):
    path = photos / "captions.json"
    path.write_text(
        coco_text(
            images=[
                {"id": "7", "file_name": "C:\\photos\\a.jpg"},
                {"id": 3, "file_name": "/home/somebody/b.jpg"},
            ],
        )
    )
    found = captions_of(dataset.load(path))
    assert list(found.values()) == [("A cat .", "One cat, sitting"), ("A dog",)]


def test_an_invalid_file_name_is_skipped(photos):
    path = photos / "captions.json"
    path.write_text(
        coco_text(images=[{"id": 7, "file_name": "a.jpg"}, {"id": 3, "file_name": "\0"}])
    )
    source = dataset.load(path)
    assert list(captions_of(source)) == ["a.jpg"]
    assert source.skipped[0][1] == "no such file"


def test_a_table_may_have_semicolons_but_no_open_quotes(photos):
    path = photos / "captions.csv"
    path.write_text("\ufeffimage;caption\na.jpg;A cat, sitting\nb.jpg;A dog\n", encoding="utf-8")
    assert list(captions_of(dataset.load(path)).values()) == [("A cat, sitting",), ("A dog",)]
    path.write_text('image,caption\na.jpg,"A cat\n' + 200_000 * "x")
    assert "field larger than field limit" in refused(dataset.load, path)


def test_an_unknown_data_set_is_refused_with_the_supported_formats(photos):
    assert "is no such file or folder; needed: shapes" in refused(dataset.load, "shaeps")
    assert "has no captions; needed" in refused(dataset.load, photos)
    for name in ("captions_a.txt", "captions_b.txt"):
        (photos / name).write_text("\n".join(LINES))
    assert "several caption files for all" in refused(dataset.load, photos)


def prepare(photos, **options):
    write_images(photos / "Images", [f"{n}.jpg" for n in range(30)])
    rows = [f"{n}.jpg,a picture of number {n % 3}" for n in range(30)]
    rows += [f"{n}.jpg,number {n % 3}" for n in range(0, 30, 2)]
    (photos / "captions.csv").write_text("\n".join(["image,caption", *rows]))
    source = dataset.load(photos)
    return dataset.prepare(source, ("", "", ""), SHAPE, "stretch", **options)


def test_the_vocabulary_is_that_of_the_training_split(photos):
    found = prepare(photos)
    assert set(found.words.words[4:]) == {"a", "picture", "of", "number", "0", "1", "2"}
    assert found.length == 6
    assert sum(len(part) for part in found.parts) == 30
    assert found.train.labels.shape == (len(found.train), 2, 7)
    assert found.train.facts is None
    assert found.unseen is None
    assert dataset.unknown_word_rate(found.train) == 0
    for pixels, row, own in zip(
        found.train.pixels, found.train.labels, found.train.sentences, strict=True
    ):
        number = round(pixels[0, 0, 0] / 8) % 3
        assert own[0] == f"a picture of number {number}"
        assert found.words.sentence(row[0][1:]) == own[0]
    assert prepare(photos, max_length=2).train.labels.shape[2] == 4
    rare = prepare(photos, min_count=20)
    assert set(rare.words.words[4:]) == {"a", "picture", "of", "number"}
    assert 0.1 < dataset.unknown_word_rate(rare.train) < 0.4
    words = vocabulary.build(["a picture"])
    assert prepare(photos, words=words).words is words


def test_an_unreadable_image_is_left_out_with_its_captions(photos):
    prepare(photos)
    path = photos / "Images/4.jpg"
    path.write_bytes(path.read_bytes()[:400])
    source = dataset.load(photos)
    words = vocabulary.build(["a picture of number 0 1 2"])
    part = dataset.decode_captions(source.splits["all"], words, 6, SHAPE, "stretch")
    assert len(part) == len(part.pixels) == len(part.sentences) == 29
    assert [name.rpartition("/")[2] for name, _ in part.dropped] == ["4.jpg"]


# Batches


def make_examples(count=10, max_captions=3, length=4):
    pixels = np.repeat(np.arange(count, dtype="uint8"), 8 * 8 * 3).reshape(count, *SHAPE)
    labels = np.zeros((count, max_captions, length + 1), "int32")
    for index, rows in enumerate(labels):
        for row in rows[: 1 + index % max_captions]:
            row[:3] = START, 4 + index, END
    return dataset.CaptionedExamples("all", pixels, labels)


def read_epoch(stream, *arguments):
    return [
        ({name: x.numpy() for name, x in inputs.items()}, targets.numpy())
        for inputs, targets in stream.epoch(*arguments)
    ]


def equal(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a[1], b[1]) and all(np.array_equal(a[0][k], b[0][k]) for k in a[0])
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("options", [{}, {"augment": "light"}, {"sampling": (0.0, 0.5)}], ids=str)
def test_epochs_are_functions_of_seed_and_number(options):
    def stream(seed):
        settings = {"batch_size": 4, "captions_per_image": 2, **options}
        return batches.training(make_examples(), seed=seed, **settings)

    first = read_epoch(stream(1), 3)
    assert (stream(1).size, stream(1).steps, len(first)) == (4, 2, 2)
    assert first[0][0]["words"].shape == first[0][1].shape == (4, 2, 4)
    assert equal(first, read_epoch(stream(1), 3))
    assert equal(first[1:], read_epoch(stream(1), 3, 1))
    assert not equal(first, read_epoch(stream(1), 4))
    assert not equal(first, read_epoch(stream(2), 3))


def test_images_keep_their_captions_and_targets_are_shifted_by_one():
    stream = batches.training(make_examples(), batch_size=10, captions_per_image=2, seed=0)
    [(inputs, targets)] = read_epoch(stream, 0)
    for image, words, next_words in zip(inputs["image"], inputs["words"], targets, strict=True):
        index = int(image[0, 0, 0])
        own = min(2, 1 + index % 3)  # captions of the image, which come before padding
        assert words[:own].tolist() == [[START, 4 + index, END, PAD]] * own
        assert next_words[:own].tolist() == [[4 + index, END, PAD, PAD]] * own
        assert (words[own:] == PAD).all()
        assert (next_words[own:] == PAD).all()


def test_each_epoch_has_other_captions_of_an_image():
    part = make_examples(max_captions=5)
    part.labels[:, :, 1] = 4 + np.arange(5)
    part.labels[:, :, 0] = START
    stream = batches.training(part, batch_size=10, captions_per_image=2, seed=0)
    seen = [read_epoch(stream, number)[0][0]["words"][:, :, 1] for number in range(12)]
    for words in seen:
        assert (words[:, 0] != words[:, 1]).all()
    assert {int(word) for words in seen for word in words.reshape(-1)} == {4, 5, 6, 7, 8}


def test_the_rate_of_scheduled_sampling_is_that_of_the_epoch():
    part = make_examples(100, length=50)
    stream = batches.training(
        part, batch_size=100, captions_per_image=3, seed=0, sampling=(0.0, 0.25)
    )
    for number, rate in ((0, 0.0), (1, 0.25), (7, 0.25)):
        [(inputs, _)] = read_epoch(stream, number)
        random = inputs[RANDOM_INPUT]
        assert (random >= 0).mean() == pytest.approx(rate, abs=0.02)
        assert set(np.unique(random[random < 0])) <= {-1.0}
        assert (random < 1).all()


# Claims


def test_the_captions_of_shapes_are_correct_in_all_claims():
    source = dataset.load("shapes")
    assert {name: len(part) for name, part in source.splits.items()} == dict(shapes.SPLITS)
    kinds = set()
    for name in ("train", "unseen"):
        for label in source.splits[name].labels[:40]:
            assert label.sentences == shapes.describe(name, label.index)
            for sentence in label.sentences:
                found = shapes_captions.check_claims(sentence, label.facts)
                assert found, sentence
                assert all(correct for _, correct in found), sentence
                kinds |= {kind for kind, _ in found}
    assert kinds == set(shapes_captions.CLAIM_KINDS)


def make_object(name, size="small", centre=(64, 64), hidden_by=()):
    colour, shape = name.split()
    radius = {"small": 10, "medium": 16, "large": 26}[size]
    return shapes.SceneObject(shape, colour, size, radius, 0, centre, 0.0, hidden_by)


STAR = make_object("red star", "large", (40, 60), (1,))
RING = make_object("blue ring", "small", (70, 65))
ALONE = make_object("green cross", "medium", (64, 90))
WRONG_CLAIMS = [  # scene, sentence, kinds of the wrong claims
    ((STAR, RING), "the red star is small", ["size"]),
    ((STAR, RING), "the red ring is large", ["shape"]),
    ((STAR, RING), "the blue star is large", ["colour"]),
    ((STAR, RING), "the red star is right of the blue ring", ["relation"]),
    ((STAR, RING), "the red star is above the blue ring", ["relation"]),
    ((STAR, RING), "the red star is in front of the blue ring", ["relation"]),
    ((STAR, RING), "the red star is left of the blue cross", ["shape"]),
    ((STAR, RING), "the blue ring is left of the red star", ["relation"]),
    ((STAR, RING), "the blue ring is the largest shape", ["rank"]),
    ((STAR, RING), "the red star is the only shape", ["rank"]),
    ((STAR, RING), "there are three shapes", ["number"]),
    ((STAR, RING), "there are one shape", ["number"]),
    ((STAR, RING), "there is one green shape", ["number"]),
    ((STAR, RING), "a large red star", ["number"]),
    ((STAR, RING), "a small blue ring with a large red star", ["relation"]),
    ((STAR, RING), "a large red star with a small red ring", ["colour"]),
    ((ALONE,), "the green cross is at the top", ["relation"]),
    ((ALONE,), "the green cross is in the middle", ["relation"]),
    ((ALONE,), "the green cross is left of the red star", ["colour", "shape", "relation"]),
]


@pytest.mark.parametrize(("objects", "sentence", "wrong"), WRONG_CLAIMS, ids=lambda x: str(x)[:40])
def test_wrong_claims_are_found_by_kind(objects, sentence, wrong):
    found = shapes_captions.check_claims(sentence, objects)
    assert [kind for kind, correct in found if not correct] == wrong


@pytest.mark.parametrize("sentence", ["", "a red", "the red star", "a large red star with a ring"])
def test_a_sentence_outside_the_grammar_has_no_claims(sentence):
    assert shapes_captions.check_claims(sentence, (STAR, RING)) is None


def test_claim_accuracy_is_the_share_of_correct_claims():
    captions = ["the red star is small", "the red star is large", "the", "the blue ring is small"]
    found = shapes_captions.claim_accuracy(captions, [(STAR, RING)] * 4)
    assert found == {
        "colour_accuracy": 1.0,
        "shape_accuracy": 1.0,
        "size_accuracy": pytest.approx(2 / 3),
        "sentence_accuracy": 0.5,
    }
