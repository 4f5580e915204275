"""The training step of DQN: acting and updates as one compiled function.

Small networks choose actions in NumPy within that step, see `numpy_policy`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.distributed import replicas
from tasks.dqn import numpy_policy
from tasks.engine import optimize
from zoo.lazy import keras, np, tf

METRIC_NAMES = ("loss", "mean_value", "mean_return")  # returned by a training step
BATCH_DTYPES = {  # of the arrays of a batch; `None`: the dtype of observations
    "observations": None,
    "actions": "int32",
    "returns": "float32",
    "discounts": "float32",
    "nexts": None,
    "weights": "float32",
}


@dataclass(frozen=True)
class TrainStepConfig:
    """Options of a training step, besides those of its actors.

    Attributes:
        env_steps: steps per environment.
        updates: batches to train on after them.
        double: double DQN: the online network selects the action whose value the target network
            estimates (van Hasselt et al., 2015).
        loss: `huber` (Mnih et al., 2015: "error clipping") or `mse`.
        tau: rate of the target network's update; 1 copies the online network.
        prioritized: whether TD errors become priorities.
    """

    env_steps: int
    updates: int
    double: bool
    loss: str
    tau: float
    prioritized: bool


def build_train_step(actors, config):
    """Returns the training step of a `custom_step.CustomStepModel` of `online` and `target`.

    It must be called inside the strategy's scope.

    Args:
        actors: the `actor.Actor` of each replica.
        config: the `TrainStepConfig`.
    """
    clock = tf.Variable(
        0,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )

    def train_step(loop, batch):
        graph_actor = _GraphActor(actors, clock)
        _act_in_environments(loop.networks["online"], graph_actor, config.env_steps)
        means = [_train_on_batch(loop, graph_actor, config) for _ in range(config.updates)]
        graph_actor.wait()
        return {name: sum(each[name] for each in means) / len(means) for name in METRIC_NAMES}

    return train_step


def greedy_actions(network, frames):
    """Returns the action with the highest Q-value for each observation, int32 `(batch,)`.

    Args:
        network: a model of the kind `agent`.
        frames: stacked observations `(batch, frame_stack, ...)`, the latest last.
    """
    return tf.argmax(network(merge_frames(frames), training=False), axis=1, output_type=tf.int32)


def merge_frames(frames):
    """Returns stacked observations as the network takes them: concatenated on the last axis."""
    shape = frames.shape
    if shape[1] == 1:
        return frames[:, 0]
    if shape.rank > 3:
        frames = tf.transpose(frames, [0, 2, 3, 1, 4])
        return tf.reshape(frames, [-1, *shape[2:4], shape[1] * shape[4]])
    return tf.reshape(frames, [-1, shape[1] * shape[2]])


def td_targets(online, target, batch, double):
    """Returns the TD targets of the Q-values of the actions taken, `(batch,)`.

    A target is the discounted sum of n rewards and, unless the episode terminated, the discounted
    value of the observation that follows: the target network's largest Q-value or, with `double`,
    its Q-value of the action that the online network selects.

    Args:
        online, target: the networks.
        batch: tensors by name, as `ReplayBuffer.sample` returns them.
        double: whether to use double DQN.
    """
    nexts = merge_frames(batch["nexts"])
    values = target(nexts, training=False)
    if double:
        best = tf.argmax(online(nexts, training=False), axis=1, output_type=tf.int32)
        values = tf.gather(values, best, axis=1, batch_dims=1)
    else:
        values = tf.reduce_max(values, axis=1)
    return batch["returns"] + batch["discounts"] * values


def _act_in_environments(online, graph_actor, env_steps):
    """Takes steps in each environment."""
    select_actions = numpy_policy.policy(online)
    if select_actions:
        graph_actor.play(env_steps, select_actions, online.variables)
        return

    def env_step(count, frames, needs_network):
        actions = tf.cond(
            needs_network,
            lambda: greedy_actions(online, frames),
            lambda: tf.zeros(frames.shape[:1], tf.int32),
        )
        return count + 1, *graph_actor.act(actions)

    start = (0, *graph_actor.observe())
    end = tf.while_loop(lambda count, *_: count < env_steps, env_step, start, parallel_iterations=1)
    graph_actor.last = [end[0]]


def _train_on_batch(loop, graph_actor, config):
    """Trains on a batch; returns metrics by name."""
    online, target = loop.networks["online"], loop.networks["target"]
    indices, batch, update_target, mean_return = graph_actor.batch()
    targets = td_targets(online, target, batch, config.double)
    outputs = {}

    def loss():
        values = online(merge_frames(batch["observations"]), training=True)
        outputs["values"] = tf.gather(values, batch["actions"], axis=1, batch_dims=1)
        outputs["errors"] = targets - outputs["values"]
        each = LOSSES[config.loss](outputs["errors"])
        return tf.reduce_mean(batch["weights"] * each) + sum(online.losses)

    [optimizer] = optimize.inner_optimizers(loop.optimizer)
    value = loop.minimize(optimizer, loss)
    if config.prioritized:
        graph_actor.update_priorities(indices, outputs["errors"])
    _update_target(online, target, update_target, config.tau)
    mean_value = tf.reduce_mean(outputs["values"])
    return {"loss": value, "mean_value": mean_value, "mean_return": mean_return}


def _huber(errors):
    size = tf.abs(errors)
    return tf.where(size < 1, 0.5 * tf.square(errors), size - 0.5)


LOSSES = {"huber": _huber, "mse": lambda errors: 0.5 * tf.square(errors)}


def _update_target(online, target, due, tau):
    """Moves the weights of the target network towards the online network by `tau`, if due."""
    pairs = list(zip(target.variables, online.variables, strict=True))
    if replicas.num_replicas() == 1:

        def move():
            for old, new in pairs:
                old.assign(new if tau == 1 else old + tau * (new - old))

        tf.cond(due, move, lambda: None)
        return
    # Variables cannot be assigned across replicas inside `tf.cond`. Factors of 0 and 1 are exact.
    rate = tau * tf.cast(due, tf.float32)
    for old, new in pairs:
        old.assign(rate * new + (1 - rate) * old)


class _GraphActor:
    """The actor of a replica, called from inside a graph, one call after the other.

    TensorFlow orders operations on the same variable, but not calls of Python functions. So each
    call has a control dependency on the one before it. The first call of a step depends on the last
    one of the step before through a variable, `clock`.
    """

    def __init__(self, actors, clock):
        self.actors, self.replica, self.clock = actors, replicas.replica_id(), clock
        self.last = [clock.read_value()]
        env_spec, replay = actors[0].environments.env_spec, actors[0].replay
        self.frames_shape = (None, replay.frame_stack, *env_spec.shape)
        self.count, self.dtype = len(actors[0].environments), env_spec.dtype
        self.size = actors[0].config.batch_size

    def observe(self):
        return self._set_shapes(self._call(lambda actor: actor.observe(), [], (self.dtype, "bool")))

    def act(self, actions):
        """Acts inside `tf.while_loop`, whose iterations depend on each other's observations."""
        self.last = []
        return self._set_shapes(
            self._call(lambda actor, a: actor.act(a), [actions], (self.dtype, "bool"))
        )

    def play(self, env_steps, select_actions, variables):
        """Takes several steps in each environment in one call."""

        def run_steps(actor, *values):
            actor.play(env_steps, lambda frames: select_actions(frames, *values))
            return np.int32(0)

        self._call(run_steps, [tf.convert_to_tensor(v) for v in variables], ["int32"])

    def batch(self):
        def sample(actor):
            indices, batch, update_target = actor.batch()
            mean_return = np.float32(actor.mean_return)
            return indices, *(batch[name] for name in BATCH_DTYPES), update_target, mean_return

        types = [
            "int64",
            *(dtype or self.dtype for dtype in BATCH_DTYPES.values()),
            "bool",
            "float32",
        ]
        indices, *parts, update_target, mean_return = self._call(sample, [], types)
        for part, dtype in zip(parts, BATCH_DTYPES.values(), strict=True):
            part.set_shape((self.size, *(() if dtype else self.frames_shape[1:])))
        update_target.set_shape(())
        mean_return.set_shape(())
        return indices, dict(zip(BATCH_DTYPES, parts, strict=True)), update_target, mean_return

    def update_priorities(self, indices, errors):
        def update(actor, indices, errors):
            actor.replay.tree.update(indices, errors)
            return np.int32(0)

        self._call(update, [indices, errors], ["int32"])

    def wait(self):
        with tf.control_dependencies(self.last):
            self.clock.assign_add(1)

    def _set_shapes(self, parts):
        frames, needs_network = parts
        frames.set_shape((self.count, *self.frames_shape[1:]))
        needs_network.set_shape(())
        return frames, needs_network

    def _call(self, function, arguments, types):
        """Calls a function of this replica's actor when the graph runs."""

        def call(replica, *values):
            return function(self.actors[int(replica)], *values)

        with tf.control_dependencies(self.last):
            outputs = tf.numpy_function(call, [self.replica, *arguments], list(types))
        self.last = outputs[:1]
        return outputs


def with_target_network(online):
    """Returns a model of a network and its copy, the layers `online` and `target`."""
    target = keras.models.clone_model(online)
    target.set_weights(online.get_weights())
    inputs = keras.Input(online.input_shape[1:], name="input")
    online.name, target.name = "online", "target"
    return keras.Model(inputs, {"online": online(inputs), "target": target(inputs)})
