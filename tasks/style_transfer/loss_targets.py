"""The targets of the perceptual losses: style images, content image and feature extractor."""

from __future__ import annotations

from tasks.style_transfer import feature_extractor, gatys, style_images


class LossTargets:
    """The targets of the content and style losses.

    Args:
        feature_extractor: a `feature_extractor.FeatureExtractor`.
        styles: style images, uint8 `(height, width, 3)` each.
        style_weights: the weight of each style image in the blended Gram matrices; they sum to 1.
        content: the content image, or `None` if it is the input of a network.
        luminance: whether losses are computed on luminance only.
        margin: pixels of reflection padding around images before features are extracted. Features
            at the edge of an image differ because of zero padding; with the margin this affects
            the padding instead, so that no frame appears in the result.
    """

    def __init__(
        self, feature_extractor, styles, style_weights, content=None, *, luminance=False, margin=0
    ):
        self.feature_extractor, self.styles = feature_extractor, styles
        self.style_weights, self.content = style_weights, content
        self.luminance, self.margin = luminance, margin


def from_task(task, content):
    """Returns the `LossTargets` that the flags of a `StyleTransfer` describe.

    Args:
        task: the task.
        content: the content image, uint8 `(height, width, 3)`; `None` for a network that is
            evaluated.
    """
    names = style_images.parse_names(task.style)
    size = task.style_size or task.image_size
    luminance = task.preserve_colors == "luminance"
    styles = [style_images.read(name, size, task.style_crop) for name in names]
    if luminance:
        styles = [style_images.to_grey(style) for style in styles]
    if task.single_image and task.preserve_colors != "none":
        match = style_images.match_luminance if luminance else style_images.match_colours
        styles = [match(style, content) for style in styles]
    return LossTargets(
        _feature_extractor(task),
        styles,
        style_images.parse_style_weights(task.style_weights, len(names)),
        content if task.single_image else None,
        luminance=luminance,
        margin=gatys.max_padding([content, *styles]) if task.single_image else 0,
    )


def _feature_extractor(task):
    single_image = task.single_image
    content, style = (
        style_images.parse_names(layers) if layers else ()
        for layers in (task.content_layers, task.style_layers)
    )
    return feature_extractor.FeatureExtractor(
        task.backbone,
        task.backbone_weights or None,
        task.pooling,
        content,
        style,
        feature_extractor.GATYS_LAYERS if single_image else feature_extractor.JOHNSON_LAYERS,
        task.seed,
    )
