"""Where a run's replicas live: the only file that names a `tf.distribute` strategy."""

from __future__ import annotations

import contextlib
import io

from tasks.data import batches
from tasks.distributed import clusters, keras_patches, process_group
from zoo.errors import UsageError
from zoo.lazy import keras, np, tf

STRATEGY_NAMES = ("auto", "one", "mirrored", "multiworker")
SINGLE_PROCESS = process_group.SingleProcess()
_current = {}  # the crew of this process and its strategy, once it has any


def create_strategy(name):
    """Returns the `tf.distribute.Strategy` called `name`.

    Args:
        name: `mirrored` uses every GPU or, without any, every logical CPU; `one` no strategy
            at all; `multiworker` every GPU, or the CPU, of all workers that `joined` found; `auto`
            means that if there are such, `mirrored` when there are two GPUs or more, and `one`
            otherwise or where Keras does not run on TensorFlow.

    Raises:
        UsageError: replicas are asked of another backend, which would train one and say nothing;
            or of several workers in a command that trains on one.
    """
    backend = keras.backend.backend()
    if name in ("mirrored", "multiworker") and backend != "tensorflow":
        raise UsageError(f"--strategy {name} needs KERAS_BACKEND=tensorflow; this is {backend}")
    if _current and name in ("auto", "multiworker"):
        return _current["strategy"]
    if name == "multiworker":
        raise UsageError("--strategy multiworker is for commands that train; take one or mirrored")
    if name == "auto":
        several = backend == "tensorflow" and len(tf.config.list_logical_devices("GPU")) > 1
        name = "mirrored" if several else "one"
    return STRATEGIES[name]()


def strategy_name(strategy):
    """Returns what `--strategy` calls a strategy: `one`, `mirrored` or `multiworker`."""
    if _current and strategy is _current["strategy"]:
        return "multiworker"
    return "mirrored" if isinstance(strategy, tf.distribute.MirroredStrategy) else "one"


@contextlib.contextmanager
def join_process_group(name, run, out):
    """Gives the crew of a run, which is one process alone unless the environment names workers.

    It has to come before all else that TensorFlow does. What goes wrong in here with one process
    ends the others.

    Args:
        name: of the strategy.
        run: what all workers must have in common, a dict as JSON has it.
        out: the run's folder, a `Path`.

    Raises:
        UsageError: the workers are not named as they should be, or do not all come.
    """
    place = _cluster_config(name)
    if place is None:
        yield SINGLE_PROCESS
        return
    if not _current:
        group = process_group.ProcessGroup(place, run, clusters.wait_seconds(), out)
        _current.update(crew=group, strategy=_multi_worker_strategy(place, group.addresses))
    group = _current["crew"]
    try:
        yield group
    except KeyboardInterrupt:
        group.fail(process_group.EXIT_INTERRUPTED, "stopped")
        raise
    except UsageError as error:
        group.fail(process_group.EXIT_USAGE_ERROR, str(error))
        raise
    except _connection_errors() as error:
        group.abandon(str(error).partition("\n")[0])
    except Exception as error:
        group.fail(process_group.EXIT_USAGE_ERROR, f"{type(error).__name__}: {error}")
        raise


def is_chief():
    """Tells whether this process is one alone, or the chief of several."""
    return not _current or _current["crew"].chief


def _cluster_config(name):
    """Returns the `Place` of this process in the cluster of a strategy, `None` for none."""
    place = clusters.find_cluster(scheduled=name == "multiworker")
    if name == "multiworker" and place is None:
        raise UsageError(
            "--strategy multiworker needs to know the workers: name two or more with --workers "
            "HOST:PORT,... and --worker N, by TF_CONFIG, or run under zoo launch, Slurm or "
            "Kubernetes (docs/clusters.md)"
        )
    if place and name not in ("auto", "multiworker"):
        raise UsageError(
            f"--strategy {name} is for one process, and there are {len(place.workers)} workers; "
            "take --strategy auto"
        )
    return place


def _multi_worker_strategy(place, addresses):
    """Returns the strategy of all workers, once they know where each is."""
    keras_patches.apply_patches()
    gpus = len(tf.config.list_physical_devices("GPU"))
    options = tf.distribute.experimental.CommunicationOptions(
        # On processors, TensorFlow's own choice warns that there is no NCCL.
        implementation=getattr(
            tf.distribute.experimental.CommunicationImplementation, "AUTO" if gpus else "RING"
        )
    )
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": addresses}),
        task_type="worker",
        task_id=place.number,
        num_accelerators={"GPU": gpus},
        rpc_layer="grpc",
    )
    made = tf.distribute.MultiWorkerMirroredStrategy(resolver, options)
    # All have the same number of batches, and need not ask each other whether there is one more.
    made.extended.experimental_enable_get_next_as_optional = False
    return made


