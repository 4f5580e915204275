"""Evaluation of a captioner on a split: generated captions, cross-entropy, attention maps."""

from __future__ import annotations

import weakref

from tasks.captioning import metrics, shapes_captions, train_model
from tasks.captioning.vocabulary import PAD
from tasks.data import batches
from tasks.distributed import strategies
from zoo.lazy import LazyModule, keras, np

beam_search = LazyModule("tasks.captioning.beam_search")
lambda_layer = LazyModule("tasks.inference.lambda_layer")

LOCATIONS_LAYER = "places"  # the layer that flattens the positions of a feature map
NUM_SAMPLED_CAPTIONS = 5  # per image, to verify their claims

# Models of `teacher_forcing_metrics` by captioner, since they are slow to trace.
_statistics_models = weakref.WeakKeyDictionary()


def generate_captions(model, examples, words, *, length, batch_size, width=1, penalty=0.0):
    """Returns the best caption of every example, in order.

    Args:
        model: a captioner.
        examples: `decoding.Examples`.
        words: the `Vocabulary`.
        length, width, penalty: as in `beam_search.caption_generator`.
        batch_size: images per batch.

    Returns:
        The captions, words joined by spaces; and float32 `(count,)`, their log probabilities in
        nats.
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
    """Returns a list of sampled captions for every example.

    Args:
        model, examples, words, length, batch_size: as in `generate_captions`.
        seed: the seed of sampling.
        count: captions per image.
    """
    with strategies.scope(model):
        caption_generator = beam_search.caption_generator(
            model, width=count, length=length, do_sample=True
        )
    size = batches.bounded_batch_size(batch_size, len(examples))
    indices = batches.sequential_indices(len(examples), size)
    shape = (*indices.shape, count, length)
    random = np.random.default_rng(seed).random(shape, "float32")
    gather = batches.make_gather(examples.pixels, size, examples.pixels_tensor)

    def batch(indices, random):
        return {"image": gather(indices), train_model.RANDOM_INPUT: random}

    data = batches.make_dataset((indices, random), batch)
    predictions = batches.without_xla(caption_generator).predict(data, verbose=0)
    return [[words.sentence(row) for row in own] for own in predictions["words"][: len(examples)]]


def teacher_forcing_metrics(model, examples, *, batch_size):
    """Returns metrics of the next word given the ground truth words before it.

    Args:
        model: a captioner.
        examples: `dataset.CaptionedExamples`.
        batch_size: images per batch.

    Returns:
        `loss`, the mean cross-entropy in nats, and `accuracy`, over all words of all captions.
    """
    num_captions, length = examples.labels.shape[1], examples.labels.shape[2] - 1
    models = _statistics_models.setdefault(model, {})
    if num_captions not in models:
        with strategies.scope(model):
            models[num_captions] = batches.without_xla(
                _token_statistics_model(model, num_captions, length)
            )
    size = batches.bounded_batch_size(batch_size, len(examples))
    images = batches.make_gather(examples.pixels, size, examples.pixels_tensor)
    words = batches.make_gather(examples.labels, size)

    def batch(indices):
        rows = words(indices)
        return ({"image": images(indices), "words": rows[..., :-1], "next": rows[..., 1:]},)

    data = batches.make_dataset(batches.sequential_indices(len(examples), size), batch)
    statistics = models[num_captions].predict(data, verbose=0)[: len(examples)]
    count, entropy, hits = statistics.astype("float64").sum(axis=0)
    return {"loss": float(entropy / max(1, count)), "accuracy": float(hits / max(1, count))}


def claim_metrics(model, examples, words, *, length, batch_size, seed):
    """Returns the accuracy of claims in sampled captions, `{}` where they cannot be verified.

    Captions are sampled, since the most probable caption of every image may claim little.

    Args:
        model, examples, words, length, batch_size, seed: as in `sample_captions`.
    """
    if examples.facts is None:
        return {}
    options = {"length": length, "batch_size": batch_size, "seed": seed}
    predictions = sample_captions(model, examples, words, **options)
    rows = [(s, f) for own, f in zip(predictions, examples.facts, strict=True) for s in own]
    return shapes_captions.claim_accuracy(*zip(*rows, strict=True))


def caption_metrics(examples, sentences, *, seed=None):
    """Returns `metrics.compute_metrics` of captions, with intervals if there is a seed."""
    if seed is None:
        return metrics.compute_metrics(sentences, examples.sentences)
    return metrics.metrics_with_intervals(sentences, examples.sentences, seed=seed)


def attention_maps(model, pixels, sentences, words):
    """Returns the attention maps of captions, `None` for a model without attention.

    Args:
        model: a captioner.
        pixels: images, or their features behind a frozen encoder.
        sentences: a caption per image.
        words: the `Vocabulary`.

    Returns:
        For each image an array `(words, rows, columns)` in [0, 1]; the map of a word sums to 1.
    """
    if LOCATIONS_LAYER not in {layer.name for layer in model.layers}:
        return None
    ops, length = keras.ops, max(len(sentence.split()) for sentence in sentences) + 1
    rows = np.concatenate([words.rows([sentence], 1, length) for sentence in sentences])
    _, features = train_model.decoder_inputs(model)
    encoded = keras.Model(model.input["image"], features)(np.asarray(pixels), training=False)
    decoder = model.get_layer(train_model.DECODER)
    embedded = model.get_layer("embedding")(rows[:, :-1])
    _, attention = decoder.decode(embedded, ops.cast(encoded, decoder.compute_dtype))
    grid = model.get_layer(LOCATIONS_LAYER).input.shape[1:3]
    maps = ops.convert_to_numpy(attention).reshape(len(rows), length, *grid)
    return [own[: len(sentence.split())] for own, sentence in zip(maps, sentences, strict=True)]


def _token_statistics_model(model, num_captions, length):
    """Returns a model whose output per image, float32 `(batch, 3)`, is the number of words, the
    sum of their cross-entropies, and the number of correctly predicted words."""
    training_model = train_model.build_training_model(model, num_captions)
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
