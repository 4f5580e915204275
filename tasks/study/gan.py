"""A GAN on a ring of Gaussians: mode collapse, and what cures it."""

from tasks.gan import train_step
from tasks.study import Claim, Findings, pictures, study
from tasks.study.training import progress
from zoo.lazy import LazyModule, keras, np, tf

custom_step = LazyModule("tasks.engine.custom_step")
param_groups = LazyModule("tasks.engine.param_groups")

MODES, RADIUS, SPREAD = 8, 0.8, 0.02  # in the units inside the networks, where pixels are -1 to 1
LIMIT = (-1.3, 1.3)  # of the pictures
PARTS = 8  # of a training run, after each of which points are generated
GANS = {  # adversarial loss, gradient penalty, steps of the critic per step of the generator
    "non-saturating": ("non_saturating", 0.0, 1),
    "with gradient penalty": ("non_saturating", 1.0, 1),
    "WGAN-GP": ("wasserstein", 10.0, 5),
}


def ring(count, rng):
    """Returns points near eight places on a circle, as images of one pixel and two channels."""
    angles = 2 * np.pi * rng.integers(0, MODES, count) / MODES
    points = RADIUS * np.stack([np.cos(angles), np.sin(angles)], 1)
    points = points + SPREAD * rng.normal(size=(count, 2))
    return (127.5 * (points + 1)).astype("float32").reshape(-1, 1, 1, 2)


def networks(width=64):
    """Returns a generator and a critic of two hidden layers for images of one pixel."""

    def hidden(x):
        dense = [keras.layers.Dense(width, "relu", kernel_initializer="he_normal") for _ in "12"]
        return dense[1](dense[0](x))

    latent, image = keras.Input((2,)), keras.Input((1, 1, 2))
    x = keras.layers.Rescaling(127.5, 127.5)(keras.layers.Dense(2)(hidden(latent)))
    generator = keras.Model(latent, keras.layers.Reshape((1, 1, 2))(x))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 127.5, -1)(image))
    return {"generator": generator, "critic": keras.Model(image, keras.layers.Dense(1)(hidden(x)))}


def trained(loss, penalty, critic_steps, steps, seed):
    """Returns 1,000 generated points after each part of the training, `(PARTS, 1000, 2)`."""
    keras.utils.set_random_seed(seed)
    rng, nets = np.random.default_rng(seed), networks()
    step = train_step.make_train_step(loss, penalty, critic_steps)
    loop = custom_step.CustomStepModel(nets, train_step.METRIC_NAMES, step)
    adam = keras.optimizers.Adam
    members = [(adam(1e-3, 0.5), net.trainable_variables) for net in nets.values()]
    optimizer = param_groups.ParamGroupOptimizer(members)
    count, batch = max(1, steps // PARTS), 64 * critic_steps
    loop.compile(optimizer=optimizer, jit_compile=False, steps_per_execution=count)
    latent, shown = rng.normal(size=(1000, 2)).astype("float32"), []
    for _ in range(PARTS):
        arrays = {
            "image": ring(count * batch, rng),
            "latent": rng.normal(size=(count * batch, 2)).astype("float32"),
            "mix": rng.uniform(size=(count * batch, 1, 1, 1)).astype("float32"),
        }
        batches = {name: x.reshape(count, batch, *x.shape[1:]) for name, x in arrays.items()}
        loop.fit(tf.data.Dataset.from_tensor_slices(batches), verbose=0, shuffle=False)
        shown.append(np.array(nets["generator"](latent))[:, 0, 0] / 127.5 - 1)
    return np.array(shown)


def covered(points):
    """Returns how many modes have a fiftieth of the points within five standard deviations."""
    angles = 2 * np.pi * np.arange(MODES) / MODES
    centres = RADIUS * np.stack([np.cos(angles), np.sin(angles)], 1)
    near = np.linalg.norm(points[:, None] - centres, axis=-1) < 5 * SPREAD
    return int((near.sum(0) >= len(points) / 50).sum())


@study(24, "Why do GANs collapse to a few modes, and what helps?")
def run(seed: int = 0, steps: int = 1_600, gans: int = 3):
    """The data are eight small clusters on a ring. The generator is only rewarded for points that
    the critic takes for real, not for covering all clusters, so it gathers where the critic is
    mistaken, moves on, and leaves clusters out. A gradient penalty keeps the critic smooth, so that
    it shows the way to every cluster. The training step is that of zoo train gan."""
    names = progress(list(GANS)[: max(2, gans)], "GANs")
    points = {name: trained(*GANS[name], steps, seed) for name in names}
    modes = {name: np.array(list(map(covered, each))) for name, each in points.items()}
    real = ring(1000, np.random.default_rng(seed))[:, 0, 0] / 127.5 - 1
    part, shown = steps // PARTS, {}
    for index in range(PARTS):
        panels = []
        for name, each in points.items():
            drawn, axes = pictures.figure(width=4.2, height=4)
            axes.scatter(*each[index].T, s=4, alpha=0.5, label="generated")
            axes.scatter(*real.T, s=2, label="data")
            axes.set(title=f"{name}: {modes[name][index]} modes", xlim=LIMIT, ylim=LIMIT)
            panels.append(pictures.svg(drawn))
        shown[f"{part * (index + 1):,}"] = pictures.panels(panels)
    lines = {name: (part * np.arange(1, PARTS + 1), each) for name, each in modes.items()}
    plot = pictures.curves(lines, xlabel="steps of the generator", ylabel="modes covered")
    mean = {name: float(each.mean()) for name, each in modes.items()}
    plain, penalty = list(GANS)[:2]
    late = modes[penalty][PARTS // 2 :].mean()
    return Findings(
        claims=[
            Claim("At first the plain GAN covers three modes of eight or fewer.",
                  modes[plain][0] <= 3, f"{modes[plain][0]} after {part} steps"),
            # Means over parts: single counts jump by one or two.
            Claim("With a gradient penalty more modes are covered, over the whole training.",
                  mean[penalty] > mean[plain],
                  f"{mean[penalty]:.1f} against {mean[plain]:.1f} on average"),
            Claim("In the second half of it six modes or more are covered, on average.", late >= 6,
                  f"{late:.1f}; at the end "
                  + ", ".join(f"{name}: {each[-1]}" for name, each in modes.items())),
        ],
        pictures=[
            ("Generated points", pictures.slider(shown, "steps of the generator"),
             "Blue points are generated, orange ones data. Which clusters are left out or lost?"),
            ("Coverage", plot, "The loss of WGAN-GP is not needed for the cure here, and its "
             "five steps of the critic cost most of the time."),
        ],
        next_steps=["--steps 5000: does the plain GAN find all modes, and keep them?",
                    "Put tanh in place of relu in the networks: does the penalty still help?",
                    "zoo train gan --model wgan_gp: images in place of points"],
        references=["Goodfellow et al., 2014 (GAN); Gulrajani et al., 2017 (WGAN-GP)",
                    "Metz et al., 2017: Unrolled GANs (the ring of Gaussians)",
                    "tasks/gan/train_step.py: the training step used here"],
    )  # fmt: skip
