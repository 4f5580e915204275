"""The headings under which the help of a task lists its flags."""

from __future__ import annotations

# Fields by heading; what stands nowhere belongs to the task alone, and has its name for a heading.
GROUPS = {
    "data": (
        *("dataset", "data_dir", "train_split", "validation_split", "test_split", "image_size"),
        *("image_bits", "resize", "channels", "num_classes", "colours", "captions"),
        *("augment", "mix", "erase"),
    ),
    "model": (
        *("model", "model_options", "weights", "backbone", "backbone_weights", "plan", "features"),
        *("feature_views", "width", "latent_size", "dueling", "proposals", "search"),
    ),
    "loss": ("loss", "focal_gamma", "class_weight", "label_smoothing"),
    "optimization": (
        *("epochs", "batch_size", "accumulate", "optimizer", "learning_rate", "momentum"),
        *("beta_1", "beta_2", "clip_norm", "average", "patience", "seed"),
    ),
    "learning rate schedule": (
        *("schedule", "warmup_epochs", "decay", "milestones", "power", "plateau_patience"),
        *("scale_rate", "reference_batch"),
    ),
    "regularization": ("weight_decay", "l1", "l2", "dropout", "batch_norm"),
    "evaluation": (
        *("views", "calibrate", "validation_episodes", "test_episodes", "test_epsilon", "beam"),
        *("length_penalty", "num_samples", "validation_samples", "feature_network"),
        *("feature_network_weights", "classifier"),
    ),
    "checkpoints": ("checkpoint_minutes", "checkpoint_steps", "keep"),
    "hardware": ("precision", "jit", "strategy", "sync_batch_norm", "compress_gradients"),
}


def group_fields(fields, rest):
    """Returns lists of fields by heading, in the order of the headings.

    Args:
        fields: of a task.
        rest: the heading of those that stand in no group.
    """
    of = {name: heading for heading, names in GROUPS.items() for name in names}
    found = {heading: [] for heading in ("data", "model", rest, *GROUPS)}
    for field in fields:
        found[of.get(field.name, rest)].append(field)
    return {heading: some for heading, some in found.items() if some}
