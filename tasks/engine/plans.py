"""Fine-tuning plans: stages with their trainable layers, epochs and learning rates."""

from __future__ import annotations

import dataclasses
import math

from tasks.data import safe_yaml
from tasks.engine import optimize
from zoo.errors import UsageError, unknown_name_error
from zoo.lazy import LazyModule
from zoo.paths import read_text

yaml = LazyModule("yaml")

BATCH_NORM_POLICIES = ("frozen", "update", "recalibrate")
LEARNING_RATES = {"scratch": 1e-3, "head": 1e-3, "full": 1e-4}  # peak, of the Adam family
# A step of Adam moves each weight by about the learning rate, so logits of more features move
# further: the rate of a head decreases with its width (Yang & Hu, 2021, arXiv:2011.14522). It was
# tuned with 2,048 and 256 features, with rates from 1e-3 to 3e-2.
HEAD_RATE_TIMES_WIDTH, MAX_HEAD_RATE = 2.5, 1e-2  # features times rate; the maximum
ADAM_FAMILY = ("adam", "adamw", "nadam", "adamax")
PRESETS = ("scratch", "probe", "full", "lpft", "llrd", "gradual")
LEARN_DESCRIPTIONS = {"all": "all layers", "head": "the head only"}  # for status lines
LLRD_DECAY = 0.5  # factor of the rate from each stage of the network to the one below
HEAD_EPOCH_FRACTION = 0.25  # of the epochs of `lpft` and `gradual`, for the head alone
# A linear head needs this many updates; its input features are usually cached. See
# docs/fine-tuning.md.
MIN_HEAD_UPDATES, MAX_PASSES = 250, 16
MIN_STEPS_PER_EPOCH = 8  # of tasks with small batches, so that a few images suffice


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a run in which the same layers are trained.

    Attributes:
        learn: The trainable layers: `all`, `head`, a stage of the network such as `stage4` with
            everything above it, a number or a fraction of layers counted from the output, or a
            pattern of their names such as `conv5_*`.
        epochs: The number of epochs.
        rate: The peak learning rate of the head.
        decay: The factor of that rate from each stage of the network to the one below it.
        batch_norm: The policy for pretrained statistics: `frozen` keeps them; `update` updates
            them, as in training from scratch; `recalibrate` estimates new ones on the training
            images before the stage and keeps those.
        passes: Passes over the training images per epoch; 0 for as many as `MIN_HEAD_UPDATES`
            takes, at most `MAX_PASSES`. More where a task needs more steps per epoch.
    """

    learn: str = "all"
    epochs: int = 1
    rate: float = 0.0
    decay: float = 1.0
    batch_norm: str = "frozen"
    passes: int = 1

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if field.name == "learn" and isinstance(value, int | float):
                continue
            number = isinstance(value, int | float)
            if not isinstance(value, (int, float) if kind is float else kind) or (
                number and not math.isfinite(value)
            ):
                raise UsageError(f"{field.name} of a plan's stage cannot be {value!r}")
        if self.batch_norm not in BATCH_NORM_POLICIES:
            raise unknown_name_error(
                "policy of batch normalization", self.batch_norm, BATCH_NORM_POLICIES
            )
        if self.epochs < 1 or min(self.rate, self.passes) < 0 or not 0 < self.decay <= 1:
            raise UsageError(
                "a plan's stage takes epochs of 1 or more, a rate and passes of 0 or more and a "
                f"decay over 0 and up to 1; not {self.epochs}, {self.rate}, {self.passes} and "
                f"{self.decay}"
            )

    def __str__(self):
        repeats = f" of {self.passes} passes each" if self.passes > 1 else ""
        span = f"{self.epochs} epoch{'s' * (self.epochs > 1)}{repeats}"
        what = LEARN_DESCRIPTIONS.get(self.learn, self.learn)
        text = f"train {what} for {span} at a learning rate of {self.rate:g}"
        if self.decay < 1:
            text += f", times {self.decay:g} from each stage of the network to the one below"
        return f"{text}; batch normalization: {self.batch_norm}"


def resolve_plan(
    plan,
    *,
    epochs,
    pretrained,
    levels=(),
    rate=0.0,
    optimizer="adamw",
    own=None,
    scratch=LEARNING_RATES["scratch"],
    batch_norm="auto",
    width=0,
):
    """Returns the stages of a plan, with all learning rates.

    Args:
        plan: One of `PRESETS`; `auto`, which is `lpft` for pretrained weights and otherwise
            `scratch`; or YAML, a list of stages with the attributes of `Stage`.
        epochs: The epochs of the whole run.
        pretrained: Whether the model starts from pretrained weights.
        levels: Names of the network's stages, the lowest first, for `gradual`.
        rate: The peak learning rate of stages that train all layers; 0 for the default.
        optimizer: The name of the optimizer; there are default rates for the Adam family only.
        own: The learning rate in the spec of the pretrained weights, or `None`.
        scratch: The learning rate for random weights.
        batch_norm: One of `BATCH_NORM_POLICIES` for stages that name none, or `auto`: `frozen`
            with pretrained weights, whose statistics a few small batches of other images would
            ruin, and otherwise `update`.
        width: The number of input features of the head, or 0 if unknown.

    Raises:
        UsageError: The plan is unknown, does not match the epochs, or needs a learning rate.
    """
    if plan == "auto":
        plan = "lpft" if pretrained else "scratch"
    from_scratch = plan == "scratch" or not pretrained
    policy = batch_norm if batch_norm != "auto" else ("update" if from_scratch else "frozen")
    head = Stage("head", batch_norm=policy, passes=0 if width else 1)
    stages = (
        _preset_stages(plan, epochs, levels, head)
        if plan in PRESETS
        else _parse_stages(plan, policy)
    )
    if sum(stage.epochs for stage in stages) != epochs:
        total = sum(stage.epochs for stage in stages)
        raise UsageError(f"the stages of the plan take {total} epochs, but --epochs is {epochs}")
    known = {
        "head": min(MAX_HEAD_RATE, HEAD_RATE_TIMES_WIDTH / width)
        if width
        else LEARNING_RATES["head"],
        "full": scratch if from_scratch else own or LEARNING_RATES["full"],
    }
    rates = [
        stage.rate or _peak_rate(stage, rate, known, optimizer, len(stages)) for stage in stages
    ]
    return tuple(dataclasses.replace(s, rate=r) for s, r in zip(stages, rates, strict=True))


def stages_with_passes(stages, steps, min_steps=1):
    """Returns stages with `passes` resolved.

    Args:
        stages: The stages of a plan, `Stage`.
        steps: Steps per pass over the training images.
        min_steps: The minimum of steps per epoch, unless that takes more than `MAX_PASSES`.
    """
    min_passes = min(MAX_PASSES, -(-min_steps // steps))
    heads = [min(MAX_PASSES, -(-MIN_HEAD_UPDATES // (steps * stage.epochs))) for stage in stages]
    return tuple(
        dataclasses.replace(stage, passes=max(stage.passes or passes, min_passes))
        for stage, passes in zip(stages, heads, strict=True)
    )


def plan_text(plan):
    """Returns the value of the plan flag: the contents of a file, or a list as YAML.

    Raises:
        UsageError: The file cannot be read.
    """
    if isinstance(plan, list):
        return yaml.safe_dump(plan, default_flow_style=True, sort_keys=False, width=1000).strip()
    if isinstance(plan, str) and plan.endswith((".yaml", ".yml")):
        try:
            return read_text(plan).strip()
        except UsageError as error:
            raise UsageError(f"the plan {error}") from error
    return plan


def describe_plan(stages):
    """Returns the status lines of a plan."""
    if len(stages) == 1:
        return f"plan: {stages[0]}"
    return "\n".join(f"plan, stage {n}: {stage}" for n, stage in enumerate(stages, start=1))


def _preset_stages(name, epochs, levels, head):
    """Returns the stages of a preset; some begin with the stage `head`."""
    policy = head.batch_norm
    if name == "probe":
        return [Stage("head", epochs, batch_norm=policy)]
    if name == "llrd":
        return [Stage("all", epochs, decay=LLRD_DECAY, batch_norm=policy)]
    if name in ("scratch", "full"):
        return [Stage("all", epochs, batch_norm=policy)]
    # The large gradients of a random head would distort the pretrained features: linear probing,
    # then fine-tuning (Kumar et al., 2022).
    first = max(1, round(HEAD_EPOCH_FRACTION * epochs)) if epochs > 1 else 0
    # From the top down; the last part trains all layers, even if there are few epochs.
    downwards = reversed(levels[1:]) if name == "gradual" else ()
    parts = [*downwards, "all"][-(epochs - first) :]
    spans = [len(range(at, epochs - first, len(parts))) for at in range(len(parts))]
    alone = [dataclasses.replace(head, epochs=first)] if first else []
    return alone + [
        Stage(part, span, batch_norm=policy)
        for part, span in zip(parts, reversed(spans), strict=True)
    ]


def _parse_stages(text, policy):
    """Returns the stages of a plan in YAML."""
    try:
        found = safe_yaml.parse(text)
    except ValueError:
        found = None
    if isinstance(found, str):
        raise unknown_name_error("plan", text, ["auto", *PRESETS])
    if (
        not isinstance(found, list)
        or not all(isinstance(each, dict) for each in found)
        or not found
    ):
        raise UsageError(
            "a plan in YAML is a list of stages such as [{learn: head, epochs: 2}, {learn: all, "
            f"epochs: 6, rate: 0.0001}}], not {text!r:.200}"
        )
    names = [field.name for field in dataclasses.fields(Stage)]
    for key in (key for each in found for key in each):
        if key not in names:
            raise unknown_name_error("key of a plan's stage", key, names)
    # YAML reads 1e-4, without a decimal point, as a string.
    numbers = {"rate": float, "decay": float}
    return [
        Stage(
            **{"batch_norm": policy, **{k: _parse_number(k, v, numbers) for k, v in each.items()}}
        )
        for each in found
    ]


def _parse_number(key, value, numbers):
    try:
        return numbers[key](value) if key in numbers else value
    except (TypeError, ValueError) as error:
        raise UsageError(f"{key} of a plan's stage must be a number, not {value!r}") from error


def _peak_rate(stage, rate, known, optimizer, count):
    """Returns the peak learning rate of a stage that names none."""
    kind = "head" if stage.learn == "head" else "full"
    if not rate and optimizer.lower() not in ADAM_FAMILY:
        optimize.optimizer_class(optimizer)
        raise UsageError(
            f"--optimizer {optimizer} needs a --learning-rate; there are defaults for "
            f"{', '.join(ADAM_FAMILY)} only"
        )
    if not rate:
        return known[kind]
    # In a plan with further stages, the head alone keeps its higher rate.
    return rate * LEARNING_RATES["head"] / known["full"] if count > 1 and kind == "head" else rate
