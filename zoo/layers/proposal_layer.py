"""What a region proposal network hands on: its best boxes."""

from __future__ import annotations

import keras

from zoo.parts import boxes


@keras.saving.register_keras_serializable("zoo", name="Proposals")
class ProposalLayer(keras.layers.Layer):
    """Turns anchors, and what a network says of each, into the regions worth a second look.

    The best `candidates` are decoded, cut at the image's border, and thinned out by suppression.
    No gradient goes through. Departure: they are the best of all levels together, where Lin et
    al., 2016, take as many of each level.

    Args:
        count: how many regions to give.
        candidates: how many anchors to decode.
        threshold: intersection over union above which the worse of two is dropped.
        smallest: pixels that both sides of a region have at least.
        deviations: as in `boxes.decode_boxes`.

    Call arguments:
        anchors: `(1 or batch, anchors, 4)`.
        logits: `(batch, anchors, 1)`, whether there is an object.
        deltas: `(batch, anchors, 4)`.
        image: `(batch, height, width, channels)`, of which only height and width matter.

    Returns:
        float32 `(batch, count, 4)`, best first; noughts where there are no more.

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
        # What is too small suppresses nobody, for it overlaps nobody.
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
