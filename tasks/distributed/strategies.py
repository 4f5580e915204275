"""Distribution strategies: one device, several devices, or several workers."""

from __future__ import annotations

import contextlib
import io

from tasks.data import batches
from tasks.distributed import clusters, keras_patches, process_group
from zoo.errors import UsageError
from zoo.lazy import keras, np, tf

SINGLE_PROCESS = process_group.SingleProcess()
_current = {}  # process group and strategy of this process, if it is a worker


def create_strategy(name):
    """Returns the `tf.distribute.Strategy` called `name`.

    Args:
        name: `mirrored` uses every GPU or, without any, every logical CPU; `one` uses no
            strategy; `multiworker` uses every GPU, or the CPU, of all workers that
            `join_process_group` found; `auto` is `multiworker` if there are such, `mirrored` with
            two GPUs or more, and otherwise, or on another backend than TensorFlow, `one`.

    Raises:
        UsageError: Several replicas on another backend, which would silently train on one; or
            several workers in a command that does not train on several.
    """
    backend = keras.backend.backend()
    if name in ("mirrored", "multiworker") and backend != "tensorflow":
        raise UsageError(f"--strategy {name} needs KERAS_BACKEND=tensorflow; this is {backend}")
    if _current and name in ("auto", "multiworker"):
        return _current["strategy"]
    if name == "multiworker":
        raise UsageError("--strategy multiworker is for commands that train; use one or mirrored")
    if name == "auto":
        several = backend == "tensorflow" and len(tf.config.list_logical_devices("GPU")) > 1
        name = "mirrored" if several else "one"
    return STRATEGIES[name]()


def strategy_name(strategy):
    """Returns the `--strategy` name of a strategy: `one`, `mirrored` or `multiworker`."""
    if _current and strategy is _current["strategy"]:
        return "multiworker"
    return "mirrored" if isinstance(strategy, tf.distribute.MirroredStrategy) else "one"


@contextlib.contextmanager
def join_process_group(name, run, out):
    """Yields the process group of a run: a single process, unless the environment names workers.

    Must be entered before TensorFlow is used. An exception in one process ends the others.

    Args:
        name: The name of the strategy.
        run: A dict of JSON types that must be equal on all workers.
        out: The run folder, a `Path`.

    Raises:
        UsageError: The cluster configuration is wrong, or not all workers connect.
    """
    cluster = _cluster_config(name)
    if cluster is None:
        yield SINGLE_PROCESS
        return
    if not _current:
        group = process_group.ProcessGroup(cluster, run, clusters.wait_seconds(), out)
        _current.update(group=group, strategy=_multi_worker_strategy(cluster, group.addresses))
    group = _current["group"]
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
    except Exception as error:  # the other workers must end, too; it is raised again
        group.fail(process_group.EXIT_USAGE_ERROR, f"{type(error).__name__}: {error}")
        raise


def is_chief():
    """Returns whether this process is the chief, or the only one."""
    return not _current or _current["group"].chief


def _cluster_config(name):
    """Returns the `ClusterConfig` for a strategy, or `None` for a single process."""
    cluster = clusters.find_cluster(scheduled=name == "multiworker")
    if name == "multiworker" and cluster is None:
        raise UsageError(
            "--strategy multiworker needs two or more workers: name them with --workers "
            "HOST:PORT,... and --worker N, or by TF_CONFIG, or run under zoo launch, Slurm or "
            "Kubernetes (docs/clusters.md)"
        )
    if cluster and name not in ("auto", "multiworker"):
        raise UsageError(
            f"--strategy {name} is for one process, and there are {len(cluster.workers)} workers; "
            "use --strategy auto"
        )
    return cluster


def _multi_worker_strategy(cluster, addresses):
    """Returns the strategy of all workers, given their addresses."""
    keras_patches.apply_patches()
    gpus = len(tf.config.list_physical_devices("GPU"))
    options = tf.distribute.experimental.CommunicationOptions(
        # On CPUs, AUTO warns that there is no NCCL.
        implementation=getattr(
            tf.distribute.experimental.CommunicationImplementation, "AUTO" if gpus else "RING"
        )
    )
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": addresses}),
        task_type="worker",
        task_id=cluster.number,
        num_accelerators={"GPU": gpus},
        rpc_layer="grpc",
    )
    made = tf.distribute.MultiWorkerMirroredStrategy(resolver, options)
    # All workers have the same number of batches, and need not synchronize at the end of the data.
    made.extended.experimental_enable_get_next_as_optional = False
    return made


