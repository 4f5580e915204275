"""Caption generation by beam search or sampling, in one graph for a batch of images.

A loop in the graph runs the decoder of a captioner a word at a time; the decoder state of each
caption is reordered with the beam.
"""

from __future__ import annotations

import weakref

import keras

from tasks.captioning import train_model
from tasks.captioning.vocabulary import END, PAD, START, UNKNOWN

DECODING_LAYERS = ("embedding", train_model.DECODER, "logits")  # of a captioner
MIN_LOG_PROBABILITY = -1e9  # stands for -inf, since it can be summed
BANNED_TOKENS = (PAD, START, UNKNOWN)  # that are never generated

# Caption generators by model and options, since they are slow to trace.
_caption_generators = weakref.WeakKeyDictionary()


def caption_generator(model, *, width=1, length=20, penalty=0.0, do_sample=False):
    """Returns a model from images to captions; the same one for the same arguments.

    Args:
        model: a captioner, or the part of it after a frozen encoder.
        width: the beam width, and the number of captions per image, best first; 1 is greedy
            search.
        length: the maximum number of words, `END` included.
        penalty: the exponent of the length by which log probabilities are divided before they are
            compared: 0 prefers short captions, 1 compares the mean per word.
        do_sample: whether captions are sampled word by word instead of searched for. The model has
            a further input then: `train_model.RANDOM_INPUT`, float32 `(batch, width, length)` in
            [0, 1).

    Returns:
        A `keras.Model` from images, or a dict of `image` and `train_model.RANDOM_INPUT`, to a dict
        of `words`, int32 `(batch, width, length)`, padded with `PAD` after `END`; and
        `log_probability`, float32 `(batch, width)`, of the whole caption in nats, where
        `BANNED_TOKENS` have no probability.
    """
    key = (width, length, penalty, do_sample)
    generators = _caption_generators.setdefault(model, {})
    if key not in generators:
        inputs, (_, features) = model.input["image"], train_model.decoder_inputs(model)
        layer = BeamSearch(
            *(model.get_layer(name) for name in DECODING_LAYERS), *key, name="beam_search"
        )
        arguments = [features]
        if do_sample:
            arguments.append(keras.Input((width, length), name=train_model.RANDOM_INPUT))
            inputs = {"image": inputs, train_model.RANDOM_INPUT: arguments[-1]}
        generators[key] = keras.Model(inputs, layer(*arguments))
    return generators[key]