def _connection_errors():
    """Returns the errors by which TensorFlow says that it does not reach the other workers."""
    names = ("Unavailable", "Aborted", "Cancelled", "DeadlineExceeded", "FailedPrecondition")
    return tuple(getattr(tf.errors, f"{name}Error") for name in names)


def distribute_batches(replicas, stream, epoch, start):
    """Returns the batches of an epoch as a strategy's `fit` takes them: every replica has its part.

    Each process knows the order of all examples, from the same seed, and reads those of its own
    replicas, in the order of the replicas: none comes twice.

    Args:
        replicas: a `tf.distribute.Strategy`.
        stream: as `tasks.engine.task.Task.training` gives it.
        epoch, start: as its `epoch` takes them.
    """
    if not _is_multi_worker(replicas):
        return stream.epoch(epoch, start)
    count = replicas.num_replicas_in_sync
    local = local_replicas(count)
    with batches.read_shard(local, count):
        data = stream.epoch(epoch, start)

    def part(batch):
        size = batch.shape[0] // count
        rows_of_batch = batch[local.start * size : local.stop * size]
        return tf.reshape(rows_of_batch, (len(local), size, *batch.shape[1:]))

    def parts(*batch):
        rows = tf.nest.map_structure(part, batch if len(batch) > 1 else batch[0])
        return tf.data.Dataset.from_tensor_slices(rows)

    steps = tf.data.experimental.assert_cardinality(len(data) * len(local))
    dealt = data.flat_map(parts).apply(steps).prefetch(tf.data.AUTOTUNE)
    return replicas.distribute_datasets_from_function(lambda context: dealt)


def local_replicas(count):
    """Returns the numbers of the replicas in this process, a range, of as many as there are."""
    group = _current.get("crew", SINGLE_PROCESS)
    each = count // group.count
    return range(group.number * each, (group.number + 1) * each)


def gather(arrays):
    """Returns to the chief the arrays that other workers have, by name; to the others nothing.

    All of them call it together.
    """
    if not _current:
        return {}
    file = io.BytesIO()
    np.savez(file, **arrays)
    found = _current["crew"].gather(file.getvalue()) or []
    archives = [np.load(io.BytesIO(content), allow_pickle=False) for content in found[1:]]
    return {name: archive[name] for archive in archives for name in archive.files}


def check_batch_size(replicas, size):
    """Raises `UsageError` where a batch cannot be shared out evenly among workers."""
    count = replicas.num_replicas_in_sync
    if _is_multi_worker(replicas) and size % count:
        raise UsageError(
            f"batches of {size} examples cannot be shared out among {count} replicas; let "
            f"--batch-size be a multiple of {count}, such as {-(-size // count) * count}"
        )


@contextlib.contextmanager
def single_process(models, variables):
    """Lets each process use what several workers teach without the others.

    All enter together: what each replica has counted for itself, such as for a metric, is a sum
    over all of them when it is read, which it is here.

    Args:
        models: `keras.Model`s, which may have others inside.
        variables: that are read.
    """
    inner = [each for model in models for each in model._flatten_layers()]
    shared = {
        id(x): x for x in inner if isinstance(x, keras.Model) and _is_multi_worker(_strategy_of(x))
    }
    replaced = [(model, "_distribute_strategy", None) for model in shared.values()]
    if _current:
        for variable in {id(v): v for v in variables}.values():
            if variable.synchronization == "on_read":
                value = tf.Variable(keras.ops.convert_to_numpy(variable))
                replaced.append((variable, "_value", value))
    before = [getattr(owner, name) for owner, name, _ in replaced]
    for owner, name, value in replaced:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name, _), own in zip(replaced, before, strict=True):
            setattr(owner, name, own)
    for variable, _, value in replaced:
        if value is not None:  # as a checkpoint would give it back: shared out evenly
            variable.assign(value)


def _strategy_of(model):
    """Returns the strategy in whose scope a model was made, `None` for none."""
    return getattr(model, "_distribute_strategy", None)


def scope(model):
    """Returns the scope of the strategy that a model was made in."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    return model.distribute_strategy.scope()


def all_reduce_sum(value):
    """Returns the sum of a tensor over all replicas that compute a step: itself, where one does."""
    if keras.backend.backend() != "tensorflow" or tf.distribute.in_cross_replica_context():
        return value
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def mirrored_strategy():
    """Returns a strategy with one replica per GPU or, without any, per logical CPU."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    # The default reduction hands two optimisers' sums to each other when one step runs
    # both (tensorflow#62790), as every GAN does; copying through the hierarchy does not.
    return tf.distribute.MirroredStrategy(
        [device.name for device in devices],
        cross_device_ops=tf.distribute.HierarchicalCopyAllReduce(),
    )


def _is_multi_worker(replicas):
    """Tells whether a strategy is that of several workers."""
    return bool(_current) and replicas is _current["strategy"]


STRATEGIES = {
    "one": lambda: tf.distribute.get_strategy(),
    "mirrored": mirrored_strategy,
}
