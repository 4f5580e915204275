"""The two players of a GAN: which networks they are, how they learn, and both as one model."""

from __future__ import annotations

import dataclasses

import zoo
from zoo.errors import UsageError
from zoo.lazy import LazyModule, keras
from zoo.models import dcgan

param_groups = LazyModule("tasks.engine.param_groups")

NETWORKS = ("generator", "critic")
NORMALIZATIONS = dcgan.NORMALIZATIONS
check_image_size = dcgan.base_size  # raises `UsageError` for a side that no image can have


@dataclasses.dataclass(frozen=True)
class Variant:
    """What a paper's GAN is made of, where the flags do not say otherwise.

    Attributes:
        generator, critic: names of the zoo.
        normalization: of the critic.
        loss: one of `train_step.LOSSES`.
        penalty: factor of the gradient penalty.
        critic_steps: of the critic for each of the generator.
        rate: Adam's, and its decays `betas`.
    """

    generator: str
    critic: str
    normalization: str
    loss: str
    gradient_penalty: float
    critic_steps: int
    rate: float
    betas: tuple[float, float]


VARIANTS = {
    # Radford et al., 2015, section 4.
    "dcgan": Variant(
        "dcgan_generator", "dcgan_critic", "batch", "non_saturating", 0.0, 1, 2e-4, (0.5, 0.999)
    ),
    # Gulrajani et al., 2017, algorithm 1.
    "wgan_gp": Variant(
        "dcgan_generator", "dcgan_critic", "none", "wasserstein", 10.0, 5, 1e-4, (0.0, 0.9)
    ),
}


def build(kind, shape, *, latent_size, num_classes, width, condition):
    """Returns both players as one model, of which they are layers.

    Args:
        kind: a `Kind`.
        shape: `(height, width, channels)` of the images.
        latent_size: numbers that an image is painted from.
        num_classes: for players that are told the class, else `None`.
        width: of both networks.
        condition: how they are told: `projection` or `concatenation`.

    Returns:
        A `keras.Model` from a dict of `latent`, `image` and, with classes, `label` to one of
        `painted` and `score`.
    """
    generator = zoo.build(
        kind.generator,
        input_shape=(latent_size,),
        num_classes=num_classes,
        image_size=shape[0],
        channels=shape[-1],
        width=width,
        condition="concatenation" if condition == "concatenation" else "batch_norm",
    )
    critic = zoo.build(
        kind.critic,
        input_shape=shape,
        num_classes=num_classes,
        width=width,
        normalization=kind.normalization,
        condition="concatenation" if condition == "concatenation" else "projection",
    )
    latent, image = keras.Input((latent_size,), name="latent"), keras.Input(shape, name="image")
    inputs, conditioning = {"latent": latent, "image": image}, {}
    if num_classes:
        conditioning = {"label": keras.Input((), dtype="int32", name="label")}
        inputs |= conditioning
    outputs = {
        "painted": generator({"latent": latent, **conditioning} if conditioning else latent),
        "score": critic({"image": image, **conditioning} if conditioning else image),
    }
    return keras.Model(inputs, outputs, name="gan")


def get_networks(model):
    """Returns the networks in a model that `build` made, by what they are."""
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return {zoo.spec(layer.name).kind: layer for layer in nested}


def build_optimizer(model, task, rates, betas):
    """Returns the optimiser of both players.

    Args:
        model: what `build` made.
        task: whose flags describe the optimisers; the average of weights is the generator's.
        rates: the schedule of each player, by name.
        betas: decays of the moments, of optimisers that have such.
    """
    found = get_networks(model)
    members = []
    for name in NETWORKS:
        network_flags = task if name == "generator" else dataclasses.replace(task, ema_decay=0.0)
        made = network_flags.make_optimizer(rates[name])
        for option, beta in zip(("beta_1", "beta_2"), betas, strict=True):
            if hasattr(made, option):
                setattr(made, option, beta)
        members.append((made, found[name].trainable_variables))
    return param_groups.ParamGroupOptimizer(members)


def check_variant(kind):
    """Returns a `Kind` that can be played; raises `UsageError` if not."""
    if kind.gradient_penalty and kind.normalization == "batch":
        raise UsageError(
            "a gradient penalty asks how the critic judges each image by itself, which "
            "--critic-norm batch prevents; take none, layer or spectral"
        )
    return kind
