"""Saliency maps against formulas and known answers."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tasks.explain import faithfulness, methods, overlays
from zoo.errors import UsageError

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (2, 32, 32, 3)).astype("float32")
CLASSES = [1, 2]


def small(head="pooled", **options):
    """Returns a classifier with maps of 16 x 16 and 8 x 8."""
    keras.utils.set_random_seed(1)
    image = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255, **options)(image)
    x = keras.layers.Conv2D(6, 3, 2, "same", activation="relu", **options)(x)
    x = keras.layers.Conv2D(8, 3, 2, "same", activation="relu", name="maps", **options)(x)
    if head == "pooled":
        x = keras.layers.GlobalAveragePooling2D(**options)(x)
    else:
        x = keras.layers.Flatten(**options)(x)
        x = keras.layers.Dense(10, activation="relu", **options)(x)
    return keras.Model(image, keras.layers.Dense(4, name="logits", dtype="float32")(x))


def test_grad_cam_is_the_class_activation_map_of_a_pooled_network():
    """For average pooling and a linear head it is CAM (Zhou et al., 2016) over the places."""
    model = small()
    explained = methods.prepare(model)
    features = keras.Model(model.input, model.get_layer("maps").output).predict(IMAGES, verbose=0)
    kernel = model.get_layer("logits").kernel.numpy()
    wanted = np.stack([f @ kernel[:, c] for f, c in zip(features, CLASSES, strict=True)]) / 64
    found = methods.grad_cam(explained, IMAGES, CLASSES)
    np.testing.assert_allclose(found, np.maximum(wanted, 0), atol=1e-6)
    other = methods.hires_cam(explained, IMAGES, CLASSES)
    np.testing.assert_allclose(other, found, atol=1e-6)


def test_hires_cam_is_the_contribution_of_each_place():
    """Of a linear head on the maps, contributions add up to the logit without its bias."""
    model = small()
    image = model.input
    x = keras.layers.Flatten()(model.get_layer("maps").output)
    linear = keras.Model(image, keras.layers.Dense(4)(x))
    explained = methods.prepare(linear)
    kernel, bias = (w.numpy() for w in linear.layers[-1].weights)
    features = keras.Model(image, model.get_layer("maps").output).predict(IMAGES, verbose=0)
    maps = methods.hires_cam(explained, IMAGES, CLASSES)
    terms = features * kernel.reshape(8, 8, 8, 4)[..., CLASSES].transpose(3, 0, 1, 2)
    np.testing.assert_allclose(maps, np.maximum(terms.sum(-1), 0), atol=1e-6)
    logits = explained.logits(IMAGES)[[0, 1], CLASSES] - bias[CLASSES]
    np.testing.assert_allclose(terms.sum((1, 2, 3)), logits, atol=1e-5)
    assert methods.grad_cam(explained, IMAGES, CLASSES) != pytest.approx(maps)


def test_grad_cam_plus_plus_has_the_weights_of_its_formula():
    model = small()
    explained = methods.prepare(model)
    features, gradients = methods._features_and_gradients(explained, IMAGES, CLASSES)
    wanted = np.zeros((2, 8, 8))
    for n in range(2):
        for k in range(8):
            weight = 0.0
            for i in range(8):
                for j in range(8):
                    g = gradients[n, i, j, k]
                    below = 2 * g**2 + features[n, :, :, k].sum() * g**3
                    weight += (g**2 / below if below else 0.0) * max(g, 0)
            wanted[n] += weight * features[n, :, :, k]
    found = methods.grad_cam_plus_plus(explained, IMAGES, CLASSES)
    np.testing.assert_allclose(found, np.maximum(wanted, 0), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "side", "rows"),
    [
        *(("mobilenet_025", *sides) for sides in ((224, 14), (128, 8), (32, 8), (None, None))),
        *(("resnet20", *sides) for sides in ((64, 16), (32, 8))),
    ],
)
def test_the_feature_map_is_the_last_that_is_not_too_coarse(name, side, rows):
    """MobileNet ends in 7 x 7 cells at 224 pixels, and in 4 x 4 at 128."""
    model = zoo.build(name, input_shape=(side, side, 3), num_classes=2)
    assert methods.prepare(model).feature_map.shape[1:3] == (rows, rows)


def test_the_feature_map_of_tiny_images_is_the_last():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, 2, "same")(keras.layers.Conv2D(4, 3, 2, "same")(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(2)(x))
    assert methods.prepare(model).feature_map.shape[1:3] == (2, 2)


def test_attributions_add_up_to_the_difference_from_black():
    explained = methods.prepare(small("dense"))
    found = methods.attributions(explained, IMAGES, CLASSES, steps=200)
    logits = explained.logits(np.concatenate([IMAGES, np.zeros_like(IMAGES[:1])]))
    wanted = logits[[0, 1], CLASSES] - logits[2, CLASSES]
    np.testing.assert_allclose(found.sum((1, 2, 3)), wanted, rtol=0.01)


def mean_of_region(top, left, side):
    """Returns a classifier whose class 1 is the mean of a square of the image."""
    image = keras.Input((16, 16, 3))
    x = image[:, top : top + side, left : left + side]
    one = keras.layers.GlobalAveragePooling2D(keepdims=False)(x)
    return keras.Model(image, keras.layers.Dense(3)(one))


@pytest.mark.parametrize("name", ["occlusion", "rise", "integrated_gradients"])
def test_the_map_lies_where_the_evidence_is(name):
    model = mean_of_region(0, 8, 8)
    kernel, bias = [[0, 0.02, 0]] * 3, [0, -10, 0]  # from -4.5 to 5 for the images below
    model.layers[-1].set_weights([np.array(kernel), np.array(bias)])
    image = np.full((1, 16, 16, 3), 40, "float32")
    image[:, :8, 8:] = 250
    (found,) = methods.METHODS[name](methods.prepare(model), image, [1])
    inside = np.zeros((16, 16), bool)
    inside[:8, 8:] = True
    assert faithfulness.points_into(found, inside)
    enlarged = overlays.to_image_size(found, (16, 16))
    assert enlarged[inside].mean() > 2 * enlarged[~inside].mean()


@pytest.mark.parametrize("tolerance", [0, 3])
def test_a_map_points_to_the_centre_of_its_highest_cell(tolerance):
    """The cell in the corner has its maximum at (3, 3); enlarged, also in the corner itself."""
    saliency = np.zeros((3, 2), "float32")
    saliency[0, 0] = 1
    for row, column in ((3, 3), (3, 6), (0, 0), (3, 7), (9, 9)):
        mask = np.zeros((21, 14), bool)
        mask[row, column] = True
        near = np.hypot(row - 3, column - 3) <= tolerance
        assert faithfulness.points_into(saliency, mask, tolerance) is bool(near)
    assert not faithfulness.points_into(saliency, np.zeros((21, 14), bool), tolerance)


def test_attention_rollout_multiplies_the_attention_of_all_blocks():
    keras.utils.set_random_seed(0)
    model = zoo.build("vit_tiny", input_shape=(48, 32, 3), num_classes=4, depth=2)
    images = RNG.uniform(0, 255, (2, 48, 32, 3)).astype("float32")
    found = methods.attention_rollout(methods.prepare(model), images, [0, 0])
    assert found.shape == (2, 3, 2)
    # The row of the class token is a distribution over itself and the patches.
    assert (found > 0).all()
    assert (found.sum((1, 2)) < 1).all()
    # An untrained block attends evenly: 0.5 of each block stays with the token itself.
    assert found.sum((1, 2)) == pytest.approx(0.75 * 6 / 7, abs=0.02)


@pytest.mark.parametrize("name", methods.METHODS)
@pytest.mark.parametrize("network", ["functional", "Sequential", "nested", "frozen", "bfloat16"])
def test_methods_explain_every_kind_of_classifier(name, network):
    model = small(dtype="bfloat16") if network == "bfloat16" else small()
    if network == "Sequential":
        model = keras.Sequential([keras.Input((32, 32, 3)), *model.layers[1:]])
    elif network == "nested":
        image = keras.Input((32, 32, 3))
        model = keras.Model(image, model(image))
    elif network == "frozen":
        model.trainable = False
    explained = methods.prepare(model)
    if name == "attention_rollout":
        with pytest.raises(UsageError, match="no attention of a class token"):
            methods.METHODS[name](explained, IMAGES, CLASSES)
        return
    maps = methods.METHODS[name](explained, IMAGES, CLASSES)
    assert maps.ndim == 3
    assert len(maps) == 2
    assert np.isfinite(maps).all()
    assert (maps >= 0).all()


@pytest.mark.parametrize("name", ["grad_cam", "integrated_gradients", "occlusion"])
def test_random_weights_change_the_map(name):
    """The sanity check of Adebayo et al., 2018: a map that ignores the weights explains nothing."""
    before = methods.METHODS[name](methods.prepare(small()), IMAGES, CLASSES)
    model = small()
    rng = np.random.default_rng(3)
    model.set_weights([rng.normal(0, 0.2, w.shape) for w in model.get_weights()])
    after = methods.METHODS[name](methods.prepare(model), IMAGES, CLASSES)
    for a, b in zip(before, after, strict=True):
        assert np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1] < 0.8


def two_inputs():
    a, b = keras.Input((8, 8, 3)), keras.Input((4,))
    return keras.Model([a, b], keras.layers.Dense(2)(keras.layers.Flatten()(a)))


def no_maps():
    image = keras.Input((8, 8, 3))
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))


def test_what_cannot_be_explained_is_refused():
    with pytest.raises(UsageError, match="must have one input"):
        methods.prepare(two_inputs())
    with pytest.raises(UsageError, match="expected a classifier, from images"):
        methods.prepare(zoo.build("unet", input_shape=(32, 32, 3), num_classes=2))
    with pytest.raises(UsageError, match="depend on; use integrated_gradients"):
        methods.grad_cam(methods.prepare(no_maps()), IMAGES[:, :8, :8], CLASSES)
    vit = zoo.build("vit_tiny", input_shape=(32, 32, 3), num_classes=2, depth=1)
    with pytest.raises(UsageError, match="depend on; use attention_rollout"):
        methods.grad_cam(methods.prepare(vit), np.zeros((1, 32, 32, 3), "float32"), [0])


def test_figures_of_a_faithful_map_are_better_than_those_of_a_random_one():
    model = mean_of_region(0, 8, 8)
    kernel, bias = [[0, 0.02, 0]] * 3, [0, -10, 0]  # from -4.5 to 5 for the images below
    model.layers[-1].set_weights([np.array(kernel), np.array(bias)])
    explained = methods.prepare(model)
    image = np.full((16, 16, 3), 40, "float32")
    image[:8, 8:] = 250
    right = np.zeros((16, 16), "float32")
    right[:8, 8:] = 1
    other = RNG.random((16, 16)).astype("float32")
    deletion, insertion = faithfulness.deletion, faithfulness.insertion
    assert deletion(explained, image, right, 1) < deletion(explained, image, other, 1)
    assert insertion(explained, image, right, 1) > insertion(explained, image, other, 1)
    assert deletion(explained, image, 1 - right, 1) > deletion(explained, image, other, 1)


def test_the_share_of_the_border():
    even = np.ones((10, 10), "float32")
    assert faithfulness.border_share(even) == pytest.approx(1 - 0.8**2)
    middle = np.zeros((10, 10), "float32")
    middle[4:6, 4:6] = 1
    assert faithfulness.border_share(middle) == 0
    assert faithfulness.border_share(np.zeros((4, 4), "float32")) == 0


def test_outside_share_spares_the_neighbours_of_an_object():
    """Of 8 x 8 cells, an object in the first has 2 x 2 inside, one in the middle 3 x 3."""
    even, mask = np.ones((8, 8), "float32"), np.zeros((24, 40), bool)
    assert faithfulness.outside_share(even, mask) == 1
    mask[0, 0] = True
    assert faithfulness.outside_share(even, mask) == pytest.approx(1 - 4 / 64)
    mask[:] = False
    mask[10, 22] = True  # cell (3, 4)
    assert faithfulness.outside_share(even, mask) == pytest.approx(1 - 9 / 64)
    near, far = np.zeros((2, 8, 8), "float32")
    near[2, 5], far[1, 4] = 1, 1
    assert faithfulness.outside_share(near, mask) == 0
    assert faithfulness.outside_share(far, mask) == 1
    assert faithfulness.outside_share(0 * even, mask) == 0
