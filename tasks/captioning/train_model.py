"""What a captioner learns by: several sentences for each image at once, and their losses.

An image is looked at once, whatever is said of it. The model that learns takes `image` and `words`,
int32 `(batch, sentences, length)`, and gives logits `(batch, sentences, length, vocabulary)`.
"""

from __future__ import annotations

from tasks.captioning.vocabulary import PAD
from tasks.distributed import strategies
from zoo import graphs
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras

lambda_layer = LazyModule("tasks.engine.lambda_layer")

DECODER = "decoder"  # the layer of a captioner that says something of its features
DRAWS = "draws"  # the input that says which words are the model's own


def decoder_inputs(model):
    """Returns the tensors that the decoder of a captioner takes: embedded words, and features.

    Raises:
        UsageError: the model is no captioner.
    """
    net = graphs.require_graph(model)
    found = [node for node in graphs.nodes(net) if node.operation.name == DECODER]
    if len(found) != 1 or not isinstance(model.input, dict) or "words" not in model.input:
        raise UsageError(f"{model.name} is no captioner: it has no words and no {DECODER}")
    words, features = found[0].input_tensors
    return words, features


def build_train_model(model, num_captions, *, scheduled_sampling=False):
    """Returns a model that learns several sentences of an image at once.

    Args:
        model: a captioner, or what is left of it behind a frozen encoder.
        num_captions: for each image.
        scheduled_sampling: whether there is a further input `draws`, float32 like the words: where
            it is 0 or
            more, the word that is given is not the true one but one that the model itself says
            there, drawn by that number in [0, 1). This is scheduled sampling (Bengio et al.,
            2015), in two parallel passes (Duckworth et al., 2019): what the model says of the
            true words before. No gradient goes through the first.
    """
    net, (_, features) = graphs.require_graph(model), decoder_inputs(model)
    length = model.input["words"].shape[1]
    words = keras.Input((num_captions, length), dtype="int32", name="words")
    flat = keras.ops.reshape(words, (-1, length))
    repeated_features = _lambda_layer(
        lambda x: keras.ops.repeat(x, num_captions, axis=0), "each_image"
    )(features)
    inputs = {"image": model.input["image"], "words": words}

    def logits(flat):
        made = {id(model.input["words"]): flat, id(features): repeated_features}
        return graphs.replay(net, made, graphs.call_node)[id(model.output)]

    if scheduled_sampling:
        draws = inputs[DRAWS] = keras.Input((num_captions, length), dtype="float32", name=DRAWS)
        own = _lambda_layer(_scheduled_sampling, "own_words", "float32")(
            [logits(flat), flat, draws]
        )
        flat = own
    # By an operation of Keras's, as JAX cannot divide a batch of an unknown size.
    answer = keras.ops.reshape(logits(flat), (-1, num_captions, length, model.output.shape[-1]))
    return keras.Model(inputs, answer, name=f"{model.name}_learner")


def compile_loss(training_model, optimizer, *, jit_compile):
    """Compiles a learner: the loss is the mean cross-entropy of all words, in nats.

    What is `PAD` in the labels, int32 `(batch, sentences, length)`, is no word. A mean is one over
    all words of the batch, on however many replicas it is.
    """
    training_model.compile(
        optimizer=optimizer, loss=cross_entropy, metrics=[accuracy()], jit_compile=jit_compile
    )


def cross_entropy(labels, logits):
    """Returns values `(batch,)` whose mean over all replicas is the mean loss of a word."""
    ops = keras.ops
    mask, entropy = token_cross_entropy(labels, logits)
    images = ops.cast(ops.shape(labels)[0], entropy.dtype)
    total = strategies.all_reduce_sum(ops.stack([ops.sum(mask), images]))
    axes = tuple(range(1, len(labels.shape)))
    return ops.sum(entropy, axis=axes) * (total[1] / ops.maximum(total[0], 1))


def token_cross_entropy(labels, logits):
    """Returns which labels are words, 1 or 0, and their cross-entropies in nats, 0 where not."""
    ops = keras.ops
    labels = ops.cast(labels, "int32")
    mask = ops.cast(labels != PAD, "float32")
    entropy = ops.sparse_categorical_crossentropy(
        labels, ops.cast(logits, "float32"), from_logits=True
    )
    return mask, entropy * mask


def accuracy():
    """Returns a Keras metric: the share of words that are the likeliest ones; `PAD` is no word."""

    class Accuracy(keras.metrics.Mean):
        def update_state(self, labels, logits, sample_weight=None):
            labels = keras.ops.cast(labels, "int32")
            hits = labels == keras.ops.cast(keras.ops.argmax(logits, axis=-1), "int32")
            return super().update_state(hits, labels != PAD)

    return Accuracy(name="accuracy")


def _lambda_layer(function, name, dtype=None):
    return lambda_layer.LambdaLayer(function, name=name, dtype=dtype)


def _scheduled_sampling(tensors):
    """Returns words, of which some are replaced by what a model said of those before them."""
    ops, (logits, words, draws) = keras.ops, tensors
    draws = ops.reshape(draws, (-1, words.shape[1]))
    probabilities = ops.softmax(ops.stop_gradient(ops.cast(logits[:, :-1], "float32")))
    predicted_words = ops.cumsum(probabilities, axis=-1) < draws[:, 1:, None]
    predicted_words = ops.minimum(
        ops.sum(ops.cast(predicted_words, "int32"), axis=-1), logits.shape[-1] - 1
    )
    predicted_inputs = ops.concatenate(
        [words[:, :1], ops.cast(predicted_words, words.dtype)], axis=1
    )
    replaced = (draws >= 0) & (words != PAD) & (ops.arange(words.shape[1]) > 0)
    return ops.where(replaced, predicted_inputs, words)
