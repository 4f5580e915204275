"""The output of a region proposal network: its best boxes."""

from __future__ import annotations

import keras

from zoo.parts import boxes


@keras.saving.register_keras_serializable("zoo", name="Proposals")
class ProposalLayer(keras.layers.Layer):
    """Decodes anchors, objectness logits and box deltas into region proposals.

    The best `candidates` are decoded, clipped to the image, and reduced by non-maximum suppression.
    No gradient passes through. Departure: they are the best of all levels together, where Lin et
    al., 2016, take the same number from each level.

    Args:
        count: the number of proposals.
        candidates: the number of anchors that are decoded.
        threshold: IoU above which the lower-scoring of two boxes is dropped.
        smallest: minimum height and width of a proposal in pixels.
        deviations: the `box_std` of `boxes.decode_boxes`.

    Call arguments:
        anchors: `(1 or batch, anchors, 4)`.
        logits: `(batch, anchors, 1)`, of objectness.
        deltas: `(batch, anchors, 4)`.
        image: `(batch, height, width, channels)`, of which only height and width are used.

    Returns:
        float32 `(batch, count, 4)`, best first, padded with zeros.

    Reference:
        Ren et al., 2015, section 3.3.
    """

    def __init__(
        self,
        count=300,
        candidates=1000,
        threshold=0.7,
        smallest=1.0,
        deviations=boxes.ANCHOR_BOX_STD,
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.count, self.candidates, self.threshold = count, candidates, threshold
        self.smallest, self.deviations = smallest, tuple(deviations)

    def call(self, anchors, logits, deltas, image):
        ops = keras.ops
        logits, deltas = ops.stop_gradient(logits), ops.stop_gradient(deltas)
        scores, best = boxes.top_scores(logits[..., 0], self.candidates)
        found = boxes.decode_boxes(
            boxes.gather(deltas, best), boxes.gather(anchors, best), self.deviations
        )
        found = boxes.clip_boxes(found, *ops.shape(image)[1:3])
        sides = found[..., 2:] - found[..., :2]
        large = ops.all(sides >= self.smallest, axis=-1)
        # A box of zeros overlaps no other, so boxes that are too small suppress none.
        found = ops.where(large[..., None], found, 0)
        good = ops.logical_and(large, boxes.nms(found, self.threshold))
        good = ops.logical_and(good, scores > boxes.PADDING_SCORE)
        _, best = boxes.top_scores(ops.where(good, scores, boxes.PADDING_SCORE), self.count)
        good = ops.take_along_axis(good, best, axis=1)
        return ops.where(good[..., None], boxes.gather(found, best), 0)

    def compute_output_spec(self, anchors, logits, deltas, image):
        return keras.KerasTensor((logits.shape[0], self.count, 4), "float32")

    def get_config(self):
        own = ("count", "candidates", "threshold", "smallest", "deviations")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}
