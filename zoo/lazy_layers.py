"""The layers of the zoo, imported on first use: `from zoo.lazy_layers import layers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy import LazyModule

if TYPE_CHECKING:
    from zoo import layers
else:
    layers = LazyModule("zoo.layers")
