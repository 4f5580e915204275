"""Replicas that compute a step together: gradients, clipping, accumulation, BatchNorm.

Keras 3.15 sums gradients over replicas after clipping and accumulating them. Here they are summed
first, so that the gradient of the whole batch is clipped, as on one device. Gradient accumulation,
which fails in Keras on several replicas, works.
"""

from __future__ import annotations

import functools

from zoo.errors import UsageError
from zoo.lazy import keras, np, tf

GRADIENT_COMPRESSIONS = ("none", "bfloat16")  # data type of gradients between replicas
RATE_SCALING_RULES = {"none": 0.0, "linear": 1.0, "sqrt": 0.5}  # exponent of the batch size ratio


def check_replicas(task):
    """Returns status lines about the replicas of the scope and the flags of a task.

    Args:
        task: A `tasks.engine.task.Task`.

    Raises:
        UsageError: The flags do not suit the number of replicas.
    """
    replicas = num_replicas() if is_multi_replica() else 1
    own, rest = divmod(task.batch_size, replicas)
    if rest:
        near = sorted({own * replicas, (own + 1) * replicas} - {0})
        raise UsageError(
            f"--batch-size {task.batch_size} is not a multiple of the {replicas} replicas, so "
            f"their examples would not count equally; use {' or '.join(map(str, near))}"
        )
    if replicas > 1 and task.jit_compile == "on":
        raise UsageError(
            f"--jit-compile on: XLA compiles a step for one device, and there are {replicas} "
            "replicas; use --jit-compile auto, or --strategy one"
        )
    lines = []
    if replicas > 1:
        lines.append(f"batch size {task.batch_size}: {own} on each of {replicas} replicas")
    factor = task.rate_factor()
    if factor != 1:
        lines.append(f"--scale-learning-rate multiplies learning rates by {factor:.4g}")
    if replicas == 1 and task.gradient_compression != "none":
        lines.append("--gradient-compression has no effect on one replica")
    return lines


def is_multi_replica():
    """Returns whether the current scope has several replicas."""
    return keras.backend.backend() == "tensorflow" and num_replicas() > 1


def num_replicas():
    """Returns the number of replicas of the current scope."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def replica_id():
    """Returns the index of the replica that calls this in its step, a scalar int32 tensor."""
    return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)


@functools.cache
def distributed_optimizer(make):
    """Returns the subclass of an optimizer class for several replicas."""
    return type(make.__name__, (DistributedOptimizer, make), {"__module__": make.__module__})


def all_reduce_gradients(gradients, compression="none"):
    """Returns the sums of gradients over all replicas; called by each replica in its step.

    Args:
        gradients: Tensors, or `None` where there is no gradient.
        compression: `bfloat16` to sum them in that type, which halves the bytes sent.
    """
    present = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    kinds = [g.dtype for g in present]
    if compression != "none":
        present = [tf.cast(g, compression) for g in present]
    context = tf.distribute.get_replica_context()
    sums = context.all_reduce(tf.distribute.ReduceOp.SUM, present) if present else []
    found = iter([tf.cast(g, kind) for g, kind in zip(sums, kinds, strict=True)])
    return [None if g is None else next(found) for g in gradients]


def cond_across_replicas(predicate, yes, no, gradients):
    """Calls one of two functions of gradients on all replicas.

    Both may sum over replicas, which is not possible in a `tf.cond` of each replica. Their return
    values are ignored.

    Args:
        predicate: A scalar that is equal on all replicas.
        yes, no: Functions of a list of tensors.
        gradients: The tensors of this replica.
    """
    if not is_multi_replica():
        tf.cond(
            predicate,
            lambda: _call_and_return_true(yes, gradients),
            lambda: _call_and_return_true(no, gradients),
        )
        return

    def merged(strategy, predicate, gradients):
        first = strategy.experimental_local_results(predicate)[0]
        run = functools.partial(strategy.extended.call_for_each_replica, args=(gradients,))
        tf.cond(
            first, lambda: _call_and_return_true(run, yes), lambda: _call_and_return_true(run, no)
        )

    tf.distribute.get_replica_context().merge_call(merged, args=(predicate, gradients))


def set_sync_batch_norm(training_model, synchronized):
    """Switches synchronized BatchNorm statistics on or off.

    Args:
        training_model: A `keras.Model`, changed in place before its step is traced. It must be
            switched off before saving: synchronized layers load on TensorFlow only.
        synchronized: Whether the statistics of a batch are those of all replicas.
    """
    for layer in training_model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronized


def rate_factor(rule, examples, reference):
    """Returns the factor of learning rates for an effective batch size.

    Args:
        rule: `linear` (Goyal et al., 2017), `sqrt` (Krizhevsky, 2014), or `none`.
        examples: The number of examples per update.
        reference: The number of examples for which the learning rates are meant.
    """
    return (examples / reference) ** RATE_SCALING_RULES[rule]


class DistributedOptimizer:
    """Mixin for Keras optimizers that sums gradients over replicas before anything else."""

    compression = "none"

    def add_variable_from_reference(self, reference_variable, name=None, initializer="zeros"):
        """Returns a variable like one of the model; each replica has its own accumulators."""
        if name != "gradient_accumulator":
            return super().add_variable_from_reference(reference_variable, name, initializer)
        variable = keras.Variable(
            np.zeros(reference_variable.shape, "float32"),
            dtype=reference_variable.dtype,
            trainable=False,
            aggregation="sum",  # checkpoints hold the sum
            synchronization="on_read",
            name=f"{reference_variable.path.replace('/', '_')}_{name}",
        )
        self._track_variable(variable)
        return variable

    def _backend_apply_gradients(self, grads, trainable_variables):
        if self.gradient_accumulation_steps:
            self._accumulate(list(grads), trainable_variables)
        else:
            self._update(grads, trainable_variables)
        if self.use_ema:
            self._update_model_variables_moving_average(self._trainable_variables)

    def _accumulate(self, grads, variables):
        steps = self.gradient_accumulation_steps
        indices = [self._get_variable_index(variable) for variable in variables]
        sums = [self._accumulated_gradients[index] for index in indices]

        def update(grads):
            self._update([(g + s) / steps for g, s in zip(grads, sums, strict=True)], variables)
            for each in sums:
                each.assign(keras.ops.zeros_like(each))

        def wait(grads):
            for each, g in zip(sums, grads, strict=True):
                each.assign(each + g)

        grads = [tf.convert_to_tensor(g) for g in grads]
        cond_across_replicas((self._iterations + 1) % steps == 0, update, wait, grads)

    def _update(self, grads, variables):
        grads = self._clip_gradients(self._sums(grads))
        self._apply_weight_decay(variables)
        self._backend_update_step(grads, variables, self.learning_rate)

    def _sums(self, grads):
        return all_reduce_gradients(grads, self.compression)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars  # they are summed already


def _call_and_return_true(function, argument):
    function(argument)
    return True
