"""Attention: where a captioner looks, and a one-head transformer that copies and sorts."""

from tasks.study import Claim, Findings, pictures, study
from tasks.study.training import progress, train
from zoo.lazy import keras, np
from zoo.lazy_layers import layers

COLORS, GRID, CELL = 4, 3, 4  # the image has GRID x GRID cells of CELL x CELL pixels
PALETTE = ((220, 60, 50), (60, 160, 70), (60, 100, 220), (230, 190, 40))
DIGITS, LENGTH, WIDTH = 10, 5, 32


def scenes(count, rng):
    """Returns images with a square in each column, and the colors and cells of these."""
    colors, rows = (rng.integers(0, high, (count, GRID)) for high in (COLORS, GRID))
    images = rng.normal(128, 10, (count, GRID, GRID, CELL, CELL, 3))
    for column in range(GRID):
        tone = np.array(PALETTE)[colors[:, column], None, None] - 128
        images[np.arange(count), rows[:, column], column] += tone
    images = images.transpose(0, 1, 3, 2, 4, 5).reshape(count, GRID * CELL, GRID * CELL, 3)
    return images.astype("float32"), colors.astype("int32"), rows * GRID + np.arange(GRID)


def captioner():
    """Returns a captioner, its decoder, and a model of the inputs of the decoder."""
    image = keras.Input((GRID * CELL, GRID * CELL, 3))
    words = keras.Input((GRID,), dtype="int32")
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)
    x = keras.layers.Conv2D(WIDTH, CELL, CELL, activation="relu")(x)
    x = layers.PositionEmbedding()(keras.layers.Reshape((GRID * GRID, WIDTH))(x))
    decoder = layers.AttendingLSTM(WIDTH, WIDTH)
    embedded = keras.layers.Embedding(COLORS + 1, WIDTH)(words)
    logits = keras.layers.Dense(COLORS)(decoder(embedded, x))
    inputs = [image, words]
    return keras.Model(inputs, logits), decoder, keras.Model(inputs, [embedded, x])


def transformer():
    """Returns a transformer of two layers, and a model of the attention weights of the last."""
    digits = keras.Input((LENGTH,), dtype="int32")
    x = layers.PositionEmbedding()(keras.layers.Embedding(DIGITS, WIDTH)(digits))
    x = x + keras.layers.MultiHeadAttention(1, WIDTH)(x, x)
    hidden = keras.layers.Dense(2 * WIDTH, "relu")(keras.layers.LayerNormalization()(x))
    x = x + keras.layers.Dense(WIDTH)(hidden)
    places = layers.PositionEmbedding()(0 * x)
    y, weights = keras.layers.MultiHeadAttention(1, WIDTH)(places, x, return_attention_scores=True)
    logits = keras.layers.Dense(DIGITS)(keras.layers.LayerNormalization()(y))
    return keras.Model(digits, logits), keras.Model(digits, weights)


def trained_captioner(steps, rng):
    """Returns the accuracy on new images, these, the attention to each cell, and the right one."""
    model, decoder, features = captioner()
    (x, colors, _), (new, wanted, cells) = scenes(64 * steps, rng), scenes(300, rng)
    before = [np.pad(words[:, :-1] + 1, ((0, 0), (1, 0))) for words in (colors, wanted)]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(5e-3), loss, jit_compile=False)
    model.fit([x, before[0]], colors, batch_size=64, verbose=0)
    embedded, maps = features([new, before[1]])
    accuracy = np.mean(np.argmax(model([new, before[1]]), -1) == wanted)
    return float(accuracy), new, np.array(decoder.decode(embedded, maps)[1]), cells


def trained_transformer(task, steps, seed):
    """Returns the curve, the attention to the digit that is written, and a sequence with its."""
    rng = np.random.default_rng(seed)
    x = rng.permuted(np.tile(np.arange(DIGITS), (64 * 100, 1)), axis=1)[:, :LENGTH].astype("int32")
    order = np.argsort(x, axis=1) if task == "sort" else np.tile(np.arange(LENGTH), (len(x), 1))
    y, held = np.take_along_axis(x, order, axis=1), slice(0, 400)
    model, attention = transformer()
    curve = train(model, x[400:], y[400:], steps=steps, optimizer=keras.optimizers.Adam(5e-3),
                  batch_size=64, seed=seed, test=(x[held], y[held]))  # fmt: skip
    weights = np.array(attention(x[held]))[:, 0]
    share = np.take_along_axis(weights, order[held][..., None], axis=2).mean()
    return curve, float(share), (x[0], y[0], weights[0])


@study(23, "What does attention look at?")
def run(seed: int = 0, caption_steps: int = 200, steps: int = 240):
    """Attention is a weighted mean of positions, with weights that the network computes from their
    contents. A captioner that names squares from left to right learns to look at
    each while it names it, although it is not trained to. A transformer with one head per
    layer learns to copy digits and to sort them."""
    accuracy, images, looks, cells = trained_captioner(caption_steps, np.random.default_rng(seed))
    tasks = progress(("copy", "sort"), "transformers")
    found = {task: trained_transformer(task, steps, seed) for task in tasks}
    on_square = float(np.take_along_axis(looks, cells[..., None], axis=2).mean())
    shown = {}
    for index in range(3):
        panels = {"image": images[index].clip(0, 255).astype("uint8")}
        for word, weights in enumerate(255 * looks[index].reshape(-1, GRID, GRID), 1):
            panels[f"word {word}"] = weights
        shown[f"image {index + 1}"] = pictures.images(panels, columns=2)
    matrices = []
    for task, (_, _, (digits, output, weights)) in found.items():
        drawn, axes = pictures.figure(width=4, height=4)
        axes.imshow(weights, cmap="viridis", vmin=0, vmax=1)
        axes.set(title=task, xlabel="digit that is looked at", ylabel="digit that is written")
        axes.set_xticks(range(LENGTH), digits)
        axes.set_yticks(range(LENGTH), output)
        axes.grid(False)
        matrices.append(pictures.svg(drawn))
    (copied, at_copy), (sorted_, at_sort) = [
        (x.scores[-1], share) for x, share, _ in found.values()
    ]
    return Findings(
        claims=[
            Claim("The captioner names the squares from left to right.", accuracy > 0.9,
                  f"{accuracy:.0%} of words, chance {1 / COLORS:.0%}"),
            Claim("It looks at the square that it names, with over a fourth of its attention.",
                  on_square > 1 / 4, f"{on_square:.0%}, chance {1 / GRID**2:.0%}"),
            Claim("The transformer copies, and looks at the same place.",
                  copied > 0.95 and at_copy > 0.5,
                  f"{copied:.0%} of digits, {at_copy:.0%} of the attention"),
            Claim("It sorts, and looks mostly at the digit that it writes.",
                  sorted_ > 0.6 and at_sort > 0.4,
                  f"{sorted_:.0%} of digits, {at_sort:.0%} of the attention"),
        ],
        pictures=[
            ("Where the captioner looks", pictures.slider(shown, "example"),
             "Bright cells have the attention while a word is chosen."),
            ("Attention of the transformer", pictures.panels(matrices),
             "Copying is a diagonal; to sort, the first layer must find the ranks of the digits."),
        ],
        next_steps=["--steps 2000: is the order then without errors?",
                    "zoo train captioning --model show_attend_tell: the same decoder on scenes"],
        references=["Xu et al., 2015: Show, attend and tell; Vaswani et al., 2017: Attention is "
                    "all you need", "zoo/layers/caption_decoders.py, zoo/models/vit.py"],
    )  # fmt: skip
