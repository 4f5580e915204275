"""What a captioner says of a split, and how well it knows what people said of it."""

from __future__ import annotations

import weakref

from tasks.data import batches, caption_shapes
from tasks.data.vocabulary import PAD
from tasks.engine import caption_learner, distribute
from tasks.report import captions
from zoo.lazy import LazyModule, keras, np

beam = LazyModule("tasks.engine.beam")
computed = LazyModule("tasks.engine.computed")

PLACES = "places"  # the layer that makes a row of the places of a map
DRAWN = 5  # sentences of an image that are drawn to see whether they are true

_measuring = weakref.WeakKeyDictionary()  # by model: what `loss` runs, as it is slow to trace


def say(model, examples, words, *, length, batch_size, width=1, penalty=0.0):
    """Returns what a captioner says of every example, once and in order.

    Args:
        model: a captioner.
        examples: `decoding.Examples`.
        words: the `Vocabulary`.
        length, width, penalty: as `beam.speaker` has them.
        batch_size: images at a time.

    Returns:
        The best sentence of each image, words with a space between; and float32 `(count,)`, the
        logarithms of their probabilities.
    """
    with distribute.scope(model):
        speaker = beam.speaker(model, width=width, length=length, penalty=penalty)
    size = batches.bounded(batch_size, len(examples))
    gather = batches.gatherer(examples.pixels, size, examples.held)
    data = batches.made(batches.in_order(len(examples), size), gather)
    said = batches.without_xla(speaker).predict(data, verbose=0)
    sentences = [words.sentence(row) for row in said["words"][: len(examples), 0]]
    return sentences, said["log_probability"][: len(examples), 0]


def draw(model, examples, words, *, length, batch_size, seed, count=DRAWN):
    """Returns some sentences of every example, drawn at random: a list for each.

    Args:
        model, examples, words, length, batch_size: as `say` has them.
        seed: of the draws.
        count: sentences of each.
    """
    with distribute.scope(model):
        speaker = beam.speaker(model, width=count, length=length, drawn=True)
    size = batches.bounded(batch_size, len(examples))
    indices = batches.in_order(len(examples), size)
    random = np.random.default_rng(seed)
    draws = random.random((*indices.shape, count, length), "float32")
    gather = batches.gatherer(examples.pixels, size, examples.held)

    def batch(indices, draws):
        return {"image": gather(indices), caption_learner.DRAWS: draws}

    data = batches.made((indices, draws), batch)
    said = batches.without_xla(speaker).predict(data, verbose=0)["words"][: len(examples)]
    return [[words.sentence(row) for row in own] for own in said]


def loss(model, examples, *, batch_size):
    """Returns the figures of words that are told all before them: `loss`, the mean cross-entropy
    in nats, and `accuracy`, over all words of all sentences.

    Args:
        model: a captioner.
        examples: `captioned.Captioned`.
        batch_size: images at a time.
    """
    most, length = examples.labels.shape[1], examples.labels.shape[2] - 1
    made = _measuring.setdefault(model, {})
    if most not in made:
        with distribute.scope(model):
            made[most] = batches.without_xla(_counting(model, most, length))
    size = batches.bounded(batch_size, len(examples))
    images = batches.gatherer(examples.pixels, size, examples.held)
    words = batches.gatherer(examples.labels, size)

    def batch(indices):
        rows = words(indices)
        return ({"image": images(indices), "words": rows[..., :-1], "next": rows[..., 1:]},)

    data = batches.made(batches.in_order(len(examples), size), batch)
    sums = made[most].predict(data, verbose=0)[: len(examples)].astype("float64").sum(axis=0)
    count, entropy, hits = sums
    return {"loss": float(entropy / max(1, count)), "accuracy": float(hits / max(1, count))}


def truths(model, examples, words, *, length, batch_size, seed):
    """Returns how much of what a captioner says is true, where that can be known; else `{}`.

    Sentences are drawn at random, so that all that it may say is looked at: the likeliest
    sentence of every image may be one that claims little.

    Args:
        model, examples, words, length, batch_size, seed: as `draw` has them.
    """
    if examples.facts is None:
        return {}
    options = {"length": length, "batch_size": batch_size, "seed": seed}
    said = draw(model, examples, words, **options)
    rows = [(s, f) for own, f in zip(said, examples.facts, strict=True) for s in own]
    return caption_shapes.rates(*zip(*rows, strict=True))


def figures(examples, sentences, *, seed=None):
    """Returns the measures of what was said of some examples, with intervals for a seed."""
    if seed is None:
        return captions.figures(sentences, examples.sentences)
    return captions.judged(sentences, examples.sentences, seed=seed)


def looks(model, pixels, sentences, words):
    """Returns where a captioner looked when it said each word, or `None` if it looks nowhere.

    Args:
        model: a captioner.
        pixels: images, or what stands for them.
        sentences: what it said of each.
        words: the `Vocabulary`.

    Returns:
        For each image an array `(words, rows, columns)` in [0, 1]; a word's sums to 1.
    """
    known = {layer.name for layer in model.layers}
    if PLACES not in known:
        return None
    ops, length = keras.ops, max(len(sentence.split()) for sentence in sentences) + 1
    rows = np.concatenate([words.rows([sentence], 1, length) for sentence in sentences])
    _, features = caption_learner.parts(model)
    seen = keras.Model(model.input["image"], features)(np.asarray(pixels), training=False)
    decoder = model.get_layer(caption_learner.DECODER)
    spoken = model.get_layer("embedding")(rows[:, :-1])
    _, places = decoder.told(spoken, ops.cast(seen, decoder.compute_dtype))
    grid = model.get_layer(PLACES).input.shape[1:3]
    maps = ops.convert_to_numpy(places).reshape(len(rows), length, *grid)
    return [own[: len(said.split())] for own, said in zip(maps, sentences, strict=True)]


def _counting(model, most, length):
    """Returns a model to what is counted of each image, float32 `(batch, 3)`: words, the sum of
    their cross-entropies, and those that are the likeliest ones."""
    learner = caption_learner.learner(model, most)
    labels = keras.Input((most, length), dtype="int32", name="next")
    sums = computed.Computed(_sums, name="sums", dtype="float32")([labels, learner.output])
    return keras.Model({**learner.input, "next": labels}, sums)


def _sums(given):
    ops, (labels, logits) = keras.ops, given
    there, entropy = caption_learner.entropies(labels, logits)
    hits = ops.cast(labels == ops.cast(ops.argmax(logits, axis=-1), "int32"), "float32")
    hits = hits * ops.cast(labels != PAD, "float32")
    return ops.stack([ops.sum(x, axis=(1, 2)) for x in (there, entropy, hits)], axis=-1)
