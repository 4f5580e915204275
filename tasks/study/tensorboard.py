"""TensorBoard: what event files of a run hold, and how to open them."""

import tempfile
from importlib.util import find_spec
from pathlib import Path

import zoo
from tasks.report.tensorboard import SummaryWriter
from tasks.study import Claim, Findings, pictures, study
from tasks.study.digits import digits
from tasks.study.training import progress
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras, np, tf

hparams = LazyModule("tensorboard.plugins.hparams.api")
KINDS = ("scalars", "histograms", "images", "graph_keras_model", "hparams")  # plugins
WIDTHS = (16, 64)  # of the hidden layer: one run for each


def write_run(folder, width, images, epochs, seed):
    """Trains a small network and writes what TensorBoard shows; returns its losses and itself."""
    keras.utils.set_random_seed(seed)
    x, y = images
    model = zoo.build("mlp", widths=(width,))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, jit_compile=False)
    events = keras.callbacks.TensorBoard(folder, histogram_freq=1, write_graph=True)
    losses = model.fit(x, y, epochs=epochs, verbose=0, callbacks=[events]).history["loss"]
    SummaryWriter(folder / "images").images("digits", x[:8], 1)
    with tf.summary.create_file_writer(str(folder)).as_default():
        hparams.hparams({"width": width, "seed": seed})
        tf.summary.scalar("final_loss", losses[-1], step=epochs)
    return losses, model


def records(folder):
    """Returns `(kind, tag, step, value)` of all that is in the event files of a folder."""
    found = []
    for path in sorted(Path(folder).rglob("events*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                kind = value.metadata.plugin_data.plugin_name
                array = tf.make_ndarray(value.tensor) if value.HasField("tensor") else None
                found.append((kind, value.tag, event.step, array))
    return found


@study(30, "What can TensorBoard show of a training run?")
def run(seed: int = 0, examples: int = 600, epochs: int = 8, logdir: str = ""):
    """Event files hold numbers by step (scalars), the distribution of weights (histograms), images,
    the graph of the model and hyperparameters. Keras's callback writes the first, second and fourth
    of them; the writer of this kit, which needs no TensorBoard, the images. This study reads the
    files back. With --logdir DIR they are kept, and tensorboard --logdir DIR opens them."""
    if not find_spec("tensorboard"):
        raise UsageError("this study writes for TensorBoard: pip install tensorboard")
    images = digits(examples, seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder, runs = Path(logdir or temporary), {}
        for width in progress(WIDTHS, "runs"):
            losses, model = write_run(folder / f"width{width}", width, images, epochs, seed)
            runs[width] = losses, model, records(folder / f"width{width}")
    losses, model, rows = runs[WIDTHS[-1]]
    kinds = {kind: {tag for other, tag, _, _ in rows if other == kind} for kind in KINDS}
    scalars = [float(x) for kind, tag, _, x in rows if (kind, tag) == ("scalars", "epoch_loss")]
    histograms = [(step, x) for kind, tag, step, x in rows if kind == "histograms" and "hidden1/k"
                  in f"{tag}"]  # fmt: skip
    kernel = model.get_layer("hidden1").kernel.numpy()
    graph = str([x for kind, _, _, x in rows if kind == "graph_keras_model"])
    named = sum(f'"name": "{layer.name}"' in graph for layer in model.layers)
    [parts] = [x for kind, tag, _, x in rows if tag == "digits"]
    decoded = np.array([tf.io.decode_png(part).numpy() for part in parts[2:]])
    off = np.abs(decoded - images[0][:8].round()).max()
    lines = {f"width {w}": (range(1, epochs + 1), found[0]) for w, found in runs.items()}
    drawn, right = pictures.figure()
    for step, buckets in histograms:
        shade = 0.25 + 0.75 * step / max(1, epochs)
        right.stairs(buckets[:, 2], [*buckets[:, 0], buckets[-1, 1]], alpha=min(1, shade),
                     color=pictures.COLORS[0])  # fmt: skip
    right.set(xlabel="weight of hidden1", ylabel="count")
    return Findings(
        claims=[
            Claim("The files hold scalars, histograms, images, the graph and hyperparameters.",
                  all(kinds.values()), ", ".join(f"{name.replace('_', ' ')}: {len(tags)}"
                                                 for name, tags in kinds.items())),
            Claim("The scalars are the losses that fit returns.", np.allclose(scalars, losses),
                  ", ".join(f"{x:.3f}" for x in scalars)),
            Claim("Each histogram counts every weight once.", len(histograms) == epochs
                  and all(round(x[:, 2].sum()) == kernel.size for _, x in histograms),
                  f"{len(histograms)} histograms of {kernel.size:,} weights"),
            Claim("The last one spans the final weights.",
                  np.allclose((histograms[-1][1][0, 0], histograms[-1][1][-1, 1]),
                              (kernel.min(), kernel.max()), atol=1e-4),
                  f"{kernel.min():.3f} to {kernel.max():.3f}"),
            Claim("The graph holds every layer of the model.", named == len(model.layers),
                  f"{named} of {len(model.layers)} layers"),
            Claim("Images are stored without loss.", off == 0, f"largest difference {off:g}"),
        ],
        pictures=[
            ("Scalars and histograms", pictures.panels(
                [pictures.curves(lines, xlabel="epoch", ylabel="epoch_loss"), pictures.svg(drawn)]),
             "The SCALARS and HISTOGRAMS pages show the same numbers: losses fall, and weights "
             "spread (a stronger color is later)."),
            ("Images", pictures.images(
                {str(n): image[..., 0] for n, image in enumerate(decoded)}, side=1.2),
             "The IMAGES page, read back from the file."),
        ],
        next_steps=["--logdir logs: keeps the files, for tensorboard --logdir logs",
                    "zoo train classification: writes such files, for tensorboard --logdir runs",
                    "zoo tune: its trials appear on the HPARAMS page"],
        references=["https://www.tensorflow.org/tensorboard", "keras.callbacks.TensorBoard",
                    "tasks/report/tensorboard.py, tasks/tuning/hparams.py"],
    )  # fmt: skip
