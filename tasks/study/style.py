"""Gram matrices, and what each layer of VGG keeps of an image."""

import zoo
from tasks.study import Claim, Findings, pictures, study
from tasks.study.training import progress
from tasks.style_transfer import perceptual_losses
from tasks.style_transfer.synthetic_images import SYNTHETIC_IMAGES
from zoo import graphs
from zoo.lazy import keras, np, tf

LAYERS = tuple(f"block{number}_conv1" for number in range(1, 6))  # of Gatys et al. for style
IMAGES = ("content", "from its maps", "style", "from its Gram matrix")
TILE = 16  # pixels


def extractor(width, weights):
    """Returns a VGG16 with the maps of `LAYERS`, with random weights or those of a file."""
    options = {"widths": [width * scale for scale in (1, 2, 4, 8, 8)]}
    name, options = ("vgg16.imagenet", {"weights": weights}) if weights else ("vgg16", options)
    net = graphs.flatten(zoo.backbone(name, input_shape=(None, None, 3), **options))
    return keras.Model(net.input, {name: net.get_layer(name).output for name in LAYERS})


def scaled(name, size):
    """Returns a synthetic image of the kit, `(1, size, size, 3)` in [0, 255]."""
    image = SYNTHETIC_IMAGES[name]().astype("float32")
    return np.array(keras.ops.image.resize(image[None], (size, size), antialias=True))


def shuffled(image, rng):
    """Returns an image whose tiles of 16 pixels are in another order."""
    count = image.shape[1] // TILE
    rows = [np.hsplit(row, count) for row in np.vsplit(image[0], count)]
    tiles = rng.permutation(np.concatenate(rows))
    return np.vstack([np.hstack(row) for row in np.split(tiles, len(rows))])[None]


def changes(net, image, other):
    """Returns the relative change of the maps and of the Gram matrices, arrays by layer."""
    pairs = [(net(other)[layer], maps) for layer, maps in net(image).items()]
    maps = [perceptual_losses.content_loss(*pair)[0] for pair in pairs]
    gram = perceptual_losses.gram_matrix
    grams = [perceptual_losses.style_loss(after, gram(before)[0])[0] for after, before in pairs]
    return np.sqrt(np.array(maps)), np.sqrt(np.array(grams))


def reconstructed(net, layer, kind, image, steps, rng):
    """Returns an image, made from noise, with the same maps or Gram matrix, and the loss left."""
    part = keras.Model(net.input, net.output[layer])
    target, loss_of = part(image), perceptual_losses.content_loss
    if kind == "style":
        target, loss_of = perceptual_losses.gram_matrix(target)[0], perceptual_losses.style_loss
    canvas = tf.Variable(rng.normal(127.5, 40, image.shape), dtype="float32")
    optimizer = keras.optimizers.Adam(10.0)
    optimizer.build([canvas])

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = loss_of(part(canvas), target)
        optimizer.apply(tape.gradient(loss, [canvas]), [canvas])
        return loss[0]

    losses = [float(step()) for _ in range(steps)]
    return canvas.numpy().clip(0, 255), losses[-1] / losses[0]


@study(26, "What does a Gram matrix keep of an image, and what does each layer of VGG keep?")
def run(seed: int = 0, size: int = 64, steps: int = 80, width: int = 16, weights: str = ""):
    """The maps of a layer hold what is where; their Gram matrix sums over all positions and keeps
    only which features occur together, a texture. An image that is optimized until one layer
    matches shows what that layer keeps: deeper layers leave more of the pixels open. The network is
    a VGG16 with random weights, or with those of a file (--weights): random ones keep the colors
    of an image, but only trained ones recognize objects."""
    rng = np.random.default_rng(seed)
    size = max(TILE * 2, size // TILE * TILE)
    net, tiles, hills = extractor(width, weights), scaled("mosaic", size), scaled("hills", size)
    edits = {"moved": np.roll(tiles, size // 2, 2), "tiles shuffled": shuffled(tiles, rng),
             "another image": scaled("waves", size)}  # fmt: skip
    change = {name: changes(net, tiles, edit) for name, edit in edits.items()}
    blocks = range(1, 6)
    axes = {"xlabel": "block", "xticks": blocks, "ylabel": "relative change", "ylim": (0, 1.3)}
    alike, matched, shown, plots = {}, {}, {}, []
    for name, (maps, grams) in change.items():
        lines = {"maps": (blocks, maps), "Gram matrix": (blocks, grams)}
        plots.append(pictures.curves(lines, title=name, **axes))
    for layer in progress(LAYERS, "layers"):
        found = {}
        for kind, image in (("content", hills), ("style", tiles)):
            found[kind], left = reconstructed(net, layer, kind, image, steps, rng)
            alike[kind, layer] = np.corrcoef(found[kind].ravel(), image.ravel())[0, 1]
            matched[kind, layer] = left
        row = (hills, found["content"], tiles, found["style"])
        panels = {name: image[0].astype("uint8") for name, image in zip(IMAGES, row, strict=True)}
        shown[layer] = pictures.images(panels, columns=2)
    kept = [alike["content", layer] for layer in LAYERS]
    texture = max(abs(alike["style", layer]) for layer in LAYERS)
    shallow = max((change[x][1] / change[x][0])[:3].max() for x in ("moved", "tiles shuffled"))
    apart = (change["another image"][1] / change["tiles shuffled"][1]).min()
    return Findings(
        claims=[
            Claim("Moved or shuffled, the image changes the Gram matrices of the first three "
                  "blocks less than a fifth as much as their maps.", shallow < 0.2,
                  f"at most {shallow:.2f} times"),
            Claim("Another image changes the Gram matrix of each block more than twice as much as "
                  "shuffling does.", apart > 2, f"{apart:.1f} times or more"),
            Claim("All maps and Gram matrices can be matched, to a tenth of the loss or less.",
                  max(matched.values()) < 0.1, f"{max(matched.values()):.3f} of the loss is left"),
            Claim("The deeper the block whose maps match, the less the pixels are those of the "
                  "image.", kept == sorted(kept, reverse=True) and kept[-1] < kept[0] / 2,
                  "correlation " + ", ".join(f"{x:.2f}" for x in kept)),
            Claim("Matching Gram matrices does not bring back the image, at any block.",
                  texture < 0.4, f"correlation at most {texture:.2f}"),
        ],
        pictures=[
            ("Images from one layer", pictures.slider(shown, "layer"),
             "The originals are on the left. From its maps the image comes back, with more noise "
             "the deeper the layer; from the Gram matrix of the first layer its colors come back, "
             "but not their places."),
            ("What changes", pictures.panels(plots),
             "Gram matrices hardly notice where things are, unless the layer sees whole tiles."),
        ],
        next_steps=["--weights FILE: a file of vgg16.imagenet; which layers now keep objects?",
                    "--steps 400: does the deepest layer bring back more?",
                    "zoo train style_transfer --help: style transfer with these losses"],
        references=["Gatys, Ecker & Bethge, 2016: Image style transfer",
                    "Mahendran & Vedaldi, 2015: Understanding deep image representations",
                    "tasks/style_transfer/perceptual_losses.py"],
    )  # fmt: skip
