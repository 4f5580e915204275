"""Metrics of captions against published implementations, and the sections of a report."""

from __future__ import annotations

import types

import numpy as np
import pytest

from tasks.captioning import metrics, report
from tasks.report.evaluation_report import EvaluatedModel

CAPTIONS = [
    "a man is riding a horse on the beach",
    "two dogs run in the grass",
    "the the the the the cat",
    "a large red circle with a small blue ring",
    "a white plate with rice and a spoon and a fork on a wooden table near a window",
]
REFERENCES = [
    [
        "a man rides a brown horse on the beach",
        "the man is riding a horse near the sea",
        "a person on a horse by the ocean",
    ],
    ["two dogs play with a red ball in the grass", "a pair of dogs run after a ball"],
    ["the the cat sat on the mat", "there is a cat on a mat", "a cat sits"],
    ["a large red circle with a small blue star"],
    [
        "a plate of food with rice and beans on a table",
        "rice and beans on a white plate",
        "food on a table",
        "a dinner plate with rice",
    ],
]
# By pycocoevalcap 1.2: Bleu(4), Rouge() and Cider(), of which the last is CIDEr-D. Its BLEU adds
# 1e-15 to counts; those of NLTK 3.10 (corpus_bleu) and of sacreBLEU 2.6 (tokenize and smooth_method
# "none") agree with what is not smoothed to the last digit.
BLEU = [0.75, 0.686243566496721, 0.5831285692245758, 0.4682386416959071]
ROUGE = [0.77777778, 0.59803922, 0.45522388, 0.88888889, 0.60246914]
CIDER = [3.30195562, 2.00749612, 1.22027591, 8.42401226, 0.3817421]


def test_metrics_match_published_implementations():
    captions, references = metrics.split(CAPTIONS, REFERENCES)
    assert metrics.bleu(captions, references) == pytest.approx(BLEU, abs=1e-9)
    np.testing.assert_allclose(metrics.rouge_l(captions, references), ROUGE, atol=1e-8)
    np.testing.assert_allclose(metrics.cider(captions, references), CIDER, atol=1e-8)
    found = metrics.compute_metrics(CAPTIONS, REFERENCES)
    assert list(found) == list(metrics.METRIC_NAMES)
    assert found["bleu4"] == pytest.approx(BLEU[3])
    assert found["rouge_l"] == pytest.approx(np.mean(ROUGE))
    assert found["cider"] == pytest.approx(np.mean(CIDER))


def test_perfect_captions_score_one_and_ten():
    captions = [each[0] for each in REFERENCES]
    found = metrics.compute_metrics(captions, [[each] for each in captions])
    assert found["bleu4"] == found["rouge_l"] == pytest.approx(1)
    assert found["cider"] == pytest.approx(10)


def test_empty_captions_score_zero():
    found = metrics.compute_metrics(["", ""], [["a cat"], ["a dog ran"]])
    assert set(found.values()) == {0.0}
    assert metrics.compute_metrics(["x y z w"], [["a b c d"]])["bleu1"] == 0


def test_the_brevity_penalty_uses_the_closest_reference():
    captions, references = metrics.split(
        ["a cat", "a"], [["a cat", "a cat sat on it"], ["a dog", "a"]]
    )
    assert metrics.bleu(captions, references)[0] == 1  # closest lengths 2 and 1: no penalty
    captions, references = metrics.split(
        ["a cat"], [["a cat sat down", "a cat that sat on the mat"]]
    )
    assert metrics.bleu(captions, references)[0] == pytest.approx(np.exp(1 - 4 / 2))
    captions, references = metrics.split(
        ["a b c"], [["a b", "a b c d"]]
    )  # equally close: the shorter
    assert metrics.bleu(captions, references)[0] == 1


@pytest.mark.parametrize("count", [1, 4])
def test_the_interval_of_identical_captions_has_a_width(count):
    found = metrics.metrics_with_intervals(["a b c d e"] * count, [["a b c d f"]] * count, seed=0)
    same = 0.025 ** (1 / count)
    assert found["bleu4_low"] == pytest.approx(same * found["bleu4"])
    assert found["bleu4_high"] == pytest.approx(same * found["bleu4"] + 1 - same)
    assert found["cider_low"] == pytest.approx(same * found["cider"])
    assert found["cider_high"] == pytest.approx(same * found["cider"] + 10 * (1 - same))


