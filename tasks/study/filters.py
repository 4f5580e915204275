"""Convolution as image filtering: arithmetic, learned filters and feature maps."""

import zoo
from tasks.data import sources
from tasks.study import Claim, Findings, pictures, study, training
from zoo.lazy import keras, np

FILTERS = {
    "blur": [[1 / 9] * 3] * 3,
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "vertical edges": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "horizontal edges": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "outline": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
}


def convolve(image, kernel, stride=1, padding="valid"):
    """Returns a gray image `(height, width)` filtered by a `Conv2D` of Keras."""
    kernel = np.asarray(kernel, "float32")
    layer = keras.layers.Conv2D(1, kernel.shape, stride, padding, use_bias=False)
    layer.build((None, None, None, 1))
    layer.kernel.assign(kernel[..., None, None])
    return np.array(layer(image.astype("float32")[None, ..., None]))[0, ..., 0]


def by_sums(image, kernel):
    """Returns the same without padding, as the sum at each place."""
    windows = np.lib.stride_tricks.sliding_window_view(image.astype("float32"), np.shape(kernel))
    return np.einsum("yxij,ij->yx", windows, kernel)


def output_size(size, kernel, stride, padding):
    """Returns the size of the output: the number of places of the kernel."""
    added = 0 if padding == "valid" else max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return (size + added - kernel) // stride + 1


def smoothness(kernels):
    """Returns the correlation of neighboring weights in kernels `(height, width, filters)`."""
    pairs = [(kernels[1:], kernels[:-1]), (kernels[:, 1:], kernels[:, :-1])]
    return float(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]))


def gallery(images, columns=8, titles=()):
    """Returns images side by side, each scaled to its own range."""
    rows = -(-len(images) // columns)
    drawn, axes = pictures.figure(columns, rows, width=1.2 * columns, height=1.35 * rows)
    for panel, image, title in zip(axes, images, [*titles, *[""] * len(images)], strict=False):
        panel.imshow(image, cmap="gray")
        panel.set_title(title, fontsize=8)
    for panel in axes:
        panel.axis("off")
    return pictures.svg(drawn)


@study(17, "What does a convolution see in an image, and which filters does a network learn?")
def run(seed: int = 0, steps: int = 400, kernel: int = 7):
    """A convolution is image filtering: at each place a weighted sum of the pixels around it. The
    filters that photo editors use blur or find edges; a network learns its own, smooth
    patches and edges too, on top of the random ones that it starts from."""
    split = sources.load("fashion_sample").splits["train"]
    x, y = np.array(split.items)[..., None], split.labels
    image = x[np.random.default_rng(seed).integers(len(x)), ..., 0]
    apart = max(np.abs(convolve(image, k) - by_sums(image, k)).max() for k in FILTERS.values())
    cases = [(n, k, s, p) for n in range(5, 30, 6) for k in (1, 3, 5) for s in (1, 2, 3)
             for p in ("valid", "same")]  # fmt: skip
    wrong = [
        case for case in cases
        if output_size(*case) != convolve(np.zeros((case[0],) * 2), np.ones((case[1],) * 2),
                                          *case[2:]).shape[0]
    ]  # fmt: skip
    stripes = np.tile(np.repeat([0.0, 1.0], 4), (16, 2))
    edges = [np.abs(convolve(s, FILTERS["vertical edges"])).sum()
             for s in (stripes, stripes.T)]  # fmt: skip

    model = zoo.build("convnet", depths=(1, 1), widths=(8, 16), kernel_size=(kernel, 3),
                      hidden=(32,))  # fmt: skip
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    before = first.kernel.numpy()[:, :, 0]
    optimizer = keras.optimizers.Adam(0.003)
    training.train(model, x, y, steps=steps, seed=seed, optimizer=optimizer)
    after = first.kernel.numpy()[:, :, 0]
    maps = keras.Model(model.input, first.output)(image[None, ..., None])
    shown = {
        "before training": gallery(before.transpose(2, 0, 1)),
        "after training": gallery(after.transpose(2, 0, 1)),
        "change": gallery((after - before).transpose(2, 0, 1)),
    }
    return Findings(
        claims=[
            Claim("Keras's convolution is the weighted sum at each place.", apart < 1e-2,
                  f"largest difference {apart:.0e} of 255"),
            Claim("Its output has floor((size + padding - kernel) / stride) + 1 values.",
                  not wrong, f"{len(cases) - len(wrong)} of {len(cases)} cases"),
            Claim("The filter for vertical edges does not respond to horizontal ones.",
                  edges[1] < 1e-6 < edges[0], f"{edges[1]:.0f} against {edges[0]:.0f}"),
            Claim("What training adds to the first filters is smoother than their random start: "
                  "neighboring weights change alike.", smoothness(after - before) > 0.2,
                  f"correlation of neighbors {smoothness(before):.2f} before, "
                  f"{smoothness(after - before):.2f} of the change, {smoothness(after):.2f} after"),
        ],
        pictures=[
            ("Filters of photo editors",
             gallery([image, *(convolve(image, k) for k in FILTERS.values())], 3,
                     ["image", *FILTERS]),
             "Bright is positive, dark negative. Edges vanish where the image does not change."),
            ("Filters of the first layer", pictures.slider(shown, "filters"),
             "Before training they are noise, and a short training leaves most of it. The change "
             "shows what was learned: patches, strokes and borders."),
            ("Feature maps", gallery(np.array(maps)[0].transpose(2, 0, 1)),
             "The response of each trained filter to the image above, in the same order."),
        ],
        next_steps=["--kernel 11: what do larger filters learn?",
                    "--steps 3000: do the filters become smoother still?",
                    "zoo show resnet50: stride and kernel of its first layer"],
        references=["Dumoulin & Visin, 2016: A guide to convolution arithmetic for deep learning",
                    "Krizhevsky et al., 2012: ImageNet classification, figure 3",
                    "zoo/models/convnet.py, zoo/parts/padding.py"],
    )  # fmt: skip
