"""What several replicas that take one step agree on: their gradients, and whether to update.

Keras 3.15 sums gradients over the replicas behind all else that it does with them. Here they are
summed first, so that what is clipped is the gradient of the whole batch, as on one device; and an
update every few steps, at which Keras fails there, is one.
"""

from __future__ import annotations

import functools

from zoo.errors import UsageError
from zoo.lazy import keras, np, tf

GRADIENT_COMPRESSIONS = ("none", "bfloat16")  # how gradients travel between replicas
RATE_SCALING_RULES = {
    "none": 0.0,
    "linear": 1.0,
    "sqrt": 0.5,
}  # powers of the ratio of batches, for rates


def check_replicas(task):
    """Returns lines that tell how the replicas of the scope share a task's steps.

    Args:
        task: a `tasks.engine.task.Task`.

    Raises:
        UsageError: they cannot.
    """
    replicas = num_replicas() if is_multi_replica() else 1
    own, rest = divmod(task.batch_size, replicas)
    if rest:
        near = sorted({own * replicas, (own + 1) * replicas} - {0})
        raise UsageError(
            f"--batch-size {task.batch_size} cannot be shared evenly by {replicas} replicas, and "
            f"examples of a smaller share would count more; take {' or '.join(map(str, near))}"
        )
    if replicas > 1 and task.jit_compile == "on":
        raise UsageError(
            f"--jit-compile on: XLA compiles a step for one device, and there are {replicas} "
            "replicas; take --jit-compile auto, or --strategy one"
        )
    lines = []
    if replicas > 1:
        lines.append(f"{task.batch_size} examples a step: {own} on each of {replicas} replicas")
    factor = task.rate_factor()
    if factor != 1:
        lines.append(f"rates are {factor:.4g} times those of the plan (--scale-learning-rate)")
    if replicas == 1 and task.gradient_compression != "none":
        lines.append("--gradient-compression changes nothing: there is one replica")
    return lines


def is_multi_replica():
    """Tells whether the scope that this is called in has more replicas than one."""
    return keras.backend.backend() == "tensorflow" and num_replicas() > 1


def num_replicas():
    """Returns how many replicas the scope has that this is called in."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def replica_id():
    """Returns the number of the replica in whose step this is called, a scalar int32 tensor."""
    return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)


@functools.cache
def distributed_optimizer(make):
    """Returns the subclass of an optimiser's class for replicas that compute a step together."""
    return type(make.__name__, (DistributedOptimizer, make), {"__module__": make.__module__})


def all_reduce_gradients(gradients, compression="none"):
    """Returns the sums of gradients over all replicas; called on each of them, in its step.

    Args:
        gradients: tensors, or `None` where there is no gradient.
        compression: `bfloat16` to round them, and their sums, to half the bytes on the way.
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
    """Calls one of two functions of gradients on all replicas, of which both may sum over them.

    A condition on each replica by itself must not do that. What they return is dropped.

    Args:
        predicate: a scalar that is the same on all replicas.
        yes, no: take a list of tensors.
        gradients: the tensors of this replica.
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


def set_sync_batch_norm(training_model, together):
    """Lets batch normalisation estimate by the examples of all replicas, or of each by itself.

    Args:
        training_model: a `keras.Model`, changed in place before its step is traced. It must be
            changed
            back before it is saved: what is synchronised can be read on TensorFlow alone.
        together: whether a batch has one mean, on however many replicas it is.
    """
    for layer in training_model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = together


def rate_factor(rule, examples, reference):
    """Returns the factor of learning rates where updates see other numbers of examples.

    Args:
        rule: `linear` (Goyal et al., 2017), `sqrt` (Krizhevsky, 2014), or `none`.
        examples: that an update sees.
        reference: that the rates are meant for.
    """
    return (examples / reference) ** RATE_SCALING_RULES[rule]


class DistributedOptimizer:
    """What an optimiser of Keras does otherwise where replicas compute a step together."""

    compression = "none"

    def add_variable_from_reference(self, reference_variable, name=None, initializer="zeros"):
        """Returns a variable like one of the model; what is accumulated is each replica's own."""
        if name != "gradient_accumulator":
            return super().add_variable_from_reference(reference_variable, name, initializer)
        variable = keras.Variable(
            np.zeros(reference_variable.shape, "float32"),
            dtype=reference_variable.dtype,
            trainable=False,
            aggregation="sum",  # a checkpoint has the sum
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
        places = [self._get_variable_index(variable) for variable in variables]
        sums = [self._accumulated_gradients[place] for place in places]

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
        return grads_and_vars  # they are sums already


def _call_and_return_true(function, argument):
    function(argument)
    return True
