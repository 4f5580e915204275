"""Changes to existing networks: a new head, image size or channels; freezing, splitting, folding.

The functions take any functional `keras.Model`, of this package or loaded from a file, or a built
Sequential model. Nested models are flattened. The returned model shares layers and variables with
the given one, unless the documentation of a function states otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy import attach

if TYPE_CHECKING:
    from zoo.graphs import flat, flatten
    from zoo.surgery.feature_stages import depths, freeze, learnable, select_layers, stages
    from zoo.surgery.folding import absorb, fold
    from zoo.surgery.input_channels import channels
    from zoo.surgery.replace_head import head, resize
    from zoo.surgery.splitting import split

__all__ = [
    "absorb",
    "channels",
    "depths",
    "flat",
    "flatten",
    "fold",
    "freeze",
    "head",
    "learnable",
    "resize",
    "select_layers",
    "split",
    "stages",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "absorb": "zoo.surgery.folding",
        "channels": "zoo.surgery.input_channels",
        "depths": "zoo.surgery.feature_stages",
        "flat": "zoo.graphs",
        "flatten": "zoo.graphs",
        "fold": "zoo.surgery.folding",
        "freeze": "zoo.surgery.feature_stages",
        "head": "zoo.surgery.replace_head",
        "learnable": "zoo.surgery.feature_stages",
        "resize": "zoo.surgery.replace_head",
        "select_layers": "zoo.surgery.feature_stages",
        "split": "zoo.surgery.splitting",
        "stages": "zoo.surgery.feature_stages",
    },
)
