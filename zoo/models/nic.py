"""Image captioners: a convolutional encoder and an LSTM decoder."""

from __future__ import annotations

from zoo.catalog import register
from zoo.errors import UsageError
from zoo.lazy import keras
from zoo.lazy_layers import layers
from zoo.parts import blocks, encoder

PAPER = "https://arxiv.org/abs/1411.4555"
ATTENTION_PAPER = "https://arxiv.org/abs/1502.03044"

COUNTS = {  # trainable parameters, FLOPs
    "nic": (1_256_773, 372_262_912),
    "show_attend_tell": (1_186_374, 352_986_112),
}

SHARED_OPTIONS = {
    "kind": "captioner",
    "preprocessing": "none",
    "inputs": ("words",),
    "counts": COUNTS,
}


@register({"nic": {}}, input_shape=(64, 64, 3), min_size=16, paper=PAPER, **SHARED_OPTIONS)
def nic(
    image,
    num_classes=53,
    *,
    backbone="resnet20.cifar10",
    backbone_weights=None,
    level=None,
    widths=(128, 256),
    embedding=256,
    units=256,
    dropout=0.3,
    length=20,
):
    """Builds a Neural Image Caption generator (Vinyals et al., 2014, figure 3).

    The globally pooled features of the encoder are the first input of the LSTM; the second is the
    embedding of `<start>`. The paper has `embedding=512, units=512`, and an encoder trained on
    ImageNet, for which `widths=()`.

    Departures: the encoder is any model with stages; by default a small one, followed by two
    convolutions that enlarge the receptive field.

    Args:
        image: `(batch, height, width, channels)`, pixels in [0, 255].
        num_classes: size of the vocabulary.
        backbone: name of a model with stages.
        backbone_weights: a weights file instead of the tag's source, or `"random"`.
        level: N of the `stageN` whose features are used; by default the last.
        widths: channels of the 3 x 3 convolutions after that stage, the first of stride 2.
        embedding: width of the word embeddings.
        units: width of the LSTM.
        dropout: rate after the word embeddings and after the LSTM, in [0, 1).
        length: the number of tokens of a caption, or `None` for any number.

    Returns:
        Endpoints: the stages of the backbone; `words`, an int32 input `(batch, length)`; and
        `logits` of the next word, `(batch, length, num_classes)`.
    """
    endpoints, x = _encode_image(image, backbone, backbone_weights, level, widths)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dense(embedding, name="image_word")(x)
    decoder = layers.TellingLSTM(units, name="decoder")
    return {**endpoints, **_decode_caption(decoder, x, num_classes, embedding, dropout, length)}


@register(
    {"show_attend_tell": {}},
    input_shape=(64, 64, 3),
    min_size=16,
    paper=ATTENTION_PAPER,
    **SHARED_OPTIONS,
)
def show_attend_tell(
    image,
    num_classes=53,
    *,
    backbone="resnet20.cifar10",
    backbone_weights=None,
    level=None,
    widths=(128, 128),
    positions=True,
    embedding=128,
    units=256,
    attention=64,
    dropout=0.3,
    length=20,
):
    """Builds Show, Attend and Tell with soft attention (Xu et al., 2015, section 3).

    Before each word the LSTM attends to the positions of the encoder's maps, with weights that a
    small network computes from the features and the state of the LSTM. The paper has an encoder
    trained on ImageNet with 14 x 14 positions, that is `backbone="vgg19.imagenet", level=4` for
    images of 224 pixels, with `widths=(), positions=False`.

    Departures: the encoder is any model with stages; by default a small one, followed by
    convolutions that enlarge the receptive field. The attention also depends on the last word: with
    the state alone, "the red" could not be followed by the shape of the red object. Each position
    has a learned embedding, without which left and right could not be distinguished. The loss has
    no term for equal attention to all positions (equation 14).

    Args:
        image: `(batch, height, width, channels)`, of a fixed size, pixels in [0, 255].
        num_classes: size of the vocabulary.
        backbone: name of a model with stages.
        backbone_weights: a weights file instead of the tag's source, or `"random"`.
        level: N of the `stageN` whose features are used; by default the last.
        widths: channels of the 3 x 3 convolutions after that stage, the first of stride 2.
        positions: whether a learned position embedding is added to the features.
        embedding: width of the word embeddings.
        units: width of the LSTM.
        attention: hidden width of the attention network.
        dropout: rate after the word embeddings and after the LSTM, in [0, 1).
        length: the number of tokens of a caption, or `None` for any number.

    Returns:
        Endpoints: the stages of the backbone; `words`, an int32 input `(batch, length)`; and
        `logits` of the next word, `(batch, length, num_classes)`.
    """
    if None in image.shape[1:]:
        raise UsageError("show_attend_tell needs images of a fixed size; pass input_shape")
    endpoints, x = _encode_image(image, backbone, backbone_weights, level, widths)
    x = keras.layers.Reshape((-1, x.shape[-1]), name="places")(x)
    if positions:
        x = layers.PositionEmbedding(name="positions")(x)
    decoder = layers.AttendingLSTM(units, attention, name="decoder")
    return {**endpoints, **_decode_caption(decoder, x, num_classes, embedding, dropout, length)}


def _encode_image(image, backbone, weights, level, widths):
    """Returns the stages of the encoder, and the maps for the decoder."""
    endpoints = encoder.backbone_features(
        image, backbone, weights, None if level is None else [level]
    )
    x = endpoints[list(endpoints)[-1]]
    for index, width in enumerate(widths, start=1):
        x = blocks.conv_bn(x, width, 3, 2 if index == 1 else 1, name=f"neck{index}")
    return endpoints, x


def _decode_caption(decoder, features, num_classes, embedding, dropout, length):
    """Returns the words as an input, and the logits of the next words."""
    words = keras.Input((length,), dtype="int32", name="words")
    x = keras.layers.Embedding(num_classes, embedding, name="embedding")(words)
    x = _dropout(x, dropout, name="embedding_dropout")
    x = decoder(x, features)
    x = _dropout(x, dropout, name="decoder_dropout")
    return {"words": words, "logits": blocks.logits(x, num_classes)}


def _dropout(x, rate, *, name):
    return keras.layers.Dropout(rate, name=name)(x) if rate else x
