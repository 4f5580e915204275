"""What a captioner learns by: several sentences for each image at once, and their losses.

An image is looked at once, whatever is said of it. The model that learns takes `image` and `words`,
int32 `(batch, sentences, length)`, and gives logits `(batch, sentences, length, vocabulary)`.
"""

from __future__ import annotations

from tasks.data.vocabulary import PAD
from tasks.engine import distribute
from zoo import graphs
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras

computed = LazyModule("tasks.engine.computed")

DECODER = "decoder"  # the layer of a captioner that says something of its features
DRAWS = "draws"  # the input that says which words are the model's own


def parts(model):
    """Returns the tensors that the decoder of a captioner takes: embedded words, and features.

    Raises:
        UsageError: the model is no captioner.
    """
    net = graphs.checked(model)
    found = [node for node in graphs.nodes(net) if node.operation.name == DECODER]
    if len(found) != 1 or not isinstance(model.input, dict) or "words" not in model.input:
        raise UsageError(f"{model.name} is no captioner: it has no words and no {DECODER}")
    words, features = found[0].input_tensors
    return words, features


def learner(model, sentences, *, sampled=False):
    """Returns a model that learns several sentences of an image at once.

    Args:
        model: a captioner, or what is left of it behind a frozen encoder.
        sentences: for each image.
        sampled: whether there is a further input `draws`, float32 like the words: where it is 0 or
            more, the word that is given is not the true one but one that the model itself says
            there, drawn by that number in [0, 1). This is scheduled sampling (Bengio et al.,
            2015), in two parallel passes (Duckworth et al., 2019): what the model says of the
            true words before. No gradient goes through the first.
    """
    net, (_, features) = graphs.checked(model), parts(model)
    length = model.input["words"].shape[1]
    words = keras.Input((sentences, length), dtype="int32", name="words")
    flat = keras.ops.reshape(words, (-1, length))
    seen = _computed(lambda x: keras.ops.repeat(x, sentences, axis=0), "each_image")(features)
    inputs = {"image": model.input["image"], "words": words}

    def logits(flat):
        made = {id(model.input["words"]): flat, id(features): seen}
        return graphs.replay(net, made, graphs.again)[id(model.output)]

    if sampled:
        draws = inputs[DRAWS] = keras.Input((sentences, length), dtype="float32", name=DRAWS)
        own = _computed(_drawn, "own_words", "float32")([logits(flat), flat, draws])
        flat = own
    # By an operation of Keras's, as JAX cannot divide a batch of an unknown size.
    answer = keras.ops.reshape(logits(flat), (-1, sentences, length, model.output.shape[-1]))
    return keras.Model(inputs, answer, name=f"{model.name}_learner")


def compile_loss(learner, optimizer, *, jit_compile):
    """Compiles a learner: the loss is the mean cross-entropy of all words, in nats.

    What is `PAD` in the labels, int32 `(batch, sentences, length)`, is no word. A mean is one over
    all words of the batch, on however many replicas it is.
    """
    learner.compile(
        optimizer=optimizer, loss=cross_entropy, metrics=[accuracy()], jit_compile=jit_compile
    )


def cross_entropy(labels, logits):
    """Returns values `(batch,)` whose mean over all replicas is the mean loss of a word."""
    ops = keras.ops
    there, entropy = entropies(labels, logits)
    images = ops.cast(ops.shape(labels)[0], entropy.dtype)
    total = distribute.summed(ops.stack([ops.sum(there), images]))
    axes = tuple(range(1, len(labels.shape)))
    return ops.sum(entropy, axis=axes) * (total[1] / ops.maximum(total[0], 1))


def entropies(labels, logits):
    """Returns which labels are words, 1 or 0, and their cross-entropies in nats, 0 where not."""
    ops = keras.ops
    labels = ops.cast(labels, "int32")
    there = ops.cast(labels != PAD, "float32")
    entropy = ops.sparse_categorical_crossentropy(
        labels, ops.cast(logits, "float32"), from_logits=True
    )
    return there, entropy * there


def accuracy():
    """Returns a Keras metric: the share of words that are the likeliest ones; `PAD` is no word."""

    class Accuracy(keras.metrics.Mean):
        def update_state(self, labels, logits, sample_weight=None):
            labels = keras.ops.cast(labels, "int32")
            hits = labels == keras.ops.cast(keras.ops.argmax(logits, axis=-1), "int32")
            return super().update_state(hits, labels != PAD)

    return Accuracy(name="accuracy")


def _computed(function, name, dtype=None):
    return computed.Computed(function, name=name, dtype=dtype)


def _drawn(given):
    """Returns words, of which some are replaced by what a model said of those before them."""
    ops, (logits, words, draws) = keras.ops, given
    draws = ops.reshape(draws, (-1, words.shape[1]))
    chances = ops.softmax(ops.stop_gradient(ops.cast(logits[:, :-1], "float32")))
    said = ops.cumsum(chances, axis=-1) < draws[:, 1:, None]
    said = ops.minimum(ops.sum(ops.cast(said, "int32"), axis=-1), logits.shape[-1] - 1)
    before = ops.concatenate([words[:, :1], ops.cast(said, words.dtype)], axis=1)
    taken = (draws >= 0) & (words != PAD) & (ops.arange(words.shape[1]) > 0)
    return ops.where(taken, before, words)