def _connection_errors():
    """Returns the errors that TensorFlow raises when it cannot reach other workers."""
    names = ("Unavailable", "Aborted", "Cancelled", "DeadlineExceeded", "FailedPrecondition")
    return tuple(getattr(tf.errors, f"{name}Error") for name in names)


def distribute_batches(strategy, pipeline, epoch, start):
    """Returns the batches of an epoch for `fit` under a strategy, sharded over workers.

    Each process computes the same order of all examples from the seed, and reads those of its own
    replicas, in the order of the replicas, so that none is used twice.

    Args:
        strategy: A `tf.distribute.Strategy`.
        pipeline: The data pipeline of `tasks.engine.task.Task.training`.
        epoch, start: The arguments of its `epoch`.
    """
    if not _is_multi_worker(strategy):
        return pipeline.epoch(epoch, start)
    count = strategy.num_replicas_in_sync
    local = local_replicas(count)
    with batches.read_shard(local, count):
        data = pipeline.epoch(epoch, start)

    def part(batch):
        size = batch.shape[0] // count
        rows_of_batch = batch[local.start * size : local.stop * size]
        return tf.reshape(rows_of_batch, (len(local), size, *batch.shape[1:]))

    def parts(*batch):
        rows = tf.nest.map_structure(part, batch if len(batch) > 1 else batch[0])
        return tf.data.Dataset.from_tensor_slices(rows)

    steps = tf.data.experimental.assert_cardinality(len(data) * len(local))
    dataset = data.flat_map(parts).apply(steps).prefetch(tf.data.AUTOTUNE)
    return strategy.distribute_datasets_from_function(lambda context: dataset)


def local_replicas(count):
    """Returns the indices of the replicas of this process, a range, out of `count`."""
    group = _current.get("group", SINGLE_PROCESS)
    each = count // group.count
    return range(group.number * each, (group.number + 1) * each)


def gather(arrays):
    """Returns the arrays of the other workers, by name, on the chief; elsewhere an empty dict.

    All workers must call it together.
    """
    if not _current:
        return {}
    file = io.BytesIO()
    np.savez(file, **arrays)
    found = _current["group"].gather(file.getvalue()) or []
    archives = [np.load(io.BytesIO(content), allow_pickle=False) for content in found[1:]]
    return {name: archive[name] for archive in archives for name in archive.files}


def check_batch_size(strategy, size):
    """Raises `UsageError` if a batch size is not a multiple of the replicas of several workers."""
    count = strategy.num_replicas_in_sync
    if _is_multi_worker(strategy) and size % count:
        raise UsageError(
            f"a batch of {size} examples cannot be split evenly over {count} replicas; set "
            f"--batch-size to a multiple of {count}, such as {-(-size // count) * count}"
        )


@contextlib.contextmanager
def single_process(models, variables):
    """A scope in which each worker uses models without the others.

    All workers must enter it together: variables that each replica updates separately, such as
    those of metrics, are summed over all replicas when they are read, which happens here.

    Args:
        models: `keras.Model`s, possibly with nested models.
        variables: Variables that are read within the scope.
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
        if value is not None:  # split evenly over replicas, as when a checkpoint is restored
            variable.assign(value)


def _strategy_of(model):
    """Returns the strategy in whose scope a model was built, or `None`."""
    return getattr(model, "_distribute_strategy", None)


def scope(model):
    """Returns the scope of the strategy in which a model was built."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    return model.distribute_strategy.scope()


def all_reduce_sum(value):
    """Returns the sum of a tensor over all replicas; the tensor itself for one replica."""
    if keras.backend.backend() != "tensorflow" or tf.distribute.in_cross_replica_context():
        return value
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def mirrored_strategy():
    """Returns a strategy with one replica per GPU or, without any, per logical CPU."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    # The default reduction mixes up the sums of two optimizers in one step (tensorflow#62790), as
    # every GAN has; hierarchical copy does not.
    return tf.distribute.MirroredStrategy(
        [device.name for device in devices],
        cross_device_ops=tf.distribute.HierarchicalCopyAllReduce(),
    )


def _is_multi_worker(strategy):
    """Returns whether a strategy is that of several workers."""
    return bool(_current) and strategy is _current["strategy"]


STRATEGIES = {
    "one": lambda: tf.distribute.get_strategy(),
    "mirrored": mirrored_strategy,
}
