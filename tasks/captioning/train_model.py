"""The training model of a captioner: several captions per image and step, and their loss.

The encoder runs once per image, the decoder once per caption. The training model takes `image` and
`words`, int32 `(batch, captions, length)`, and outputs logits `(batch, captions, length,
vocabulary)`.
"""

from __future__ import annotations

from tasks.captioning.vocabulary import PAD
from tasks.distributed import strategies
from zoo import graphs
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras

lambda_layer = LazyModule("tasks.inference.lambda_layer")

DECODER = "decoder"  # name of the layer of a captioner that takes words and image features
RANDOM_INPUT = "random"  # name of the input of random numbers that words are sampled by


def decoder_inputs(model):
    """Returns the tensors that the decoder of a captioner takes: embedded words, and features.

    Raises:
        UsageError: the model is not a captioner.
    """
    net = graphs.require_graph(model)
    found = [node for node in graphs.nodes(net) if node.operation.name == DECODER]
    if len(found) != 1 or not isinstance(model.input, dict) or "words" not in model.input:
        raise UsageError(
            f"{model.name} is not a captioner: it has no input words and no layer {DECODER}"
        )
    words, features = found[0].input_tensors
    return words, features


def build_training_model(model, num_captions, *, scheduled_sampling=False):
    """Returns a model that computes the logits of several captions per image.

    Args:
        model: a captioner, or the part of it after a frozen encoder.
        num_captions: captions per image.
        scheduled_sampling: whether the model has a further input `RANDOM_INPUT`, float32 of the
            shape of `words`. Where it is -1 the decoder takes the ground truth word (teacher
            forcing); where it is in [0, 1), a word sampled by that number from what the model
            predicts there. This is scheduled sampling (Bengio et al., 2015), in two parallel
            passes (Duckworth et al., 2019): the predictions are those of a first pass on ground
            truth words, through which no gradient flows.
    """
    net, (_, features) = graphs.require_graph(model), decoder_inputs(model)
    length = model.input["words"].shape[1]
    words = keras.Input((num_captions, length), dtype="int32", name="words")
    flat_words = keras.ops.reshape(words, (-1, length))
    repeated_features = _lambda_layer(
        lambda x: keras.ops.repeat(x, num_captions, axis=0), "repeat_features"
    )(features)
    inputs = {"image": model.input["image"], "words": words}

    def logits(flat_words):
        replacements = {id(model.input["words"]): flat_words, id(features): repeated_features}
        return graphs.replay(net, replacements, graphs.call_node)[id(model.output)]

    if scheduled_sampling:
        shape = (num_captions, length)
        random = inputs[RANDOM_INPUT] = keras.Input(shape, dtype="float32", name=RANDOM_INPUT)
        flat_words = _lambda_layer(_scheduled_sampling, "scheduled_sampling", "float32")(
            [logits(flat_words), flat_words, random]
        )
    # With a Keras operation, since JAX cannot divide a batch of unknown size.
    shape = (-1, num_captions, length, model.output.shape[-1])
    output = keras.ops.reshape(logits(flat_words), shape)
    return keras.Model(inputs, output, name=f"{model.name}_training")


def compile_loss(training_model, optimizer, *, jit_compile):
    """Compiles a training model: the loss is the mean cross-entropy per word, in nats.

    Words that are `PAD` in the labels, int32 `(batch, captions, length)`, are masked. The mean is
    over all words of the global batch, whatever the number of replicas.
    """
    training_model.compile(
        optimizer=optimizer, loss=cross_entropy, metrics=[accuracy()], jit_compile=jit_compile
    )


def cross_entropy(labels, logits):
    """Returns values `(batch,)` whose mean over all replicas is the mean loss per word."""
    ops = keras.ops
    mask, entropy = token_cross_entropy(labels, logits)
    images = ops.cast(ops.shape(labels)[0], entropy.dtype)
    total = strategies.all_reduce_sum(ops.stack([ops.sum(mask), images]))
    axes = tuple(range(1, len(labels.shape)))
    return ops.sum(entropy, axis=axes) * (total[1] / ops.maximum(total[0], 1))


def token_cross_entropy(labels, logits):
    """Returns the mask of words, 0 for `PAD`, and their masked cross-entropy in nats."""
    ops = keras.ops
    labels = ops.cast(labels, "int32")
    mask = ops.cast(labels != PAD, "float32")
    entropy = ops.sparse_categorical_crossentropy(
        labels, ops.cast(logits, "float32"), from_logits=True
    )
    return mask, entropy * mask


def accuracy():
    """Returns a Keras metric: the accuracy of the predicted next words, `PAD` masked."""

    class Accuracy(keras.metrics.Mean):
        def update_state(self, labels, logits, sample_weight=None):
            labels = keras.ops.cast(labels, "int32")
            hits = labels == keras.ops.cast(keras.ops.argmax(logits, axis=-1), "int32")
            return super().update_state(hits, labels != PAD)

    return Accuracy(name="accuracy")


def _lambda_layer(function, name, dtype=None):
    return lambda_layer.LambdaLayer(function, name=name, dtype=dtype)


def _scheduled_sampling(tensors):
    """Returns words, some of which are replaced by samples of what the model predicts."""
    ops, (logits, words, random) = keras.ops, tensors
    random = ops.reshape(random, (-1, words.shape[1]))
    probabilities = ops.softmax(ops.stop_gradient(ops.cast(logits[:, :-1], "float32")))
    below = ops.cast(ops.cumsum(probabilities, axis=-1) < random[:, 1:, None], "int32")
    sampled = ops.minimum(ops.sum(below, axis=-1), logits.shape[-1] - 1)
    sampled = ops.concatenate([words[:, :1], ops.cast(sampled, words.dtype)], axis=1)
    replaced = (random >= 0) & (words != PAD) & (ops.arange(words.shape[1]) > 0)
    return ops.where(replaced, sampled, words)
