"""Recurrent decoders of image captions, one word per step."""

from __future__ import annotations

import keras

from zoo.errors import UsageError


class CaptionDecoder(keras.layers.Layer):
    """Base class of decoders of the next word, from the words so far and features of an image.

    For training, a layer is called on whole captions. For generation it is stepped: `begin` takes
    the features, once, and `step` takes one word at a time.

    Args:
        units: width of the state.

    Call arguments:
        words: word embeddings `(batch, length, width)`.
        features: features of the images, in the shape that `begin` takes.

    Returns:
        The output after each word, `(batch, length, width of the output)`.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def begin(self, features):
        """Returns the memory and the initial state of a caption.

        Args:
            features: features of the images.

        Returns:
            `(memory, state)`, two tuples of tensors whose first axis is the batch: the memory is
            constant for a caption, the state changes at each step.
        """
        raise NotImplementedError

    def step(self, word, memory, state):
        """Decodes one word.

        Args:
            word: word embedding `(batch, width)`.
            memory: the memory from `begin`.
            state: the state from `begin` or from the step before.

        Returns:
            `(output, state, attention weights)`: the output `(batch, width)`, from which the logits
            of the next word are computed; the next state; and the attention weights of the
            positions, `(batch, positions)`, which sum to 1, or `(batch, 0)` without attention.
        """
        raise NotImplementedError

    def decode(self, words, features):
        """Returns outputs and attention weights of all steps.

        Args:
            words: word embeddings `(batch, length, width)`.
            features: features of the images.

        Returns:
            `(batch, length, width of the output)` and `(batch, length, positions)`.
        """
        memory, state = self.begin(features)
        words = keras.ops.transpose(words, (1, 0, 2))

        def step(carry, word):
            output, state, attention_weights = self.step(word, memory, carry[0])
            carry = (state, output, attention_weights)
            return carry, carry

        # The output of a step has the structure of its carry, as `scan` requires on TensorFlow.
        start = (state, *self._zero_outputs(words[0], memory))
        _, (_, outputs, attention_weights) = keras.ops.scan(step, start, words)
        return keras.ops.transpose(outputs, (1, 0, 2)), keras.ops.transpose(
            attention_weights, (1, 0, 2)
        )

    def call(self, words, features):
        return self.decode(words, features)[0]

    def get_config(self):
        return {**super().get_config(), "units": self.units}

    def _zero_outputs(self, word, memory):
        """Returns zeros in the shape of the output and of the attention weights of a step."""
        raise NotImplementedError

    def _lstm(self, gates, cell):
        """Returns hidden state and cell state from the four gates, `(batch, 4 * units)`."""
        ops = keras.ops
        gate, forget, new, output = ops.split(gates, 4, axis=-1)
        cell = ops.sigmoid(forget) * cell + ops.sigmoid(gate) * ops.tanh(new)
        return ops.sigmoid(output) * ops.tanh(cell), cell

    def _gates(self, name):
        """Returns the dense layer of the four gates; the bias of the forget gate starts at 1."""
        units = self.units

        def bias(shape, dtype=None):
            first_two = [keras.ops.zeros((units,), dtype), keras.ops.ones((units,), dtype)]
            return keras.ops.concatenate([*first_two, keras.ops.zeros((2 * units,), dtype)])

        return keras.layers.Dense(
            4 * units, bias_initializer=bias, dtype=self.dtype_policy, name=name
        )


@keras.saving.register_keras_serializable("zoo")
class TellingLSTM(CaptionDecoder):
    """An LSTM whose first input is the image (Vinyals et al., 2014, equations 4 to 12).

    Args:
        units: width of state and output.

    Call arguments:
        words: word embeddings `(batch, length, width)`.
        features: one vector per image, as wide as a word embedding, `(batch, width)`.
    """

    def build(self, words_shape, features_shape):
        if words_shape[-1] != features_shape[-1]:
            raise UsageError(
                f"{self.name} needs image features as wide as a word embedding; got "
                f"{features_shape[-1]}, expected {words_shape[-1]}"
            )
        self.gates = self._gates("gates")
        self.gates.build((None, words_shape[-1] + self.units))

    def begin(self, features):
        zeros = _zeros(features, self.units)
        _, state, _ = self.step(features, (), (zeros, zeros))
        return (), state

    def step(self, word, memory, state):
        hidden, cell = state
        gates = self.gates(keras.ops.concatenate([word, hidden], axis=-1))
        hidden, cell = self._lstm(gates, cell)
        return hidden, (hidden, cell), hidden[:, :0]

    def _zero_outputs(self, word, memory):
        zeros = _zeros(word, self.units)
        return zeros, zeros[:, :0]

    def compute_output_shape(self, words_shape, features_shape):
        return (*words_shape[:2], self.units)


@keras.saving.register_keras_serializable("zoo")
class AttendingLSTM(CaptionDecoder):
    """An LSTM with soft attention to positions of an image (Xu et al., 2015, equations 1 to 9).

    The output is `E y + L_h h + L_z z` of equation 7, as wide as a word embedding, from which a
    dense layer computes the logits.

    Args:
        units: width of the state.
        attention: hidden width of the attention network.

    Call arguments:
        words: word embeddings `(batch, length, width)`.
        features: features of each position `(batch, positions, channels)`.
    """

    def __init__(self, units, attention, **kwargs):
        super().__init__(units, **kwargs)
        self.attention = attention

    def build(self, words_shape, features_shape):
        width, channels = words_shape[-1], features_shape[-1]

        def dense(name, units, input_width, **options):
            layer = keras.layers.Dense(units, dtype=self.dtype_policy, name=name, **options)
            layer.build((None, input_width))
            return layer

        self.first_hidden = dense("first_hidden", self.units, channels, activation="tanh")
        self.first_cell = dense("first_cell", self.units, channels, activation="tanh")
        self.keys = dense("keys", self.attention, channels)
        self.query = dense("query", self.attention, width + self.units, use_bias=False)
        self.score = dense("score", 1, self.attention, use_bias=False)
        self.gate = dense("gate", 1, self.units, activation="sigmoid")
        self.of_hidden = dense("of_hidden", width, self.units)
        self.of_context = dense("of_context", width, channels, use_bias=False)
        self.gates = self._gates("gates")
        self.gates.build((None, width + channels + self.units))

    def begin(self, features):
        mean = keras.ops.mean(features, axis=1)
        return (features, self.keys(features)), (self.first_hidden(mean), self.first_cell(mean))

    def step(self, word, memory, state):
        ops, (features, keys), (hidden, cell) = keras.ops, memory, state
        query = self.query(ops.concatenate([word, hidden], axis=-1))
        scores = self.score(ops.tanh(keys + query[:, None]))[..., 0]
        attention_weights = ops.softmax(ops.cast(scores, _precise(scores)), axis=-1)
        weights = ops.cast(attention_weights, features.dtype)
        context = ops.squeeze(ops.matmul(weights[:, None], features), axis=1)
        context = context * self.gate(hidden)
        gates = self.gates(ops.concatenate([word, context, hidden], axis=-1))
        hidden, cell = self._lstm(gates, cell)
        output = word + self.of_hidden(hidden) + self.of_context(context)
        return output, (hidden, cell), attention_weights

    def _zero_outputs(self, word, memory):
        _, keys = memory
        return keras.ops.zeros_like(word), keras.ops.zeros_like(keys[..., 0], dtype=_precise(keys))

    def compute_output_shape(self, words_shape, features_shape):
        return words_shape

    def get_config(self):
        return {**super().get_config(), "attention": self.attention}


def _zeros(x, width):
    """Returns zeros `(batch, width)`, of the batch size and dtype of `x`."""
    return keras.ops.repeat(keras.ops.zeros_like(x[:, :1]), width, axis=1)


def _precise(x):
    """Returns the dtype of attention weights: float32, or the dtype of `x` if that is float64."""
    return keras.backend.result_type(x.dtype, "float32")
