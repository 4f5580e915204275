"""Saying it: from images to sentences in one graph, a batch at a time.

A captioner is stepped word by word inside a loop of the graph; its state goes along with the
sentence that it belongs to. Sentences are searched for with a beam, or drawn at random.
"""

from __future__ import annotations

import weakref

import keras

from tasks.data.vocabulary import END, PAD, START, UNKNOWN
from tasks.engine import caption_learner

LAYERS = ("embedding", caption_learner.DECODER, "logits")  # of a captioner, that say a word
NEVER = -1e9  # the logarithm of the chance of nothing, which may be added up
UNSAID = (PAD, START, UNKNOWN)  # no sentence has these

_speakers = weakref.WeakKeyDictionary()  # by model and what is asked: what says it, slow to trace


def speaker(model, *, width=1, length=20, penalty=0.0, drawn=False):
    """Returns a model from what a captioner takes to sentences; the same one when asked again.

    Args:
        model: a captioner, or what is left of it behind a frozen encoder.
        width: sentences of each image: those that a beam of this width ends with, the best first; 1
            is the greedy search.
        length: the most words of one, `<end>` among them.
        penalty: the power of the length by which the logarithm of a sentence's probability is
            divided before it is compared: 0 prefers short sentences, 1 goes by the mean of a word.
        drawn: whether sentences are drawn at random, word by word, and not searched for. There is
            a further input then: `draws`, float32 `(batch, width, length)` in [0, 1).

    Returns:
        A `keras.Model` from images, or a dict of `image` and `draws`, to a dict of `words`, int32
        `(batch, width, length)`, padded with `PAD` behind `END`; and `log_probability`, float32
        `(batch, width)`, of the whole sentence in nats, among those without `UNSAID`.
    """
    key = (width, length, penalty, drawn)
    made = _speakers.setdefault(model, {})
    if key not in made:
        inputs, (_, features) = model.input["image"], caption_learner.parts(model)
        layer = Speaking(*(model.get_layer(name) for name in LAYERS), *key, name="speaking")
        given = [features]
        if drawn:
            given.append(keras.Input((width, length), name=caption_learner.DRAWS))
            inputs = {"image": inputs, caption_learner.DRAWS: given[-1]}
        made[key] = keras.Model(inputs, layer(*given))
    return made[key]


class Speaking(keras.layers.Layer):
    """Says sentences of the features of images, as `speaker` has it.

    Args:
        embedding, decoder, logits: layers of a captioner.
        width, length, penalty, drawn: as `speaker` has them.
    """

    def __init__(self, embedding, decoder, logits, width, length, penalty, drawn, **kwargs):
        super().__init__(dtype=decoder.dtype_policy, autocast=False, **kwargs)
        self.embedding, self.decoder, self.logits = embedding, decoder, logits
        self.width, self.length, self.penalty, self.drawn = width, length, penalty, drawn
        self.built = True

    def call(self, features, draws=None):
        ops, width = keras.ops, self.width
        memory, state = self.decoder.begin(ops.cast(features, self.compute_dtype))
        memory, state = keras.tree.map_structure(self._repeated, (memory, state))
        images = ops.zeros_like(state[0][::width, 0], dtype="int32")
        first = (ops.cumsum(ops.ones_like(images)) - 1)[:, None] * width
        none = ops.repeat(images, width)  # what follows is `(batch * width, ...)`
        # At first all sentences of a beam are the same one, of which one is enough.
        alone = [0.0] + [0.0 if self.drawn else NEVER] * (width - 1)
        beam = {
            "step": ops.zeros((), "int32"),
            "words": ops.repeat(none[:, None] + PAD, self.length, axis=1),
            "log_probability": ops.cast(images, "float32")[:, None] + ops.convert_to_tensor(alone),
            "last": none + START,
            "count": none,
            "ended": none > 0,
            "state": state,
        }

        def going_on(beam):
            return (beam["step"] < self.length) & ~ops.all(beam["ended"])

        def go_on(beam):
            word = self.embedding(beam["last"])
            output, state, _ = self.decoder.step(word, memory, beam["state"])
            said = self._chances(self.logits(output), beam["ended"])
            if self.drawn:
                return (self._drawn(said, {**beam, "state": state}, draws),)
            return (self._best(said, {**beam, "state": state}, first),)

        (beam,) = ops.while_loop(going_on, go_on, (beam,))
        words = ops.reshape(beam["words"], (-1, width, self.length))
        return {"words": words, "log_probability": beam["log_probability"]}

    def compute_output_spec(self, features, draws=None):
        shape = (features.shape[0], self.width)
        return {
            "words": keras.KerasTensor((*shape, self.length), "int32"),
            "log_probability": keras.KerasTensor(shape, "float32"),
        }

    def _repeated(self, x):
        """Returns what belongs to an image once for each of its sentences."""
        return keras.ops.repeat(x, self.width, axis=0)

    def _chances(self, logits, ended):
        """Returns the logarithms of the chances of each next word `(batch, width, vocabulary)`.

        After the end comes nothing but `PAD`, and that for certain.
        """
        ops, size = keras.ops, logits.shape[-1]
        numbers = ops.arange(size, dtype="int32")
        unsaid = sum(ops.cast(numbers == mark, "float32") for mark in UNSAID)
        said = ops.log_softmax(ops.cast(logits, "float32") + NEVER * unsaid)
        after = ops.where(numbers == PAD, 0.0, NEVER)
        said = ops.where(ended[:, None], after, said)
        return ops.reshape(said, (-1, self.width, size))

    def _best(self, said, beam, first):
        """Goes on with the sentences that are best after one more word."""
        ops, size = keras.ops, said.shape[-1]
        total = ops.reshape(beam["log_probability"][..., None] + said, (-1, self.width * size))
        count = beam["count"] + ops.cast(~beam["ended"], "int32")
        count = ops.reshape(ops.cast(count, "float32"), (-1, self.width, 1))
        count = ops.reshape(ops.repeat(count, size, axis=2), (-1, self.width * size))
        _, found = ops.top_k(total / count**self.penalty, self.width)
        found = ops.cast(found, "int32")
        parents = ops.reshape(first + found // size, (-1,))
        moved = {key: beam[key] for key in ("words", "count", "ended", "state")}
        moved = keras.tree.map_structure(lambda x: ops.take(x, parents, axis=0), moved)
        score = ops.take_along_axis(total, found, axis=1)
        return self._longer({**beam, **moved}, ops.reshape(found % size, (-1,)), score)

    def _drawn(self, said, beam, draws):
        """Goes on with each sentence by a word drawn by its chance."""
        ops, size = keras.ops, said.shape[-1]
        draw = ops.take(draws, beam["step"], axis=2)[..., None]
        word = ops.sum(ops.cast(ops.cumsum(ops.exp(said), axis=-1) < draw, "int32"), axis=-1)
        word = ops.minimum(word, size - 1)
        own = ops.take_along_axis(said, word[..., None], axis=-1)[..., 0]
        return self._longer(beam, ops.reshape(word, (-1,)), beam["log_probability"] + own)

    def _longer(self, beam, word, score):
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
