"""The output of a detector: boxes, scores and classes after non-maximum suppression."""

from __future__ import annotations

import keras

from zoo.parts import boxes


@keras.saving.register_keras_serializable("zoo", name="Detections")
class DecodeDetections(keras.layers.Layer):
    """Decodes reference boxes, class logits and box deltas into detections.

    A reference may give several detections, one per class. The best `candidates` are decoded,
    clipped to the image, and reduced by non-maximum suppression within each class.

    Args:
        count: the maximum number of detections per image.
        candidates: the number of pairs of reference and class that are decoded.
        least: minimum score of a detection.
        threshold: IoU above which the lower-scoring of two boxes of a class is dropped.
        ground: whether the first logit is that of background, so that scores are a softmax;
            otherwise each score is a sigmoid.
        deviations: the `box_std` of `boxes.decode_boxes`.

    Call arguments:
        references: `(1 or batch, n, 4)`, anchors or regions; those without area are padding.
        logits: `(batch, n, classes)`, or `(batch, n, 1 + classes)` with `ground`.
        deltas: `(batch, n, 4)`, or `(batch, n, classes, 4)` where each class has its own box.
        image: `(batch, height, width, channels)`, of which only height and width are used.

    Returns:
        A dict of `boxes`, float32 `(batch, count, 4)`, within the image; `scores`, float32
        `(batch, count)` in [0, 1], in descending order, padded with 0; `classes`, int32
        `(batch, count)`, padded with -1.
    """

    def __init__(
        self,
        count=100,
        candidates=300,
        least=0.05,
        threshold=0.5,
        ground=True,
        deviations=boxes.REGION_BOX_STD,
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.count, self.candidates = count, candidates
        self.least, self.threshold = least, threshold
        self.ground, self.deviations = ground, tuple(deviations)

    def call(self, references, logits, deltas, image):
        ops = keras.ops
        logits, deltas = ops.stop_gradient(logits), ops.stop_gradient(deltas)
        scores = ops.softmax(logits)[..., 1:] if self.ground else ops.sigmoid(logits)
        real = ops.logical_and(scores >= self.least, boxes.box_area(references)[..., None] > 0)
        scores = ops.where(real, scores, boxes.PADDING_SCORE)
        number, classes = ops.shape(scores)[1], scores.shape[-1]
        scores, best = boxes.top_scores(
            ops.reshape(scores, (-1, number * classes)), self.candidates
        )
        rows, class_ids = best // classes, best % classes
        if len(deltas.shape) == 4:
            chosen = boxes.gather(ops.reshape(deltas, (-1, number * classes, 4)), best)
        else:
            chosen = boxes.gather(deltas, rows)
        found = boxes.decode_boxes(chosen, boxes.gather(references, rows), self.deviations)
        found = boxes.clip_boxes(found, *ops.shape(image)[1:3])
        return self._suppress(found, scores, class_ids)

    def compute_output_spec(self, references, logits, deltas, image):
        shape, tensor = (logits.shape[0], self.count), keras.KerasTensor
        return {
            "boxes": tensor((*shape, 4), "float32"),
            "scores": tensor(shape, "float32"),
            "classes": tensor(shape, "int32"),
        }

    def get_config(self):
        own = ("count", "candidates", "least", "threshold", "ground", "deviations")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}

    def _suppress(self, found, scores, class_ids):
        """Applies non-maximum suppression, and returns the best remaining boxes."""
        ops = keras.ops
        remain = boxes.nms(found, self.threshold, class_ids)
        # Padding sorts last, so it suppresses no other box.
        scores, best = boxes.top_scores(ops.where(remain, scores, boxes.PADDING_SCORE), self.count)
        good = scores > boxes.PADDING_SCORE
        return {
            "boxes": ops.where(good[..., None], boxes.gather(found, best), 0),
            "scores": ops.where(good, scores, 0),
            "classes": ops.where(good, ops.take_along_axis(class_ids, best, axis=1), -1),
        }
