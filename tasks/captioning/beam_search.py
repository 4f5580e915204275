"""Saying it: from images to sentences in one graph, a batch at a time.

A captioner is stepped word by word inside a loop of the graph; its state goes along with the
sentence that it belongs to. Sentences are searched for with a beam, or drawn at random.
"""

from __future__ import annotations

import weakref

import keras

from tasks.captioning import train_model
from tasks.captioning.vocabulary import END, PAD, START, UNKNOWN

DECODING_LAYERS = ("embedding", train_model.DECODER, "logits")  # of a captioner, that say a word
MIN_LOG_PROBABILITY = -1e9  # the logarithm of the chance of nothing, which may be added up
BANNED_TOKENS = (PAD, START, UNKNOWN)  # no sentence has these

_caption_generators = (
    weakref.WeakKeyDictionary()
)  # by model and what is asked: what says it, slow to trace


def caption_generator(model, *, width=1, length=20, penalty=0.0, do_sample=False):
    """Returns a model from what a captioner takes to sentences; the same one when asked again.

    Args:
        model: a captioner, or what is left of it behind a frozen encoder.
        width: sentences of each image: those that a beam of this width ends with, the best first; 1
            is the greedy search.
        length: the most words of one, `<end>` among them.
        penalty: the power of the length by which the logarithm of a sentence's probability is
            divided before it is compared: 0 prefers short sentences, 1 goes by the mean of a word.
        do_sample: whether sentences are drawn at random, word by word, and not searched for. There
            is
            a further input then: `draws`, float32 `(batch, width, length)` in [0, 1).

    Returns:
        A `keras.Model` from images, or a dict of `image` and `draws`, to a dict of `words`, int32
        `(batch, width, length)`, padded with `PAD` behind `END`; and `log_probability`, float32
        `(batch, width)`, of the whole sentence in nats, among those without `UNSAID`.
    """
    key = (width, length, penalty, do_sample)
    made = _caption_generators.setdefault(model, {})
    if key not in made:
        inputs, (_, features) = model.input["image"], train_model.decoder_inputs(model)
        layer = BeamSearch(
            *(model.get_layer(name) for name in DECODING_LAYERS), *key, name="speaking"
        )
        given = [features]
        if do_sample:
            given.append(keras.Input((width, length), name=train_model.DRAWS))
            inputs = {"image": inputs, train_model.DRAWS: given[-1]}
        made[key] = keras.Model(inputs, layer(*given))
    return made[key]


