"""What a detector answers: boxes, scores and classes, each object once."""

from __future__ import annotations

import keras

from zoo.parts import boxes


@keras.saving.register_keras_serializable("zoo", name="Detections")
class DecodeDetections(keras.layers.Layer):
    """Turns references, and what a network says of each, into the objects of an image.

    A reference may be several classes, each with its own score. The best `candidates` are
    decoded, cut at the image's border, and thinned out by suppression within each class.

    Args:
        count: how many objects to give at most.
        candidates: how many pairs of reference and class to decode.
        least: the score under which there is no object.
        threshold: intersection over union above which the worse of two of a class is dropped.
        ground: whether the first logit is that of no class, so that scores are a softmax; else
            each is a sigmoid.
        deviations: as in `boxes.decode_boxes`.

    Call arguments:
        references: `(1 or batch, n, 4)`, anchors or regions; those without area hold nothing.
        logits: `(batch, n, classes)`, or one more with `ground`.
        deltas: `(batch, n, 4)`, or `(batch, n, classes, 4)` where each class has its own box.
        image: `(batch, height, width, channels)`, of which only height and width matter.

    Returns:
        `boxes`, float32 `(batch, count, 4)`, within the image; `scores`, float32
        `(batch, count)` in [0, 1], falling, 0 where there are no more; `classes`, int32
        `(batch, count)`, there -1.
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
        """Drops what is there twice, and gives the best of the rest."""
        ops = keras.ops
        remain = boxes.nms(found, self.threshold, class_ids)
        # A candidate that is nothing comes last, and suppresses nobody.
        scores, best = boxes.top_scores(ops.where(remain, scores, boxes.PADDING_SCORE), self.count)
        good = scores > boxes.PADDING_SCORE
        return {
            "boxes": ops.where(good[..., None], boxes.gather(found, best), 0),
            "scores": ops.where(good, scores, 0),
            "classes": ops.where(good, ops.take_along_axis(class_ids, best, axis=1), -1),
        }
