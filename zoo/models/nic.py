"""Captioners: a network that sees, and one that says what it sees, a word at a time."""

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

    The averages of an encoder's last maps are the first word that an LSTM is given; the next one is
    `<start>`. The paper has `embedding=512, units=512`, and an encoder of ImageNet, for which
    `widths=()`.

    Departures: the encoder is any of the zoo; by default a small one, behind which two
    convolutions look further.

    Args:
        image: `(batch, height, width, channels)`, pixels in [0, 255].
        num_classes: words of the vocabulary.
        backbone: a name of the zoo that has stages.
        backbone_weights: a weights file in place of the tag's source, or `"random"`.
        level: N of the `stageN` that is looked at; by default the last.
        widths: channels of convolutions of stride 2 behind it.
        embedding: width of a word.
        units: of the LSTM.
        dropout: rate of words, and after the LSTM, in [0, 1).
        length: words of a sentence, `None` for any number.

    Returns:
        Endpoints: the stages of the backbone; `words`, an input, int32 `(batch, length)`; and
        `logits`, `(batch, length, num_classes)`, of the word after each.
    """
    ends, x = _encode_image(image, backbone, backbone_weights, level, widths)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dense(embedding, name="image_word")(x)
    decoder = layers.TellingLSTM(units, name="decoder")
    return {**ends, **_decode_caption(decoder, x, num_classes, embedding, dropout, length)}


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

    Before each word an LSTM looks at the places of an encoder's maps, as much at each as a small
    network says that knows what was said so far. The paper has an encoder of ImageNet whose maps
    have 14 x 14 places, as `backbone="vgg19.imagenet", level=4` has for images of 224 pixels,
    with `widths=(), positions=False`.

    Departures: the encoder is any of the zoo; by default a small one, behind which
    convolutions look further. What says where to look knows the last word, too, without which "the
    red" could not be followed by the shape of what is red. Each place has a learned vector of its
    own, or nothing would tell left from right. The loss does not ask that all places be
    looked at alike (equation 14).

    Args:
        image: `(batch, height, width, channels)`, of a fixed size, pixels in [0, 255].
        num_classes: words of the vocabulary.
        backbone: a name of the zoo that has stages.
        backbone_weights: a weights file in place of the tag's source, or `"random"`.
        level: N of the `stageN` that is looked at; by default the last.
        widths: channels of convolutions of stride 2 behind it.
        positions: whether a learned vector is added to the features of each place.
        embedding: width of a word.
        units: of the LSTM.
        attention: width of the network that says where to look.
        dropout: rate of words, and after the LSTM, in [0, 1).
        length: words of a sentence, `None` for any number.

    Returns:
        Endpoints: the stages of the backbone; `words`, an input, int32 `(batch, length)`; and
        `logits`, `(batch, length, num_classes)`, of the word after each.
    """
    if None in image.shape[1:]:
        raise UsageError("show_attend_tell is built for images of one size; give input_shape")
    ends, x = _encode_image(image, backbone, backbone_weights, level, widths)
    x = keras.layers.Reshape((-1, x.shape[-1]), name="places")(x)
    if positions:
        x = layers.PositionEmbedding(name="positions")(x)
    decoder = layers.AttendingLSTM(units, attention, name="decoder")
    return {**ends, **_decode_caption(decoder, x, num_classes, embedding, dropout, length)}


def _encode_image(image, backbone, weights, level, widths):
    """Returns the stages of an encoder, and the maps that the decoder is told about."""
    ends = encoder.backbone_features(image, backbone, weights, None if level is None else [level])
    x = ends[list(ends)[-1]]
    for index, width in enumerate(widths, start=1):
        x = blocks.conv_bn(x, width, 3, 2 if index == 1 else 1, name=f"neck{index}")
    return ends, x


def _decode_caption(decoder, features, num_classes, embedding, dropout, length):
    """Returns the words as an input, and the logits of those that come after them."""
    words = keras.Input((length,), dtype="int32", name="words")
    x = keras.layers.Embedding(num_classes, embedding, name="embedding")(words)
    x = _dropout(x, dropout, name="embedding_dropout")
    x = decoder(x, features)
    x = _dropout(x, dropout, name="decoder_dropout")
    return {"words": words, "logits": blocks.logits(x, num_classes)}


def _dropout(x, rate, *, name):
    return keras.layers.Dropout(rate, name=name)(x) if rate else x
