"""Groups of flags in the help of a task."""

from __future__ import annotations

# Fields by heading. Any other field is specific to its task, whose name is then the heading.
GROUPS = {
    "data": (
        *("dataset", "data_dir", "train_split", "validation_split", "test_split"),
        *("group_by", "image_size"),
        *(
            "image_bits",
            "scale",
            "resize",
            "channels",
            "num_classes",
            "class_map",
            "threshold",
            "captions_per_image",
        ),
        *("augment", "mix", "random_erasing"),
    ),
    "model": (
        *("model", "model_options", "weights", "backbone", "backbone_weights", "plan", "features"),
        *("cached_views", "width", "latent_size", "dueling", "proposals", "search_mode"),
    ),
    "loss": ("loss", "focal_gamma", "class_weight", "balance", "label_smoothing"),
    "optimization": (
        *(
            "epochs",
            "batch_size",
            "gradient_accumulation_steps",
            "optimizer",
            "learning_rate",
            "momentum",
        ),
        *("beta_1", "beta_2", "clip_norm", "ema_decay", "patience", "seed"),
    ),
    "learning rate schedule": (
        *("schedule", "warmup_epochs", "decay_factor", "milestones", "power", "plateau_patience"),
        *("scale_learning_rate", "reference_batch_size"),
    ),
    "regularization": ("weight_decay", "l1", "l2", "dropout", "batch_norm"),
    "evaluation": (
        *(
            "tta",
            "calibrate",
            "error_costs",
            "validation_episodes",
            "test_episodes",
            "test_epsilon",
            "beam_width",
        ),
        *("length_penalty", "num_samples", "validation_samples", "feature_network"),
        *("feature_network_weights", "classifier"),
    ),
    "checkpoints": ("checkpoint_minutes", "checkpoint_steps", "keep_checkpoints"),
    "hardware": ("precision", "jit_compile", "strategy", "sync_batch_norm", "gradient_compression"),
}


def group_fields(fields, rest):
    """Returns lists of fields by heading, in the order of the headings.

    Args:
        fields: the dataclass fields of a task.
        rest: the heading of fields that are in no group.
    """
    of = {name: heading for heading, names in GROUPS.items() for name in names}
    found = {heading: [] for heading in ("data", "model", rest, *GROUPS)}
    for field in fields:
        found[of.get(field.name, rest)].append(field)
    return {heading: some for heading, some in found.items() if some}