class BeamSearch(keras.layers.Layer):
    """Generates captions from image features, as described in `caption_generator`.

    Args:
        embedding, decoder, logits: layers of a captioner.
        width, length, penalty, do_sample: as in `caption_generator`.
    """

    def __init__(self, embedding, decoder, logits, width, length, penalty, do_sample, **kwargs):
        super().__init__(dtype=decoder.dtype_policy, autocast=False, **kwargs)
        self.embedding, self.decoder, self.logits = embedding, decoder, logits
        self.width, self.length, self.penalty, self.do_sample = width, length, penalty, do_sample
        self.built = True

    def call(self, features, random=None):
        ops, width = keras.ops, self.width
        memory, state = self.decoder.begin(ops.cast(features, self.compute_dtype))
        memory, state = keras.tree.map_structure(self._repeat, (memory, state))
        images = ops.zeros_like(state[0][::width, 0], dtype="int32")
        first = (ops.cumsum(ops.ones_like(images)) - 1)[:, None] * width
        zeros = ops.repeat(images, width)  # all that follows is `(batch * width, ...)`
        # At first all captions of a beam are equal, so only the first of them may be extended.
        initial_scores = [0.0] + [0.0 if self.do_sample else MIN_LOG_PROBABILITY] * (width - 1)
        beam = {
            "step": ops.zeros((), "int32"),
            "words": ops.repeat(zeros[:, None] + PAD, self.length, axis=1),
            "log_probability": ops.cast(images, "float32")[:, None]
            + ops.convert_to_tensor(initial_scores),
            "last": zeros + START,
            "count": zeros,
            "ended": zeros > 0,
            "state": state,
        }

        def not_finished(beam):
            return (beam["step"] < self.length) & ~ops.all(beam["ended"])

        def decode_step(beam):
            word = self.embedding(beam["last"])
            output, state, _ = self.decoder.step(word, memory, beam["state"])
            log_probabilities = self._log_probabilities(self.logits(output), beam["ended"])
            if self.do_sample:
                return (self._sample_step(log_probabilities, {**beam, "state": state}, random),)
            return (self._beam_step(log_probabilities, {**beam, "state": state}, first),)

        (beam,) = ops.while_loop(not_finished, decode_step, (beam,))
        words = ops.reshape(beam["words"], (-1, width, self.length))
        return {"words": words, "log_probability": beam["log_probability"]}

    def compute_output_spec(self, features, random=None):
        shape = (features.shape[0], self.width)
        return {
            "words": keras.KerasTensor((*shape, self.length), "int32"),
            "log_probability": keras.KerasTensor(shape, "float32"),
        }

    def _repeat(self, x):
        """Repeats what belongs to an image for each caption of its beam."""
        return keras.ops.repeat(x, self.width, axis=0)

    def _log_probabilities(self, logits, ended):
        """Returns the log probabilities of the next word `(batch, width, vocabulary)`.

        After `END`, `PAD` has the probability 1.
        """
        ops, size = keras.ops, logits.shape[-1]
        word_ids = ops.arange(size, dtype="int32")
        banned = sum(ops.cast(word_ids == token, "float32") for token in BANNED_TOKENS)
        log_probabilities = ops.log_softmax(
            ops.cast(logits, "float32") + MIN_LOG_PROBABILITY * banned
        )
        after_end = ops.where(word_ids == PAD, 0.0, MIN_LOG_PROBABILITY)
        log_probabilities = ops.where(ended[:, None], after_end, log_probabilities)
        return ops.reshape(log_probabilities, (-1, self.width, size))

    def _beam_step(self, log_probabilities, beam, first):
        """Extends the beam by the captions that are best with one more word."""
        ops, size = keras.ops, log_probabilities.shape[-1]
        total = ops.reshape(
            beam["log_probability"][..., None] + log_probabilities, (-1, self.width * size)
        )
        count = beam["count"] + ops.cast(~beam["ended"], "int32")
        count = ops.reshape(ops.cast(count, "float32"), (-1, self.width, 1))
        count = ops.reshape(ops.repeat(count, size, axis=2), (-1, self.width * size))
        _, best = ops.top_k(total / count**self.penalty, self.width)
        best = ops.cast(best, "int32")
        parents = ops.reshape(first + best // size, (-1,))
        reordered = {key: beam[key] for key in ("words", "count", "ended", "state")}
        reordered = keras.tree.map_structure(lambda x: ops.take(x, parents, axis=0), reordered)
        score = ops.take_along_axis(total, best, axis=1)
        return self._append({**beam, **reordered}, ops.reshape(best % size, (-1,)), score)

    def _sample_step(self, log_probabilities, beam, random):
        """Extends each caption by a word sampled from its distribution (inverse CDF)."""
        ops, size = keras.ops, log_probabilities.shape[-1]
        threshold = ops.take(random, beam["step"], axis=2)[..., None]
        cumulative = ops.cumsum(ops.exp(log_probabilities), axis=-1)
        word = ops.sum(ops.cast(cumulative < threshold, "int32"), axis=-1)
        word = ops.minimum(word, size - 1)
        own = ops.take_along_axis(log_probabilities, word[..., None], axis=-1)[..., 0]
        return self._append(beam, ops.reshape(word, (-1,)), beam["log_probability"] + own)

    def _append(self, beam, word, score):
        """Appends a word to each caption."""
        ops, step = keras.ops, beam["step"]
        is_step = ops.arange(self.length, dtype="int32") == step
        return {
            **beam,
            "step": step + 1,
            "words": ops.where(is_step, word[:, None], beam["words"]),
            "log_probability": score,
            "last": word,
            "count": beam["count"] + ops.cast(~beam["ended"], "int32"),
            "ended": beam["ended"] | (word == END),
        }
