"""Every task at a size that trains in seconds."""

import tasks

TINY = {
    "classification": {
        "model": "lenet5",
        "dataset": "fashion_sample",
        "train_split": "train[:256]",
        "validation_split": "train[256:384]",
        "test_split": "test[:100]",
        "augment": "light",
        "precision": "float32",
    },
    "segmentation": {
        "model": "unet",
        "model_options": "{widths: [4, 8]}",
        "dataset": "shapes",
        "train_split": "train[:64]",
        "validation_split": "validation[:16]",
        "test_split": "test[:16]",
        "image_size": 64,
        "augment": "light",
        "precision": "float32",
    },
    "detection": {
        "model": "faster_rcnn",
        "backbone": "lenet5",
        "model_options": "{levels: [2, 3], channels: 8, proposals: 12, hidden: [8], least: 0.0}",
        "dataset": "shapes",
        "train_split": "train[:64]",
        "validation_split": "validation[:16]",
        "test_split": "test[:16]",
        "image_size": 64,
        "augment": "light",
        "precision": "float32",
    },
    "captioning": {
        "model": "show_attend_tell",
        "backbone": "lenet5",
        "model_options": "{widths: [8], embedding: 8, units: 12, attention: 8}",
        "dataset": "shapes",
        "train_split": "train[:64]",
        "validation_split": "validation[:16]",
        "test_split": "test[:16]",
        "image_size": 32,
        "precision": "float32",
    },
    "gan": {
        "width": 4,
        "latent_size": 8,
        "dataset": "fashion_sample",
        "train_split": "train[:64]",
        "validation_split": "train[64:96]",
        "test_split": "test[:32]",
        "num_samples": 32,
        "validation_samples": 32,
        "grid_samples": 16,
        "precision": "float32",
    },
    "style_transfer": {
        "model": "fast_style",
        "model_options": "{width: 4, depth: 1}",
        "backbone": "lenet5",
        "backbone_weights": "random",
        "train_split": "train[:8]",
        "validation_split": "validation[:2]",
        "test_split": "test[:2]",
        "image_size": 32,
        "patch_size": 32,
        "batch_size": 4,
        "steps": 2,
        "precision": "float32",
    },
    "dqn": {
        "epoch_steps": 96,
        "learning_starts": 60,
        "replay_size": 400,
        "batch_size": 16,
        "train_frequency": 4,
        "num_envs": 2,
        "validation_episodes": 3,
        "test_episodes": 5,
        "model_options": "{widths: [8]}",
        "precision": "float32",
    },
}


def tiny(name, **flags):
    """Returns the task called `name`, at a size that trains in seconds."""
    return tasks.get(name)(**{"epochs": 2, **TINY[name], **flags})
