"""How a deep Q-network learns: acting and learning as one compiled step.

A small network acts by NumPy inside of it, which is `dqn_plain`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.engine import dqn_plain, optimize
from zoo.lazy import keras, np, tf

NAMES = ("loss", "mean_value", "mean_return")  # of what a step returns
PARTS = {  # of a batch, in the order in which they are handed over: their types
    "observations": None,
    "actions": "int32",
    "returns": "float32",
    "discounts": "float32",
    "nexts": None,
    "weights": "float32",
}


@dataclass(frozen=True)
class Method:
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

    turns: int
    updates: int
    double: bool
    loss: str
    tau: float
    prioritised: bool


def step(players, method):
    """Returns the step of a `loop.Loop` whose networks are `online` and `target`.

    It is called inside the strategy's scope.

    Args:
        players: `dqn_player.Player` of each replica.
        method: the `Method`.
    """
    clock = tf.Variable(
        0,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )

    def taken(loop, batch):
        world = _World(players, clock)
        _act(loop.networks["online"], world, method.turns)
        found = [_learned(loop, world, method) for _ in range(method.updates)]
        world.wait()
        return {name: sum(each[name] for each in found) / len(found) for name in NAMES}

    return taken


def best_actions(network, frames):
    """Returns the action of the highest value for each observation.

    Args:
        network: of the kind `agent`.
        frames: observations `(batch, frames, ...)`, the latest last.
    """
    return tf.argmax(network(joined(frames), training=False), axis=1, output_type=tf.int32)


def joined(frames):
    """Returns frames as a network sees them: behind each other on the last axis."""
    shape = frames.shape
    if shape[1] == 1:
        return frames[:, 0]
    if shape.rank > 3:
        frames = tf.transpose(frames, [0, 2, 3, 1, 4])
        return tf.reshape(frames, [-1, *shape[2:4], shape[1] * shape[4]])
    return tf.reshape(frames, [-1, shape[1] * shape[2]])


def targets(online, target, batch, double):
    """Returns what the values of the actions taken should be.

    The discounted sum of rewards and, unless the episode terminated, the value of what follows:
    the target network's largest or, with `double`, that of the action which `online` prefers.

    Args:
        online, target: the networks.
        batch: a dict as `Replay.sample` returns, of tensors.
        double: whether the networks share the work.
    """
    nexts = joined(batch["nexts"])
    values = target(nexts, training=False)
    if double:
        best = tf.argmax(online(nexts, training=False), axis=1, output_type=tf.int32)
        values = tf.gather(values, best, axis=1, batch_dims=1)
    else:
        values = tf.reduce_max(values, axis=1)
    return batch["returns"] + batch["discounts"] * values


def _act(online, world, turns):
    """Takes some steps in each environment."""
    choose = dqn_plain.policy(online)
    if choose:
        world.play(turns, choose, online.variables)
        return

    def turn(count, frames, asked):
        best = tf.cond(
            asked,
            lambda: best_actions(online, frames),
            lambda: tf.zeros(frames.shape[:1], tf.int32),
        )
        return count + 1, *world.act(best)

    begun = (0, *world.look())
    done = tf.while_loop(lambda count, *_: count < turns, turn, begun, parallel_iterations=1)
    world.last = [done[0]]


def _learned(loop, world, method):
    """Learns from a batch; returns means by name."""
    online, target = loop.networks["online"], loop.networks["target"]
    places, batch, renew, mean_return = world.batch()
    wanted = targets(online, target, batch, method.double)
    kept = {}

    def loss():
        values = online(joined(batch["observations"]), training=True)
        kept["values"] = tf.gather(values, batch["actions"], axis=1, batch_dims=1)
        kept["errors"] = wanted - kept["values"]
        each = LOSSES[method.loss](kept["errors"])
        return tf.reduce_mean(batch["weights"] * each) + sum(online.losses)

    [optimizer] = optimize.parts(loop.optimizer)
    value = loop.minimize(optimizer, loss)
    if method.prioritised:
        world.learned(places, kept["errors"])
    _renew(online, target, renew, method.tau)
    mean_value = tf.reduce_mean(kept["values"])
    return {"loss": value, "mean_value": mean_value, "mean_return": mean_return}


def _huber(errors):
    size = tf.abs(errors)
    return tf.where(size < 1, 0.5 * tf.square(errors), size - 0.5)


LOSSES = {"huber": _huber, "mse": lambda errors: 0.5 * tf.square(errors)}


def _renew(online, target, due, tau):
    """Moves the target network to the one that learns, by a share, if that is due."""
    pairs = list(zip(target.variables, online.variables, strict=True))
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:

        def move():
            for old, new in pairs:
                old.assign(new if tau == 1 else old + tau * (new - old))

        tf.cond(due, move, lambda: None)
        return
    # Replicas cannot agree inside a condition; times 0 or 1 nothing is rounded.
    share = tau * tf.cast(due, tf.float32)
    for old, new in pairs:
        old.assign(share * new + (1 - share) * old)


class _World:
    """A replica's player, called from inside a graph: one call after the other.

    TensorFlow orders what touches the same variable, and not what calls Python; so each call waits
    for the one before it, and the first of a step for the last of the step before, by a clock.
    """

    def __init__(self, players, clock):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        self.players, self.replica, self.clock = players, tf.cast(replica, tf.int32), clock
        self.last = [clock.read_value()]
        facts, replay = players[0].environments.facts, players[0].replay
        self.seen = (None, replay.frames, *facts.shape)
        self.count, self.kind = len(players[0].environments), facts.dtype
        self.size = players[0].rules.batch_size

    def look(self):
        return self._seen(self._call(lambda player: player.look(), [], (self.kind, "bool")))

    def act(self, best):
        """Is called inside a loop, whose turns wait for each other by what they see."""
        self.last = []
        return self._seen(self._call(lambda player, a: player.act(a), [best], (self.kind, "bool")))

    def play(self, turns, choose, variables):
        """Takes some steps in each environment, all in one call."""

        def played(player, *values):
            player.play(turns, lambda frames: choose(frames, *values))
            return np.int32(0)

        self._call(played, [tf.convert_to_tensor(v) for v in variables], ["int32"])

    def batch(self):
        def drawn(player):
            places, batch, renew = player.batch()
            mean_return = np.float32(player.mean_return)
            return places, *(batch[name] for name in PARTS), renew, mean_return

        types = ["int64", *(kind or self.kind for kind in PARTS.values()), "bool", "float32"]
        places, *parts, renew, mean_return = self._call(drawn, [], types)
        for part, kind in zip(parts, PARTS.values(), strict=True):
            part.set_shape((self.size, *(() if kind else self.seen[1:])))
        renew.set_shape(())
        mean_return.set_shape(())
        return places, dict(zip(PARTS, parts, strict=True)), renew, mean_return

    def learned(self, places, errors):
        def update(player, places, errors):
            player.replay.tree.update(places, errors)
            return np.int32(0)

        self._call(update, [places, errors], ["int32"])

    def wait(self):
        with tf.control_dependencies(self.last):
            self.clock.assign_add(1)

    def _seen(self, parts):
        frames, asked = parts
        frames.set_shape((self.count, *self.seen[1:]))
        asked.set_shape(())
        return frames, asked

    def _call(self, function, arguments, types):
        """Calls a function of this replica's player when the graph runs."""

        def called(replica, *given):
            return function(self.players[int(replica)], *given)

        with tf.control_dependencies(self.last):
            found = tf.numpy_function(called, [self.replica, *arguments], list(types))
        self.last = found[:1]
        return found


def both(online):
    """Returns a model of a network and a copy of it, `online` and `target`, for one run."""
    target = keras.models.clone_model(online)
    target.set_weights(online.get_weights())
    inputs = keras.Input(online.input_shape[1:], name="input")
    online.name, target.name = "online", "target"
    return keras.Model(inputs, {"online": online(inputs), "target": target(inputs)})
