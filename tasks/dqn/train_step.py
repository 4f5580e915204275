"""How a deep Q-network learns: acting and learning as one compiled step.

A small network acts by NumPy inside of it, which is `dqn_plain`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.distributed import replicas
from tasks.dqn import numpy_policy
from tasks.engine import optimize
from zoo.lazy import keras, np, tf

METRIC_NAMES = ("loss", "mean_value", "mean_return")  # of what a step returns
BATCH_DTYPES = {  # of a batch, in the order in which they are handed over: their types
    "observations": None,
    "actions": "int32",
    "returns": "float32",
    "discounts": "float32",
    "nexts": None,
    "weights": "float32",
}


@dataclass(frozen=True)
class TrainStepConfig:
    """What a step does, besides what players do.

    Attributes:
        turns: steps that each environment takes.
        updates: batches that are learned from then.
        double: whether the network that learns chooses the action whose value the target network
            gives (van Hasselt et al., 2015).
        loss: `huber` (Mnih et al., 2015: "error clipping") or `mse`.
        tau: share of the target network that is replaced; 1 copies.
        prioritised: whether errors become priorities.
    """

    env_steps: int
    updates: int
    double: bool
    loss: str
    tau: float
    prioritised: bool


def build_train_step(actors, method):
    """Returns the step of a `custom_step.CustomStepModel` whose networks are `online` and `target`.

    It is called inside the strategy's scope.

    Args:
        actors: `actor.Actor` of each replica.
        method: the `Method`.
    """
    clock = tf.Variable(
        0,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )

    def train_step(loop, batch):
        graph_actor = _GraphActor(actors, clock)
        _act_in_environments(loop.networks["online"], graph_actor, method.env_steps)
        found = [_train_on_batch(loop, graph_actor, method) for _ in range(method.updates)]
        graph_actor.wait()
        return {name: sum(each[name] for each in found) / len(found) for name in METRIC_NAMES}

    return train_step


def greedy_actions(network, frames):
    """Returns the action of the highest value for each observation.

    Args:
        network: of the kind `agent`.
        frames: observations `(batch, frames, ...)`, the latest last.
    """
    return tf.argmax(network(merge_frames(frames), training=False), axis=1, output_type=tf.int32)


def merge_frames(frames):
    """Returns frames as a network sees them: behind each other on the last axis."""
    shape = frames.shape
    if shape[1] == 1:
        return frames[:, 0]
    if shape.rank > 3:
        frames = tf.transpose(frames, [0, 2, 3, 1, 4])
        return tf.reshape(frames, [-1, *shape[2:4], shape[1] * shape[4]])
    return tf.reshape(frames, [-1, shape[1] * shape[2]])


def td_targets(online, target, batch, double):
    """Returns what the values of the actions taken should be.

    The discounted sum of rewards and, unless the episode terminated, the value of what follows:
    the target network's largest or, with `double`, that of the action which `online` prefers.

    Args:
        online, target: the networks.
        batch: a dict as `Replay.sample` returns, of tensors.
        double: whether the networks share the work.
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
    """Takes some steps in each environment."""
    select_actions = numpy_policy.policy(online)
    if select_actions:
        graph_actor.play(env_steps, select_actions, online.variables)
        return

    def env_step(count, frames, needs_network):
        best = tf.cond(
            needs_network,
            lambda: greedy_actions(online, frames),
            lambda: tf.zeros(frames.shape[:1], tf.int32),
        )
        return count + 1, *graph_actor.act(best)

    begun = (0, *graph_actor.observe())
    done = tf.while_loop(
        lambda count, *_: count < env_steps, env_step, begun, parallel_iterations=1
    )
    graph_actor.last = [done[0]]


