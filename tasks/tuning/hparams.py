"""Writes the trials for the HPARAMS page of TensorBoard: `tensorboard --logdir OUT/trials`."""

from __future__ import annotations

from tasks.engine import callbacks
from tasks.tuning import trial, trials_table
from tasks.tuning.space import Choices
from zoo.atomic_files import atomic_write
from zoo.lazy import LazyModule, tf

summary = LazyModule("tensorboard.plugins.hparams.summary")
api = LazyModule("tensorboard.plugins.hparams.api_pb2")

EVENT_FILE = "events.out.tfevents.0.hparams"
EVENT_VERSION = "brain.Event:2"


def write_experiment(out, space, column):
    """Writes the search space, and the column of the history that is the score of a trial."""
    infos = [_hparam_info(name, span, space.kinds[name]) for name, span in space.ranges.items()]
    metric = api.MetricInfo(name=api.MetricName(tag=column), display_name=column)
    _write_events(out / trials_table.TRIALS_FOLDER, [summary.experiment_pb(infos, [metric])])


def write_session(out, row):
    """Writes the flags and status of a trial next to its curves, if it has any."""
    folder = trials_table.trial_folder(out, row["trial"]) / callbacks.LOG_DIR
    if not folder.is_dir():
        return
    good = row["status"] in (trial.COMPLETED, trial.STOPPED)
    status = api.STATUS_SUCCESS if good else api.STATUS_FAILURE
    start = summary.session_start_pb(row["flags"], group_name=row["trial"])
    _write_events(folder, [start, summary.session_end_pb(status)])


def _hparam_info(name, span, kind):
    text = kind is str
    info = api.HParamInfo(name=name, type=api.DATA_TYPE_STRING if text else api.DATA_TYPE_FLOAT64)
    if isinstance(span, Choices):
        for value in span.values:
            if text:
                info.domain_discrete.values.add(string_value=value)
            else:
                info.domain_discrete.values.add(number_value=value)
    else:
        info.domain_interval.min_value, info.domain_interval.max_value = span.low, span.high
    return info


def _write_events(folder, summaries):
    make = tf.compat.v1.Event
    events = [make(file_version=EVENT_VERSION), *(make(summary=each) for each in summaries)]
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / EVENT_FILE) as partial, tf.io.TFRecordWriter(str(partial)) as writer:
        for event in events:
            writer.write(event.SerializeToString())
