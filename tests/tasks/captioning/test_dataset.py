"""Captions: how files are read, words numbered, batches made, and what is true of a sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tasks.captioning import batches as captioning_batches
from tasks.captioning import dataset, metrics, shapes_captions, vocabulary
from tasks.captioning.vocabulary import END, PAD, START, UNKNOWN
from tasks.data import shapes
from zoo.errors import UsageError

SHAPE = (8, 8, 3)


def refused(call, *args, **kwargs):
    """What a call is refused with, one line."""
    with pytest.raises(UsageError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def draw(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        Image.new("RGB", (10, 8), (8 * index,) * 3).save(folder / name)


def told(source, split="all"):
    part = source.splits[split]
    return {label.name: label.sentences for label in part.labels}


# Words


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
def test_a_sentence_becomes_words(sentence, words):
    assert " ".join(vocabulary.tokenize(sentence)) == words


def test_words_without_spaces_are_written_without_them():
    spaced = "\u4e00 \u53ea dog \u5728 \u8dd1 \U0001f436"
    assert vocabulary.tokenize(spaced) == spaced.split()
    assert vocabulary.detokenize(spaced) == "\u4e00\u53ea dog \u5728\u8dd1 \U0001f436"
    assert vocabulary.detokenize("a dog 's ball") == "a dog 's ball"


def test_captions_in_chinese_share_words_with_their_references():
    """A whole sentence as one word would be right or wrong as a whole."""
    said = "\u4e00\u53ea\u9ed1\u72d7\u5728\u8349\u5730\u8dd1"
    reference = "\u4e00\u53ea\u767d\u72d7\u5728\u8349\u5730\u8dd1"
    texts = [" ".join(vocabulary.tokenize(text)) for text in (said, reference)]
    figures = metrics.compute_metrics(texts[:1], [texts[1:]])
    assert figures["bleu1"] == pytest.approx(7 / 8)
    assert figures["rouge_l"] == pytest.approx(7 / 8)


def test_a_vocabulary_has_marks_first_then_words_by_frequency():
    words = vocabulary.build(["a cat", "A dog.", "a cat ran", "zebras"], min_count=1)
    assert words.words[:4] == ("<pad>", "<start>", "<end>", "<unknown>")
    assert words.words[4:] == ("a", "cat", "dog", "ran", "zebras")
    assert (PAD, START, END, UNKNOWN) == (0, 1, 2, 3)
    rare = vocabulary.build(["a cat", "a dog", "a cat ran"], min_count=2)
    assert rare.words[4:] == ("a", "cat")
    assert rare.word_ids("A cat flew") == [4, 5, UNKNOWN]
    assert "lower --least-count" in refused(vocabulary.build, ["a"], 2)
    assert "begins with <pad>" in refused(vocabulary.Vocabulary, ("a", "b"))


def test_rows_are_padded_and_cut():
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
    draw(tmp_path / "Images", ["a.jpg", "b.jpg"])
    return tmp_path


LINES = ["a.jpg#0\tA cat .", "a.jpg#1\tOne cat, sitting", "b.jpg#0\tA dog"]
CAPTIONS = {"a.jpg": ("A cat .", "One cat, sitting"), "b.jpg": ("A dog",)}
TEXTS = {  # what files of captions look like
    "Flickr8k.token.txt": "\n".join(LINES) + "\n",
    "captions.txt": 'image,caption\na.jpg,A cat .\na.jpg,"One cat, sitting"\nb.jpg,A dog\n',
    "captions.csv": "image,caption\na.jpg,A cat .\na.jpg,One cat, sitting\nb.jpg,A dog\n",
    "results.csv": (
        "image_name| comment_number| comment\na.jpg| 0| A cat .\na.jpg| 1| One cat, sitting\n"
        "b.jpg| 0| A dog\n"
    ),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("whole", [True, False])
def test_text_of_every_layout_says_the_same(photos, name, whole):
    (photos / name).write_text(TEXTS[name], encoding="utf-8")
    source = dataset.load(photos if whole else photos / name)
    assert told(source) == CAPTIONS
    assert [Image.open(item).getpixel((0, 0))[0] for item in source.splits["all"].items] == [0, 8]


def coco(photos, **changes):
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


def test_coco_says_the_same(photos):
    (photos / "captions_all.json").write_text(coco(photos))
    assert told(dataset.load(photos / "captions_all.json")) == CAPTIONS


def test_files_called_after_splits_are_splits(photos):
    (photos / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        (photos / f"annotations/captions_{split}.json").write_text(coco(photos))
        (photos / f"annotations/instances_{split}.json").write_text("{}")
    source = dataset.load(photos)
    assert list(source.splits) == ["train", "val"]
    assert told(source, "val") == CAPTIONS


def test_splits_stand_in_lists_or_in_a_column(photos):
    (photos / "Flickr8k.token.txt").write_text("\n".join(LINES))
    (photos / "Flickr_8k.trainImages.txt").write_text("a.jpg\n")
    (photos / "Flickr_8k.testImages.txt").write_text("b.jpg\n")
    source = dataset.load(photos)
    assert told(source, "train") == {"a.jpg": CAPTIONS["a.jpg"]}
    assert told(source, "test") == {"b.jpg": CAPTIONS["b.jpg"]}
    (photos / "my.csv").write_text("path,caption,split\na.jpg,a,train\nb.jpg,b,test\n")
    assert set(dataset.load(photos / "my.csv").splits) == {"train", "test"}


def test_what_is_not_there_is_passed_over_and_named(photos):
    draw(photos / "Images", ["c.jpg"])
    (photos / "Images/d.jpg").write_bytes(b"")
    lines = [*LINES, "d.jpg#0\tNothing", "e.jpg#0\tNowhere"]
    (photos / "captions.txt").write_text("\n".join(lines))
    source = dataset.load(photos)
    assert told(source) == CAPTIONS
    skipped = {path.rpartition("/")[2]: reason for path, reason in source.skipped}
    assert skipped == {"c.jpg": "it has no caption", "d.jpg": "empty file", "e.jpg": "no such file"}


WRONG = {  # what is in a file, and what is said of it
    "a.jpg#0\tA cat\nb.jpg#0\t . \n": "has no caption for b.jpg; write one, or take it out",
    "image,caption\na.jpg,\nb.jpg,\n": "has no caption for a.jpg, b.jpg; write one, or take them",
    "a.jpg#0\tA cat\nb.jpg A dog\n": "line 2: 'b.jpg A dog' is not image.jpg#0, a tab and a",
    "file,label\na.jpg,cat\n": "needed: lines such as image.jpg#0, a tab and a caption; or",
    "image,caption\nx.jpg,A cat\n": "none of the 1 images of",
    "image,caption\n,A cat\n": "line 2: no image",
    "": "is empty",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_in_a_file_is_said(photos, text):
    (photos / "captions.csv").write_text(text)
    assert WRONG[text] in refused(dataset.load, photos / "captions.csv")


def test_what_is_wrong_in_coco_is_said(photos):
    path = photos / "captions.json"
    for text, wanted in {
        "{": "is no JSON file",
        coco(photos, annotations=[{"image_id": 3, "bbox": [0, 0, 1, 1]}]): "has no captions",
        coco(photos, annotations=[{"image_id": 3, "caption": "A dog"}]): "has no caption for a.jpg",
        coco(photos, images=[{"id": 3}]): "image {'id': 3} has no file_name",
        coco(photos, images=[{"id": [3], "file_name": "a.jpg"}]): "has no id",
        coco(photos, images=[{"id": 3, "file_name": "a.jpg"}, 5]): "image 5 has no file_name",
        coco(
            photos, annotations=[{"image_id": "x", "caption": "A dog"}]
        ): "no annotation is of an image that it lists: image_id 'x'; images have the id 7, 3",
        100_000 * "[": "is no JSON file",
    }.items():
        path.write_text(text)
        assert wanted in refused(dataset.load, path)


def test_identifiers_as_text_and_folders_of_another_machine_are_understood(photos):
    path = photos / "captions.json"
    path.write_text(
        coco(
            photos,
            images=[
                {"id": "7", "file_name": "C:\\photos\\a.jpg"},
                {"id": 3, "file_name": "/home/somebody/b.jpg"},
            ],
        )
    )
    found = told(dataset.load(path))
    assert list(found.values()) == [("A cat .", "One cat, sitting"), ("A dog",)]


def test_a_name_that_no_file_can_have_is_passed_over(photos):
    path = photos / "captions.json"
    path.write_text(
        coco(photos, images=[{"id": 7, "file_name": "a.jpg"}, {"id": 3, "file_name": "\0"}])
    )
    source = dataset.load(path)
    assert list(told(source)) == ["a.jpg"]
    assert source.skipped[0][1] == "no such file"


def test_a_table_may_have_semicolons_and_must_close_its_quotes(photos):
    path = photos / "captions.csv"
    path.write_text("\ufeffimage;caption\na.jpg;A cat, sitting\nb.jpg;A dog\n", encoding="utf-8")
    assert list(told(dataset.load(path)).values()) == [("A cat, sitting",), ("A dog",)]
    path.write_text('image,caption\na.jpg,"A cat\n' + 200_000 * "x")
    assert "field larger than field limit" in refused(dataset.load, path)


def test_a_name_of_nothing_is_refused_with_a_way_out(photos):
    assert "is no such file or folder; needed: shapes" in refused(dataset.load, "shaeps")
    assert "has no captions; needed" in refused(dataset.load, photos)
    for name in ("captions_a.txt", "captions_b.txt"):
        (photos / name).write_text("\n".join(LINES))
    assert "several files of captions for all" in refused(dataset.load, photos)


def data(photos, **options):
    draw(photos / "Images", [f"{n}.jpg" for n in range(30)])
    rows = [f"{n}.jpg,a picture of number {n % 3}" for n in range(30)]
    rows += [f"{n}.jpg,number {n % 3}" for n in range(0, 30, 2)]
    (photos / "captions.csv").write_text("\n".join(["image,caption", *rows]))
    source = dataset.load(photos)
    return dataset.data(source, ("", "", ""), SHAPE, "stretch", **options)


def test_a_vocabulary_is_of_what_is_learned_from(photos):
    found = data(photos)
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
    assert data(photos, longest=2).train.labels.shape[2] == 4
    rare = data(photos, min_count=20)
    assert set(rare.words.words[4:]) == {"a", "picture", "of", "number"}
    assert 0.1 < dataset.unknown_word_rate(rare.train) < 0.4
    words = vocabulary.build(["a picture"])
    assert data(photos, words=words).words is words


def test_an_unreadable_image_goes_with_its_captions(photos):
    data(photos)
    path = photos / "Images/4.jpg"
    path.write_bytes(path.read_bytes()[:400])
    source = dataset.load(photos)
    words = vocabulary.build(["a picture of number 0 1 2"])
    part = dataset.examples(source.splits["all"], words, 6, SHAPE, "stretch")
    assert len(part) == len(part.pixels) == len(part.sentences) == 29
    assert [name.rpartition("/")[2] for name, _ in part.dropped] == ["4.jpg"]


# Batches


def examples(count=10, max_sentences=3, length=4):
    random = np.random.default_rng(0)
    pixels = np.repeat(np.arange(count, dtype="uint8"), 8 * 8 * 3).reshape(count, *SHAPE)
    labels = np.zeros((count, max_sentences, length + 1), "int32")
    for index, rows in enumerate(labels):
        for row in rows[: 1 + index % max_sentences]:
            row[:3] = START, 4 + index, END
    assert random is not None
    return dataset.CaptionedExamples("all", pixels, labels)


def batches(stream, *arguments):
    return [
        ({name: x.numpy() for name, x in given.items()}, after.numpy())
        for given, after in stream.epoch(*arguments)
    ]


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a[1], b[1]) and all(np.array_equal(a[0][k], b[0][k]) for k in a[0])
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("options", [{}, {"augment": "light"}, {"sampling": (0.0, 0.5)}], ids=str)
def test_epochs_are_functions_of_seed_and_number(options):
    def stream(seed):
        options_ = {"batch_size": 4, "sentences": 2, **options}
        return captioning_batches.training_batches(examples(), seed=seed, **options_)

    first = batches(stream(1), 3)
    assert (stream(1).size, stream(1).steps, len(first)) == (4, 2, 2)
    assert first[0][0]["words"].shape == first[0][1].shape == (4, 2, 4)
    assert same(first, batches(stream(1), 3))
    assert same(first[1:], batches(stream(1), 3, 1))
    assert not same(first, batches(stream(1), 4))
    assert not same(first, batches(stream(2), 3))


def test_images_keep_their_words_and_what_comes_next_is_one_further():
    stream = captioning_batches.training_batches(examples(), batch_size=10, sentences=2, seed=0)
    [(given, after)] = batches(stream, 0)
    for image, words, nexts in zip(given["image"], given["words"], after, strict=True):
        index = int(image[0, 0, 0])
        own = min(2, 1 + index % 3)  # sentences that it has, which come before what is none
        assert words[:own].tolist() == [[START, 4 + index, END, PAD]] * own
        assert nexts[:own].tolist() == [[4 + index, END, PAD, PAD]] * own
        assert (words[own:] == PAD).all()
        assert (nexts[own:] == PAD).all()


def test_of_many_sentences_others_are_learned_each_epoch():
    part = examples(most=5)
    part.labels[:, :, 1] = 4 + np.arange(5)
    part.labels[:, :, 0] = START
    stream = captioning_batches.training_batches(part, batch_size=10, sentences=2, seed=0)
    seen = [batches(stream, number)[0][0]["words"][:, :, 1] for number in range(12)]
    for words in seen:
        assert (words[:, 0] != words[:, 1]).all()
    assert {int(word) for words in seen for word in words.reshape(-1)} == {4, 5, 6, 7, 8}


def test_the_share_of_sampled_words_is_that_of_the_epoch():
    part = examples(100, length=50)
    stream = captioning_batches.training_batches(
        part, batch_size=100, sentences=3, seed=0, sampling=(0.0, 0.25)
    )
    for number, share in ((0, 0.0), (1, 0.25), (7, 0.25)):
        [(given, _)] = batches(stream, number)
        draws = given["draws"]
        assert (draws >= 0).mean() == pytest.approx(share, abs=0.02)
        assert set(np.unique(draws[draws < 0])) <= {-1.0}
        assert (draws < 1).all()


# What is true of a sentence


def test_sentences_of_shapes_are_right_and_the_lists_of_splits_are_whole():
    source = dataset.load("shapes")
    assert {name: len(part) for name, part in source.splits.items()} == dict(shapes.SPLITS)
    kinds = set()
    for name in ("train", "unseen"):
        for label in source.splits[name].labels[:100]:
            assert label.sentences == shapes.describe(name, label.index)
            for sentence in label.sentences:
                found = shapes_captions.check_claims(sentence, label.facts)
                assert found, sentence
                assert all(right for _, right in found), sentence
                kinds |= {kind for kind, _ in found}
    assert kinds == set(shapes_captions.CLAIM_KINDS)


def thing(name, size="small", centre=(64, 64), hidden_by=(), radius=None):
    colour, shape = name.split()
    radius = radius or {"small": 10, "medium": 16, "large": 26}[size]
    return shapes.SceneObject(shape, colour, size, radius, 0, centre, 0.0, hidden_by)


STAR, RING = thing("red star", "large", (40, 60), (1,)), thing("blue ring", "small", (70, 65))
ALONE = thing("green cross", "medium", (64, 90))
LIES = [  # scene, sentence, claims that are wrong
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


@pytest.mark.parametrize(("things", "sentence", "wrong"), LIES, ids=lambda x: str(x)[:40])
def test_lies_are_found_and_named(things, sentence, wrong):
    found = shapes_captions.check_claims(sentence, things)
    assert [kind for kind, right in found if not right] == wrong


@pytest.mark.parametrize("sentence", ["", "a red", "the red star", "a large red star with a ring"])
def test_what_is_no_sentence_claims_nothing(sentence):
    assert shapes_captions.check_claims(sentence, (STAR, RING)) is None


def test_rates_are_shares_of_claims():
    said = ["the red star is small", "the red star is large", "the", "the blue ring is small"]
    found = shapes_captions.claim_accuracy(said, [(STAR, RING)] * 4)
    assert found == {
        "colour_accuracy": 1.0,
        "shape_accuracy": 1.0,
        "size_accuracy": pytest.approx(2 / 3),
        "sentence_accuracy": 0.5,
    }
