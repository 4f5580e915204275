"""The scores of segmenters and detectors that maps explain."""

from __future__ import annotations

import keras
import numpy as np

from tasks.explain import methods, targets

SIDE = 14


def test_the_score_of_a_class_is_its_mean_logit_over_its_own_pixels():
    image = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(image, keras.layers.Conv2D(3, 1, use_bias=False)(image))
    model.set_weights([np.eye(3)[None, None]])
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3)).astype("float32")
    found = targets.of_segmenter(model, (SIDE, SIDE, 3)).logits(pixels)
    for picture, scores in zip(pixels, found, strict=True):
        largest = picture.argmax(-1)
        expected = [picture[largest == label, label].mean() for label in range(3)]
        np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_a_class_without_pixels_has_no_score():
    image = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(image, keras.layers.Conv2D(3, 1, use_bias=False)(image))
    model.set_weights([np.eye(3)[None, None]])
    pixels = np.zeros((1, SIDE, SIDE, 3), "float32")
    pixels[..., 0] = 9
    assert targets.of_segmenter(model, (SIDE, SIDE, 3)).logits(pixels).tolist() == [[9, 0, 0]]


def test_the_score_of_a_box_is_its_best_overlap_times_score():
    found = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 10]], "float32")
    scores, labels = np.array([0.5, 0.9, 1.0]), np.array([1, 1, 2])
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], "float32")
    explained = targets.of_boxes(lambda image: (found, scores, labels), boxes, [1, 1])
    np.testing.assert_allclose(explained.logits(np.zeros((2, 4, 4, 3))), [[0.5, 0]] * 2)


def test_nothing_found_scores_nothing():
    none = np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)
    explained = targets.of_boxes(lambda image: none, np.array([[0, 0, 5, 5]]), [0])
    assert explained.logits(np.zeros((1, 4, 4, 3))).tolist() == [[0]]


def test_covering_an_object_explains_its_box():
    def detect(image):
        bright = image[:4, :4].mean() / 255
        return np.array([[0, 0, 4, 4]], "float32"), np.array([bright]), np.array([0])

    image = np.zeros((SIDE, SIDE, 3), "uint8")
    image[:4, :4] = 255
    explained = targets.of_boxes(detect, np.array([[0, 0, 4, 4]], "float32"), [0])
    assert methods.default_method(explained) == "occlusion"
    (saliency,) = methods.occlusion(explained, image[None], [0])
    assert saliency[:2, :2].min() > 0.1
    assert saliency[2:, 2:].max() == 0