def test_intervals_contain_the_metrics_and_depend_on_the_seed():
    captions, references = CAPTIONS * 8, REFERENCES * 8
    found = metrics.metrics_with_intervals(captions, references, seed=1)
    assert found["bleu4_low"] < found["bleu4"] < found["bleu4_high"]
    assert found["cider_low"] < found["cider"] < found["cider_high"]
    assert found == metrics.metrics_with_intervals(captions, references, seed=1)
    assert (
        found["bleu4_low"]
        != metrics.metrics_with_intervals(captions, references, seed=2)["bleu4_low"]
    )
    # The interval matches one of metrics computed again for each resample.
    random, slow = np.random.default_rng(0), []
    for _ in range(200):
        rows = random.integers(0, len(captions), len(captions))
        slow.append(
            metrics.bleu(
                *metrics.split([captions[i] for i in rows], [references[i] for i in rows])
            )[3]
        )
    low, high = np.quantile(slow, (0.025, 0.975))
    assert found["bleu4_low"] == pytest.approx(low, abs=0.03)
    assert found["bleu4_high"] == pytest.approx(high, abs=0.03)


# Report


def make_examples(count=6, side=16, channels=3):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, side, side, channels), dtype="uint8")
    return types.SimpleNamespace(pixels=pixels, sentences=REFERENCES[:count] + REFERENCES[:1])


def test_an_attention_overlay_is_bright_and_red_at_its_maximum():
    image = np.full((16, 16, 3), 200, "uint8")
    attention_map = np.zeros((4, 4))
    attention_map[0, 3] = 1
    found = report.overlay_attention(image, attention_map).astype(int)
    assert found.shape == (256, 256, 3)
    assert found[16:48, 208:240].mean() > 2 * found[160:, :128].mean()
    corner = found[16:48, 208:240].mean(axis=(0, 1))
    assert corner[0] > corner[2]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_attention_grid_has_a_panel_per_word(channels):
    words = ["a", "large", "red", "circle", "with", "a", "small", "ring"]
    maps = np.random.default_rng(0).random((len(words), 2, 2))
    image = make_examples(channels=channels).pixels[0]
    found = report.attention_grid(image, words, maps)
    assert found.dtype == "uint8"
    assert found.shape[1] == 6 * 256
    assert found.shape[0] == 2 * (256 + 24)


def test_captions_are_written_below_images():
    found = report.caption_images(make_examples().pixels, make_examples().sentences)
    assert found.shape[0] == 6
    assert found.shape[2:] == (256, 3)
    assert (found[:, 15, 31] == make_examples().pixels[:, 0, 1]).all()
    assert (found[4, 256:] < 100).any()


@pytest.mark.parametrize("has_attention", [True, False])
def test_sections_show_worst_and_best_captions_and_attention_maps(has_attention):
    examples = make_examples()
    captions = [*CAPTIONS, "<b>a man</b>"]
    chosen = report.select_examples(examples, captions)
    assert len(chosen) == 4
    maps = [np.ones((len(captions[i].split()), 2, 2)) for i in chosen] if has_attention else None
    found = dict(report.sections(examples, captions, np.full(6, -1.0), chosen, maps))
    titles = ["Most frequent captions", "Worst captions", "Best captions"]
    assert list(found) == titles + ["Attention maps"] * has_attention
    assert "<b>a man" not in "".join(found.values())
    assert "36.8%, CIDEr-D" in found["Worst captions"]
    assert "image 4\n" in found["Worst captions"]
    examples.title = "d/{}.jpg".format
    found = dict(report.sections(examples, captions, np.full(6, -1.0), chosen, maps))
    assert "d/4.jpg\n" in found["Worst captions"]
    assert CAPTIONS[3] in found["Best captions"]


def test_near_duplicates_are_left_out_of_a_second_cider():
    found = metrics.deduplicated_cider(CAPTIONS, REFERENCES, np.array([0]))
    expected = metrics.compute_metrics(CAPTIONS[1:], REFERENCES[1:])["cider"]
    assert found == {"deduplicated_cider": pytest.approx(expected)}
    assert expected != metrics.compute_metrics(CAPTIONS, REFERENCES)["cider"]
    assert metrics.deduplicated_cider(CAPTIONS, REFERENCES, []) == {}
    figures = {"bleu4": 0.5, "cider": 1.25, "deduplicated_cider": 0.75}
    text = report.lead(EvaluatedModel("nic", "shapes", 9, 2000, 1), figures)
    assert text.endswith("and without it the CIDEr-D is 0.75.")


def test_the_lead_has_the_main_metrics():
    figures = {"bleu4": 0.5, "cider": 1.25}
    text = report.lead(EvaluatedModel("nic", "shapes", 1, 2000), figures)
    assert "1 test image of shapes with a BLEU-4 of 0.5 and a CIDEr-D of 1.25" in text
    assert "it was trained on 2,000 other images" in text
