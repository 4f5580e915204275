"""What a captioner says of a split, and how well it knows what people said of it."""

from __future__ import annotations

import weakref

from tasks.captioning import metrics, shapes_captions, train_model
from tasks.captioning.vocabulary import PAD
from tasks.data import batches
from tasks.distributed import strategies
from zoo.lazy import LazyModule, keras, np

beam_search = LazyModule("tasks.captioning.beam_search")
lambda_layer = LazyModule("tasks.engine.lambda_layer")

LOCATIONS_LAYER = "places"  # the layer that makes a row of the places of a map
NUM_SAMPLED_CAPTIONS = 5  # sentences of an image that are drawn to see whether they are true

_statistics_models = (
    weakref.WeakKeyDictionary()
)  # by model: what `loss` runs, as it is slow to trace


def generate_captions(model, examples, words, *, length, batch_size, width=1, penalty=0.0):
    """Returns what a captioner says of every example, once and in order.

    Args:
        model: a captioner.
        examples: `decoding.Examples`.
        words: the `Vocabulary`.
        length, width, penalty: as `beam_search.caption_generator` has them.
        batch_size: images at a time.

    Returns:
        The best sentence of each image, words with a space between; and float32 `(count,)`, the
        logarithms of their probabilities.
    """
    with strategies.scope(model):
        caption_generator = beam_search.caption_generator(
            model, width=width, length=length, penalty=penalty
        )
    size = batches.bounded_batch_size(batch_size, len(examples))
    gather = batches.make_gather(examples.pixels, size, examples.pixels_tensor)
    data = batches.make_dataset(batches.sequential_indices(len(examples), size), gather)
    predictions = batches.without_xla(caption_generator).predict(data, verbose=0)
    sentences = [words.sentence(row) for row in predictions["words"][: len(examples), 0]]
    return sentences, predictions["log_probability"][: len(examples), 0]


def sample_captions(
    model, examples, words, *, length, batch_size, seed, count=NUM_SAMPLED_CAPTIONS
):
    """Returns some sentences of every example, drawn at random: a list for each.

    Args:
        model, examples, words, length, batch_size: as `say` has them.
        seed: of the draws.
        count: sentences of each.
    """
    with strategies.scope(model):
        caption_generator = beam_search.caption_generator(
            model, width=count, length=length, do_sample=True
        )
    size = batches.bounded_batch_size(batch_size, len(examples))
    indices = batches.sequential_indices(len(examples), size)
    random = np.random.default_rng(seed)
    draws = random.random((*indices.shape, count, length), "float32")
    gather = batches.make_gather(examples.pixels, size, examples.pixels_tensor)

    def batch(indices, draws):
        return {"image": gather(indices), train_model.DRAWS: draws}

    data = batches.make_dataset((indices, draws), batch)
    predictions = batches.without_xla(caption_generator).predict(data, verbose=0)["words"][
        : len(examples)
    ]
    return [[words.sentence(row) for row in own] for own in predictions]


def teacher_forcing_metrics(model, examples, *, batch_size):
    """Returns the figures of words that are told all before them: `loss`, the mean cross-entropy
    in nats, and `accuracy`, over all words of all sentences.

    Args:
        model: a captioner.
        examples: `dataset.CaptionedExamples`.
        batch_size: images at a time.
    """
    num_captions, length = examples.labels.shape[1], examples.labels.shape[2] - 1
    made = _statistics_models.setdefault(model, {})
    if num_captions not in made:
        with strategies.scope(model):
            made[num_captions] = batches.without_xla(
                _token_statistics_model(model, num_captions, length)
            )
    size = batches.bounded_batch_size(batch_size, len(examples))
    images = batches.make_gather(examples.pixels, size, examples.pixels_tensor)
    words = batches.make_gather(examples.labels, size)

    def batch(indices):
        rows = words(indices)
        return ({"image": images(indices), "words": rows[..., :-1], "next": rows[..., 1:]},)

    data = batches.make_dataset(batches.sequential_indices(len(examples), size), batch)
    sums = (
        made[num_captions].predict(data, verbose=0)[: len(examples)].astype("float64").sum(axis=0)
    )
    count, entropy, hits = sums
    return {"loss": float(entropy / max(1, count)), "accuracy": float(hits / max(1, count))}


def claim_metrics(model, examples, words, *, length, batch_size, seed):
    """Returns how much of what a captioner says is true, where that can be known; else `{}`.

    Sentences are drawn at random, so that all that it may say is looked at: the likeliest
    sentence of every image may be one that claims little.

    Args:
        model, examples, words, length, batch_size, seed: as `draw` has them.
    """
    if examples.facts is None:
        return {}
    options = {"length": length, "batch_size": batch_size, "seed": seed}
    predictions = sample_captions(model, examples, words, **options)
    rows = [(s, f) for own, f in zip(predictions, examples.facts, strict=True) for s in own]
    return shapes_captions.claim_accuracy(*zip(*rows, strict=True))


def caption_metrics(examples, sentences, *, seed=None):
    """Returns the measures of what was said of some examples, with intervals for a seed."""
    if seed is None:
        return metrics.compute_metrics(sentences, examples.sentences)
    return metrics.metrics_with_intervals(sentences, examples.sentences, seed=seed)


def attention_maps(model, pixels, sentences, words):
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
    if LOCATIONS_LAYER not in known:
        return None
    ops, length = keras.ops, max(len(sentence.split()) for sentence in sentences) + 1
    rows = np.concatenate([words.rows([sentence], 1, length) for sentence in sentences])
    _, features = train_model.decoder_inputs(model)
    seen = keras.Model(model.input["image"], features)(np.asarray(pixels), training=False)
    decoder = model.get_layer(train_model.DECODER)
    embedded = model.get_layer("embedding")(rows[:, :-1])
    _, attention = decoder.decode(embedded, ops.cast(seen, decoder.compute_dtype))
    grid = model.get_layer(LOCATIONS_LAYER).input.shape[1:3]
    maps = ops.convert_to_numpy(attention).reshape(len(rows), length, *grid)
    return [
        own[: len(predictions.split())] for own, predictions in zip(maps, sentences, strict=True)
    ]


def _token_statistics_model(model, num_captions, length):
    """Returns a model to what is counted of each image, float32 `(batch, 3)`: words, the sum of
    their cross-entropies, and those that are the likeliest ones."""
    training_model = train_model.build_train_model(model, num_captions)
    labels = keras.Input((num_captions, length), dtype="int32", name="next")
    sums = lambda_layer.LambdaLayer(_token_statistics, name="sums", dtype="float32")(
        [labels, training_model.output]
    )
    return keras.Model({**training_model.input, "next": labels}, sums)


def _token_statistics(tensors):
    ops, (labels, logits) = keras.ops, tensors
    mask, entropy = train_model.token_cross_entropy(labels, logits)
    hits = ops.cast(labels == ops.cast(ops.argmax(logits, axis=-1), "int32"), "float32")
    hits = hits * ops.cast(labels != PAD, "float32")
    return ops.stack([ops.sum(x, axis=(1, 2)) for x in (mask, entropy, hits)], axis=-1)
