"""Recurrent layers that say something of an image, a word at a time."""

from __future__ import annotations

import keras

from zoo.errors import UsageError


class CaptionDecoder(keras.layers.Layer):
    """What layers share that turn words so far, and features of an image, into the next word.

    A layer is called on whole sentences, to learn; or it is stepped, to speak: `begin` looks at
    the features, once, and `step` takes a word.

    Args:
        units: width of the state.

    Call arguments:
        words: embedded `(batch, length, width)`.
        features: what `begin` takes.

    Returns:
        `(batch, length, width of the output)`, after each word.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def begin(self, features):
        """Returns what a sentence begins with.

        Args:
            features: of images.

        Returns:
            `(memory, state)`, two tuples of tensors whose first axis is the batch: what stays as
            it is for all of a sentence, and what each step changes.
        """
        raise NotImplementedError

    def step(self, word, memory, state):
        """Takes one word.

        Args:
            word: embedded `(batch, width)`.
            memory, state: what `begin` returned; the state, of the step before.

        Returns:
            `(output, state, places)`: of the output `(batch, width)`, of which the next word is
            made; of the places, how much of each feature was looked at, `(batch, positions)`,
            which sums to 1; `(batch, 0)` where features are not looked at one by one.
        """
        raise NotImplementedError

    def told(self, words, features):
        """Returns the outputs of all steps, and the places `(batch, length, positions)`."""
        memory, state = self.begin(features)
        words = keras.ops.transpose(words, (1, 0, 2))

        def step(carry, word):
            output, state, attention_weights = self.step(word, memory, carry[0])
            carry = (state, output, attention_weights)
            return carry, carry

        # What a step gives has the form of what it takes, as Keras wants it on TensorFlow.
        start = (state, *self._zero_outputs(words[0], memory))
        _, (_, outputs, attention_weights) = keras.ops.scan(step, start, words)
        return keras.ops.transpose(outputs, (1, 0, 2)), keras.ops.transpose(
            attention_weights, (1, 0, 2)
        )

    def call(self, words, features):
        return self.told(words, features)[0]

    def get_config(self):
        return {**super().get_config(), "units": self.units}

    def _zero_outputs(self, word, memory):
        """Returns zeros in the form of the output and the places of a step."""
        raise NotImplementedError

    def _lstm(self, given, cell):
        """Returns state and cell of what the four gates are given, `(batch, 4 * units)`."""
        ops = keras.ops
        gate, forget, new, output = ops.split(given, 4, axis=-1)
        cell = ops.sigmoid(forget) * cell + ops.sigmoid(gate) * ops.tanh(new)
        return ops.sigmoid(output) * ops.tanh(cell), cell

    def _gates(self, name):
        """Returns the dense layer of the four gates; gates that forget begin open."""
        units = self.units

        def bias(shape, dtype=None):
            opened = [keras.ops.zeros((units,)), keras.ops.ones((units,))]
            return keras.ops.concatenate([*opened, keras.ops.zeros((2 * units,))])

        return keras.layers.Dense(
            4 * units, bias_initializer=bias, dtype=self.dtype_policy, name=name
        )


@keras.saving.register_keras_serializable("zoo")
class TellingLSTM(CaptionDecoder):
    """An LSTM that is shown an image as its first word (Vinyals et al., 2014, equations 4 to 12).

    Args:
        units: width of state and output.

    Call arguments:
        words: embedded `(batch, length, width)`.
        features: of each image, one vector as wide as a word, `(batch, width)`.
    """

    def build(self, words_shape, features_shape):
        if words_shape[-1] != features_shape[-1]:
            raise UsageError(
                f"{self.name} takes an image as a word of {words_shape[-1]} numbers, not "
                f"{features_shape[-1]}"
            )
        self.gates = self._gates("gates")
        self.gates.build((None, words_shape[-1] + self.units))

    def begin(self, features):
        zeros = _zeros(features, self.units)
        _, state, _ = self.step(features, (), (zeros, zeros))
        return (), state

    def step(self, word, memory, state):
        hidden, cell = state
        given = self.gates(keras.ops.concatenate([word, hidden], axis=-1))
        hidden, cell = self._lstm(given, cell)
        return hidden, (hidden, cell), hidden[:, :0]

    def _zero_outputs(self, word, memory):
        zeros = _zeros(word, self.units)
        return zeros, zeros[:, :0]

    def compute_output_shape(self, words_shape, features_shape):
        return (*words_shape[:2], self.units)


@keras.saving.register_keras_serializable("zoo")
class AttendingLSTM(CaptionDecoder):
    """An LSTM that looks at places of an image (Xu et al., 2015, soft attention, equations 1 to 9).

    The output is `E y + L_h h + L_z z` of equation 7, as wide as a word, of which a dense layer
    makes logits.

    Args:
        units: width of the state.
        attention: width of what decides where to look.

    Call arguments:
        words: embedded `(batch, length, width)`.
        features: of each place `(batch, positions, channels)`.
    """

    def __init__(self, units, attention, **kwargs):
        super().__init__(units, **kwargs)
        self.attention = attention

    def build(self, words_shape, features_shape):
        width, channels = words_shape[-1], features_shape[-1]

        def dense(name, units, given, **options):
            layer = keras.layers.Dense(units, dtype=self.dtype_policy, name=name, **options)
            layer.build((None, given))
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
        attention_weights = ops.softmax(ops.cast(scores, "float32"), axis=-1)
        weights = ops.cast(attention_weights, features.dtype)
        context = ops.squeeze(ops.matmul(weights[:, None], features), axis=1)
        context = context * self.gate(hidden)
        given = self.gates(ops.concatenate([word, context, hidden], axis=-1))
        hidden, cell = self._lstm(given, cell)
        output = word + self.of_hidden(hidden) + self.of_context(context)
        return output, (hidden, cell), attention_weights

    def _zero_outputs(self, word, memory):
        _, keys = memory
        return keras.ops.zeros_like(word), keras.ops.zeros_like(keys[..., 0], dtype="float32")

    def compute_output_shape(self, words_shape, features_shape):
        return words_shape

    def get_config(self):
        return {**super().get_config(), "attention": self.attention}


def _zeros(x, width):
    """Returns zeros `(batch, width)`, of the batch and type of `x`."""
    return keras.ops.repeat(keras.ops.zeros_like(x[:, :1]), width, axis=1)