def _train_on_batch(loop, graph_actor, method):
    """Learns from a batch; returns means by name."""
    online, target = loop.networks["online"], loop.networks["target"]
    indices, batch, update_target, mean_return = graph_actor.batch()
    expected_values = td_targets(online, target, batch, method.double)
    outputs = {}

    def loss():
        values = online(merge_frames(batch["observations"]), training=True)
        outputs["values"] = tf.gather(values, batch["actions"], axis=1, batch_dims=1)
        outputs["errors"] = expected_values - outputs["values"]
        each = LOSSES[method.loss](outputs["errors"])
        return tf.reduce_mean(batch["weights"] * each) + sum(online.losses)

    [optimizer] = optimize.inner_optimizers(loop.optimizer)
    value = loop.minimize(optimizer, loss)
    if method.prioritised:
        graph_actor.update_priorities(indices, outputs["errors"])
    _update_target(online, target, update_target, method.tau)
    mean_value = tf.reduce_mean(outputs["values"])
    return {"loss": value, "mean_value": mean_value, "mean_return": mean_return}


def _huber(errors):
    size = tf.abs(errors)
    return tf.where(size < 1, 0.5 * tf.square(errors), size - 0.5)


LOSSES = {"huber": _huber, "mse": lambda errors: 0.5 * tf.square(errors)}


def _update_target(online, target, due, tau):
    """Moves the target network to the one that learns, by a share, if that is due."""
    pairs = list(zip(target.variables, online.variables, strict=True))
    if replicas.num_replicas() == 1:

        def move():
            for old, new in pairs:
                old.assign(new if tau == 1 else old + tau * (new - old))

        tf.cond(due, move, lambda: None)
        return
    # Replicas cannot agree inside a condition; times 0 or 1 nothing is rounded.
    share = tau * tf.cast(due, tf.float32)
    for old, new in pairs:
        old.assign(share * new + (1 - share) * old)


class _GraphActor:
    """A replica's player, called from inside a graph: one call after the other.

    TensorFlow orders what touches the same variable, and not what calls Python; so each call waits
    for the one before it, and the first of a step for the last of the step before, by a clock.
    """

    def __init__(self, actors, clock):
        self.actors, self.replica, self.clock = actors, replicas.replica_id(), clock
        self.last = [clock.read_value()]
        env_spec, replay = actors[0].environments.env_spec, actors[0].replay
        self.frames_shape = (None, replay.frames, *env_spec.shape)
        self.count, self.dtype = len(actors[0].environments), env_spec.dtype
        self.size = actors[0].config.batch_size

    def observe(self):
        return self._set_shapes(self._call(lambda actor: actor.observe(), [], (self.dtype, "bool")))

    def act(self, best):
        """Is called inside a loop, whose turns wait for each other by what they see."""
        self.last = []
        return self._set_shapes(
            self._call(lambda actor, a: actor.act(a), [best], (self.dtype, "bool"))
        )

    def play(self, env_steps, select_actions, variables):
        """Takes some steps in each environment, all in one call."""

        def run_steps(actor, *values):
            actor.play(env_steps, lambda frames: select_actions(frames, *values))
            return np.int32(0)

        self._call(run_steps, [tf.convert_to_tensor(v) for v in variables], ["int32"])

    def batch(self):
        def drawn(actor):
            indices, batch, update_target = actor.batch()
            mean_return = np.float32(actor.mean_return)
            return indices, *(batch[name] for name in BATCH_DTYPES), update_target, mean_return

        types = [
            "int64",
            *(dtype or self.dtype for dtype in BATCH_DTYPES.values()),
            "bool",
            "float32",
        ]
        indices, *parts, update_target, mean_return = self._call(drawn, [], types)
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
        """Calls a function of this replica's player when the graph runs."""

        def called(replica, *given):
            return function(self.actors[int(replica)], *given)

        with tf.control_dependencies(self.last):
            found = tf.numpy_function(called, [self.replica, *arguments], list(types))
        self.last = found[:1]
        return found


def with_target_network(online):
    """Returns a model of a network and a copy of it, `online` and `target`, for one run."""
    target = keras.models.clone_model(online)
    target.set_weights(online.get_weights())
    inputs = keras.Input(online.input_shape[1:], name="input")
    online.name, target.name = "online", "target"
    return keras.Model(inputs, {"online": online(inputs), "target": target(inputs)})