class BeamSearch(keras.layers.Layer):
    """Says sentences of the features of images, as `speaker` has it.

    Args:
        embedding, decoder, logits: layers of a captioner.
        width, length, penalty, do_sample: as `speaker` has them.
    """

    def __init__(self, embedding, decoder, logits, width, length, penalty, do_sample, **kwargs):
        super().__init__(dtype=decoder.dtype_policy, autocast=False, **kwargs)
        self.embedding, self.decoder, self.logits = embedding, decoder, logits
        self.width, self.length, self.penalty, self.do_sample = width, length, penalty, do_sample
        self.built = True

    def call(self, features, draws=None):
        ops, width = keras.ops, self.width
        memory, state = self.decoder.begin(ops.cast(features, self.compute_dtype))
        memory, state = keras.tree.map_structure(self._repeat, (memory, state))
        images = ops.zeros_like(state[0][::width, 0], dtype="int32")
        first = (ops.cumsum(ops.ones_like(images)) - 1)[:, None] * width
        none = ops.repeat(images, width)  # what follows is `(batch * width, ...)`
        # At first all sentences of a beam are the same one, of which one is enough.
        initial_scores = [0.0] + [0.0 if self.do_sample else MIN_LOG_PROBABILITY] * (width - 1)
        beam = {
            "step": ops.zeros((), "int32"),
            "words": ops.repeat(none[:, None] + PAD, self.length, axis=1),
            "log_probability": ops.cast(images, "float32")[:, None]
            + ops.convert_to_tensor(initial_scores),
            "last": none + START,
            "count": none,
            "ended": none > 0,
            "state": state,
        }

        def not_finished(beam):
            return (beam["step"] < self.length) & ~ops.all(beam["ended"])

        def decode_step(beam):
            word = self.embedding(beam["last"])
            output, state, _ = self.decoder.step(word, memory, beam["state"])
            log_probabilities = self._log_probabilities(self.logits(output), beam["ended"])
            if self.do_sample:
                return (self._sample_step(log_probabilities, {**beam, "state": state}, draws),)
            return (self._beam_step(log_probabilities, {**beam, "state": state}, first),)

        (beam,) = ops.while_loop(not_finished, decode_step, (beam,))
        words = ops.reshape(beam["words"], (-1, width, self.length))
        return {"words": words, "log_probability": beam["log_probability"]}

    def compute_output_spec(self, features, draws=None):
        shape = (features.shape[0], self.width)
        return {
            "words": keras.KerasTensor((*shape, self.length), "int32"),
            "log_probability": keras.KerasTensor(shape, "float32"),
        }

    def _repeat(self, x):
        """Returns what belongs to an image once for each of its sentences."""
        return keras.ops.repeat(x, self.width, axis=0)

    def _log_probabilities(self, logits, ended):
        """Returns the logarithms of the chances of each next word `(batch, width, vocabulary)`.

        After the end comes nothing but `PAD`, and that for certain.
        """
        ops, size = keras.ops, logits.shape[-1]
        numbers = ops.arange(size, dtype="int32")
        banned = sum(ops.cast(numbers == mark, "float32") for mark in BANNED_TOKENS)
        log_probabilities = ops.log_softmax(
            ops.cast(logits, "float32") + MIN_LOG_PROBABILITY * banned
        )
        after = ops.where(numbers == PAD, 0.0, MIN_LOG_PROBABILITY)
        log_probabilities = ops.where(ended[:, None], after, log_probabilities)
        return ops.reshape(log_probabilities, (-1, self.width, size))

    def _beam_step(self, log_probabilities, beam, first):
        """Goes on with the sentences that are best after one more word."""
        ops, size = keras.ops, log_probabilities.shape[-1]
        total = ops.reshape(
            beam["log_probability"][..., None] + log_probabilities, (-1, self.width * size)
        )
        count = beam["count"] + ops.cast(~beam["ended"], "int32")
        count = ops.reshape(ops.cast(count, "float32"), (-1, self.width, 1))
        count = ops.reshape(ops.repeat(count, size, axis=2), (-1, self.width * size))
        _, found = ops.top_k(total / count**self.penalty, self.width)
        found = ops.cast(found, "int32")
        parents = ops.reshape(first + found // size, (-1,))
        reordered = {key: beam[key] for key in ("words", "count", "ended", "state")}
        reordered = keras.tree.map_structure(lambda x: ops.take(x, parents, axis=0), reordered)
        score = ops.take_along_axis(total, found, axis=1)
        return self._append({**beam, **reordered}, ops.reshape(found % size, (-1,)), score)

    def _sample_step(self, log_probabilities, beam, draws):
        """Goes on with each sentence by a word drawn by its chance."""
        ops, size = keras.ops, log_probabilities.shape[-1]
        draw = ops.take(draws, beam["step"], axis=2)[..., None]
        word = ops.sum(
            ops.cast(ops.cumsum(ops.exp(log_probabilities), axis=-1) < draw, "int32"), axis=-1
        )
        word = ops.minimum(word, size - 1)
        own = ops.take_along_axis(log_probabilities, word[..., None], axis=-1)[..., 0]
        return self._append(beam, ops.reshape(word, (-1,)), beam["log_probability"] + own)

    def _append(self, beam, word, score):
        """Puts a word behind each sentence."""
        ops, step = keras.ops, beam["step"]
        here = ops.arange(self.length, dtype="int32") == step
        return {
            **beam,
            "step": step + 1,
            "words": ops.where(here, word[:, None], beam["words"]),
            "log_probability": score,
            "last": word,
            "count": beam["count"] + ops.cast(~beam["ended"], "int32"),
            "ended": beam["ended"] | (word == END),
        }
