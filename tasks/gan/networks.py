"""The generator and the critic of a GAN: their variants, both as one model, their optimizer."""

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
    """The networks, the loss and the optimizer of a paper's GAN.

    Attributes:
        generator, critic: names of models of the zoo.
        normalization: normalization of the critic's layers, one of `NORMALIZATIONS`.
        loss: adversarial loss, one of `train_step.LOSSES`.
        gradient_penalty: factor of the gradient penalty; 0 for none.
        critic_steps: steps of the critic per step of the generator.
        learning_rate: learning rate of Adam.
        betas: decays of the first and second moments of Adam.
    """

    generator: str
    critic: str
    normalization: str
    loss: str
    gradient_penalty: float
    critic_steps: int
    learning_rate: float
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


def variant_from_flags(task):
    """Returns the `Variant` of a task's `--model`, with the values of flags that are not defaults.

    Args:
        task: a `Gan`.
    """
    own = VARIANTS[task.model]
    penalty = task.gradient_penalty
    betas = zip((task.beta_1, task.beta_2), own.betas, strict=True)
    return dataclasses.replace(
        own,
        normalization=own.normalization if task.critic_norm == "auto" else task.critic_norm,
        loss=own.loss if task.loss == "auto" else task.loss,
        gradient_penalty=own.gradient_penalty if penalty < 0 else penalty,
        critic_steps=task.critic_steps or own.critic_steps,
        learning_rate=task.learning_rate or own.learning_rate,
        betas=tuple(default if beta < 0 else beta for beta, default in betas),
    )


def build(variant, shape, *, latent_size, num_classes, width, condition):
    """Builds generator and critic as nested models of one model.

    Args:
        variant: a `Variant`.
        shape: `(height, width, channels)` of the images.
        latent_size: length of the latent vectors.
        num_classes: the number of classes of class-conditional networks; `None` for unconditional
            ones.
        width: channels of the largest feature maps of both networks.
        condition: how class-conditional networks use the label: `projection` or `concatenation`.

    Returns:
        A `keras.Model` from a dict of `latent`, `image` and, with classes, `label` to a dict of
        `generated`, the generated images, and `score`, the critic's scores of `image`.
    """
    generator = zoo.build(
        variant.generator,
        input_shape=(latent_size,),
        num_classes=num_classes,
        image_size=shape[0],
        channels=shape[-1],
        width=width,
        condition="concatenation" if condition == "concatenation" else "batch_norm",
    )
    critic = zoo.build(
        variant.critic,
        input_shape=shape,
        num_classes=num_classes,
        width=width,
        normalization=variant.normalization,
        condition="concatenation" if condition == "concatenation" else "projection",
    )
    latent, image = keras.Input((latent_size,), name="latent"), keras.Input(shape, name="image")
    inputs, label_input = {"latent": latent, "image": image}, {}
    if num_classes:
        label_input = {"label": keras.Input((), dtype="int32", name="label")}
        inputs |= label_input
    outputs = {
        "generated": generator({"latent": latent, **label_input} if label_input else latent),
        "score": critic({"image": image, **label_input} if label_input else image),
    }
    return keras.Model(inputs, outputs, name="gan")


def get_networks(model):
    """Returns the `generator` and the `critic` in a model of `build`, as a dict by name."""
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return {zoo.spec(layer.name).kind: layer for layer in nested}


def build_optimizer(model, task, schedules, betas):
    """Builds the optimizer of both networks.

    Args:
        model: a model of `build`.
        task: the `Gan`, for the optimizer's flags; only the generator's weights are averaged.
        schedules: learning rate schedules, a dict by name of the network.
        betas: decays of the first and second moments, for optimizers that have them.

    Returns:
        A `param_groups.ParamGroupOptimizer` with an optimizer for each of `NETWORKS`.
    """
    by_name = get_networks(model)
    groups = []
    for name in NETWORKS:
        network_flags = task if name == "generator" else dataclasses.replace(task, ema_decay=0.0)
        optimizer = network_flags.make_optimizer(schedules[name])
        for option, beta in zip(("beta_1", "beta_2"), betas, strict=True):
            if hasattr(optimizer, option):
                setattr(optimizer, option, beta)
        groups.append((optimizer, by_name[name].trainable_variables))
    return param_groups.ParamGroupOptimizer(groups)


def check_variant(variant):
    """Returns a `Variant`; raises `UsageError` if its options contradict each other."""
    if variant.gradient_penalty and variant.normalization == "batch":
        raise UsageError(
            "a gradient penalty needs a critic whose score depends on one image only, unlike with "
            "--critic-norm batch; use none, layer or spectral, or --gradient-penalty 0"
        )
    return variant
