"""Layers with spectral normalization: weights divided by their largest singular value."""

from __future__ import annotations

import keras


class SpectralNormMixin:
    """Adds spectral normalization (Miyato et al., 2018) to the layer class it is mixed with.

    The largest singular value of the weights, as a matrix with the output channels as columns, is
    `|W u|`; `u` is updated by one step of power iteration at each call in training. Gradients pass
    through both the weights and the singular value, as in the paper. The weights themselves are
    never changed, unlike in `keras.layers.SpectralNormalization`, which would interfere with
    replicas and optimizers.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.direction = self.add_weight(
            name="direction",
            shape=(self._unnormalized.shape[-1],),
            initializer="random_normal",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",  # all have the same weights
        )

    def call(self, inputs, training=None):
        if training:
            matrix, u = self._matrix(), self._unit()
            found = keras.ops.stop_gradient(keras.ops.transpose(matrix) @ (matrix @ u))
            self.direction.assign(_normalize_vector(found)[:, 0])
        return super().call(inputs)

    def save_own_variables(self, store):
        # The methods of Conv2D, Dense and Embedding would omit `direction`.
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        keras.layers.Layer.load_own_variables(self, store)

    def _normalized_weights(self):
        """Returns the weights, divided by their largest singular value."""
        weights = self._unnormalized
        if not hasattr(self, "direction"):  # while they are created
            return weights
        value = keras.ops.norm(self._matrix() @ keras.ops.stop_gradient(self._unit()))
        return weights / keras.ops.cast(value, weights.dtype)

    def _matrix(self):
        weights = keras.ops.cast(self._unnormalized, self.direction.dtype)
        return keras.ops.reshape(weights, (-1, weights.shape[-1]))

    def _unit(self):
        return _normalize_vector(self.direction[:, None])


class SpectralKernelMixin(SpectralNormMixin):
    """Spectral normalization of a layer whose weights are a kernel."""

    @property
    def _unnormalized(self):
        return self._kernel

    @property
    def kernel(self):
        """The normalized kernel, with which the layer computes."""
        return self._normalized_weights()


@keras.saving.register_keras_serializable("zoo")
class SpectralConv2D(SpectralKernelMixin, keras.layers.Conv2D):
    """`Conv2D`, with `kernel` divided by its largest singular value."""


@keras.saving.register_keras_serializable("zoo")
class SpectralDense(SpectralKernelMixin, keras.layers.Dense):
    """`Dense`, with `kernel` divided by its largest singular value."""


@keras.saving.register_keras_serializable("zoo")
class SpectralEmbedding(SpectralNormMixin, keras.layers.Embedding):
    """`Embedding`, with the table of vectors divided by its largest singular value."""

    @property
    def _unnormalized(self):
        return self._embeddings

    @property
    def embeddings(self):
        """The normalized table of vectors."""
        return self._normalized_weights()


def _normalize_vector(vector):
    return vector / keras.ops.maximum(keras.ops.norm(vector), 1e-12)
