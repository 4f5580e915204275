"""The flags that training has in every task."""

from __future__ import annotations

import dataclasses

from tasks.distributed import replicas
from tasks.engine import flags, optimize
from tasks.engine.flags import Between, flag


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingFlags:
    """Options of the optimizer, the schedule, checkpoints, hardware and distribution."""

    epochs: int = flag(8, "passes over the training split", low=1)
    batch_size: int = flag(32, "images per step, over all replicas", low=1)
    optimizer: str = flag(
        "adamw",
        "sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, lion or any other of Keras",
    )
    learning_rate: float = flag(
        0.0, "peak learning rate; 0: the default of the plan", search=Between(1e-5, 1e-2)
    )
    momentum: float = flag(0.9, "momentum of momentum, nesterov and rmsprop", high=1.0)
    schedule: str = flag(
        "cosine", "learning rate schedule of each stage of the plan", choices=optimize.SCHEDULES
    )
    warmup_epochs: float = flag(
        0.0, "epochs of linear warmup from 0; at most half of a stage of the plan"
    )
    decay_factor: float = flag(
        0.1,
        "step, plateau: factor of each drop; exponential, polynomial: final factor",
        high=1.0,
        former="decay",
    )
    plateau_patience: int = flag(
        2, "schedule plateau: epochs without improvement before the rate drops", low=1
    )
    milestones: str = flag("0.5,0.75", "schedule step: fractions of the run where the rate drops")
    power: float = flag(1.0, "schedule polynomial: exponent; 1 is linear", high=100.0)
    weight_decay: float = flag(
        1e-4, "decoupled weight decay of kernels, times the rate", high=100.0
    )
    l1: float = flag(0.0, "L1 regularization factor of kernels", low=0.0)
    l2: float = flag(0.0, "L2 regularization factor of kernels", low=0.0)
    clip_norm: float = flag(0.0, "maximum global norm of the gradients; 0: no clipping", low=0.0)
    gradient_accumulation_steps: int = flag(
        1, "steps whose gradients are averaged into one update", low=1, former="accumulate"
    )
    ema_decay: float = flag(
        0.0,
        "decay of the exponential moving average of weights, such as 0.999; 0: none",
        high=0.999999,
        former="average",
    )
    checkpoint_minutes: float = flag(
        5.0, "minutes between checkpoints within an epoch; one more follows each epoch", low=0.0
    )
    checkpoint_steps: int = flag(0, "steps between checkpoints; 0: by time", low=0)
    keep_checkpoints: int = flag(
        1, "latest checkpoints to keep, besides the best", low=1, former="keep"
    )
    patience: int = flags.patience_flag("val_loss")
    precision: str = flag(
        "auto", "auto, float32, mixed_bfloat16 or mixed_float16; auto: by hardware and model"
    )
    features: str = flag(
        "auto",
        "auto: cache features of frozen layers where that saves time; on: also where it does not",
        choices=("auto", "on", "off"),
    )
    jit_compile: str = flag(
        "auto",
        "whether XLA compiles the training step; auto: on one GPU, and on JAX",
        choices=("auto", "on", "off"),
        former="jit",
    )
    scale_learning_rate: str = flag(
        "none",
        "scaling of learning rates with the effective batch size",
        choices=tuple(replicas.RATE_SCALING_RULES),
        former="scale_rate",
    )
    reference_batch_size: int = flag(
        0,
        "batch size that the learning rates are meant for; 0: the task's default",
        low=0,
        former="reference_batch",
    )
    sync_batch_norm: str = flag(
        "on", "whether BatchNorm statistics are synchronized over replicas", choices=("on", "off")
    )
    gradient_compression: str = flag(
        "none",
        "data type in which gradients are summed over replicas",
        choices=replicas.GRADIENT_COMPRESSIONS,
        former="compress_gradients",
    )
    strategy: str = flag(
        "auto",
        "one: one device; mirrored: all GPUs of this machine; multiworker: several processes",
        choices=("auto", "one", "mirrored", "multiworker"),
    )
    seed: int = flag(0, "random seed", high=2**32 - 1)
