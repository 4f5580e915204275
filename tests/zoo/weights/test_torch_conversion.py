"""Logits of networks in PyTorch and Keras with the same state dict. Needs PyTorch."""

from __future__ import annotations

import types

import keras
import numpy as np
import pytest

import zoo

torch = pytest.importorskip("torch", exc_type=ImportError)
nn = torch.nn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore:enable_nested_tensor"),
]

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CLASSES = 7


class Residual(nn.Module):
    """A block of torchvision's ResNet, the stride in the first or only 3 x 3 convolution."""

    def __init__(self, before, width, stride, bottleneck):
        super().__init__()
        sizes, widths = (
            ((1, 3, 1), (width, width, 4 * width)) if bottleneck else ((3, 3), (width,) * 2)
        )
        into, self.parts = before, len(sizes)
        for index, (size, out) in enumerate(zip(sizes, widths, strict=True), start=1):
            step = stride if index == (2 if bottleneck else 1) else 1
            conv = nn.Conv2d(into, out, size, step, size // 2, bias=False)
            setattr(self, f"conv{index}", conv)
            setattr(self, f"bn{index}", nn.BatchNorm2d(out))
            into = out
        self.downsample = None
        if stride != 1 or into != before:
            conv = nn.Conv2d(before, into, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(into))

    def forward(self, x):
        y = x
        for index in range(1, self.parts + 1):
            y = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(y))
            y = torch.relu(y) if index < self.parts else y
        return torch.relu(y + (self.downsample(x) if self.downsample else x))


class ResNet(nn.Module):
    def __init__(self, depths, bottleneck, width):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        before = width
        for stage, depth in enumerate(depths):
            blocks, wide = [], width * 2**stage
            for index in range(depth):
                blocks.append(Residual(before, wide, 2 if stage and not index else 1, bottleneck))
                before = wide * (4 if bottleneck else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(before, CLASSES)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in (1, 2, 3, 4):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


class Plain(nn.Module):
    """A sequential `features` and a sequential `classifier` of the flattened features."""

    def __init__(self, features, classifier):
        super().__init__()
        self.features, self.classifier = nn.Sequential(*features), nn.Sequential(*classifier)

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


def vgg(depths, widths, norm, hidden, side):
    features, before = [], 3
    for depth, width in zip(depths, widths, strict=True):
        for _ in range(depth):
            features += [nn.Conv2d(before, width, 3, padding=1)]
            features += [nn.BatchNorm2d(width)] * norm + [nn.ReLU()]
            before = width
        features.append(nn.MaxPool2d(2))
    return Plain(
        features,
        [
            *(nn.Linear(before * side**2, hidden), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout()),
            nn.Linear(hidden, CLASSES),
        ],
    )


def alexnet(hidden, side):
    def conv(*sizes):
        return nn.Conv2d(*sizes), nn.ReLU()

    return Plain(
        [
            *(*conv(3, 64, 11, 4, 2), nn.MaxPool2d(3, 2)),
            *(*conv(64, 192, 5, 1, 2), nn.MaxPool2d(3, 2)),
            *(*conv(192, 384, 3, 1, 1), *conv(384, 256, 3, 1, 1), *conv(256, 256, 3, 1, 1)),
            nn.MaxPool2d(3, 2),
        ],
        [
            *(nn.Dropout(), nn.Linear(256 * side**2, hidden), nn.ReLU()),
            *(nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU()),
            nn.Linear(hidden, CLASSES),
        ],
    )


class Fire(nn.Module):
    def __init__(self, before, squeezed):
        super().__init__()
        self.squeeze = nn.Conv2d(before, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, 4 * squeezed, 1)
        self.expand3x3 = nn.Conv2d(squeezed, 4 * squeezed, 3, padding=1)

    def forward(self, x):
        x = torch.relu(self.squeeze(x))
        return torch.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


def squeezenet(width, size, pools):
    features = [nn.Conv2d(3, width, size, 2), nn.ReLU()]
    before = width
    for index, squeezed in enumerate((0, 16, 16, 32, 32, 48, 48, 64, 64), start=1):
        if squeezed:
            features.append(Fire(before, squeezed))
            before = 8 * squeezed
        if index in pools:
            features.append(nn.MaxPool2d(3, 2, ceil_mode=True))
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = Plain(features, [nn.Dropout(), nn.Conv2d(before, CLASSES, 1), nn.ReLU(), *pooled])
    net.forward = lambda x: net.classifier(net.features(x))
    return net


class ConvBatchNorm(nn.Module):
    def __init__(self, before, width, size, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(before, width, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, before, one, reduce, three, squeeze, wide, project):
        super().__init__()
        self.branch1 = ConvBatchNorm(before, one, 1)
        self.branch2 = nn.Sequential(
            ConvBatchNorm(before, reduce, 1), ConvBatchNorm(reduce, three, 3)
        )
        self.branch3 = nn.Sequential(
            ConvBatchNorm(before, squeeze, 1), ConvBatchNorm(squeeze, wide, 3)
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvBatchNorm(before, project, 1))

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class Auxiliary(nn.Module):
    def __init__(self, before):
        super().__init__()
        self.conv = ConvBatchNorm(before, 128, 1)
        self.fc1, self.fc2 = nn.Linear(2048, 1024), nn.Linear(1024, CLASSES)

    def forward(self, x):
        x = torch.flatten(self.conv(nn.functional.adaptive_avg_pool2d(x, 4)), 1)
        return self.fc2(torch.relu(self.fc1(x)))


INCEPTIONS = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


class GoogLeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = ConvBatchNorm(3, 64, 7, 2), ConvBatchNorm(64, 64, 1)
        self.conv3 = ConvBatchNorm(64, 192, 3)
        for name, widths in INCEPTIONS.items():
            setattr(self, f"inception{name}", Inception(*widths))
        self.aux1, self.aux2 = Auxiliary(512), Auxiliary(528)
        self.fc = nn.Linear(1024, CLASSES)

    def forward(self, x):
        def pool(x, size=3):
            return nn.functional.max_pool2d(x, size, 2, ceil_mode=True)

        # `transform_input`, which torchvision uses with its published weights
        x = torch.stack(
            [x[:, i] * (DEVIATION[i] / 0.5) + (MEAN[i] - 0.5) / 0.5 for i in range(3)],
            1,
        )
        x, heads = pool(self.conv3(self.conv2(pool(self.conv1(x))))), []
        for name in INCEPTIONS:
            x = getattr(self, f"inception{name}")(x)
            if name in ("4a", "4d"):
                heads.append(getattr(self, f"aux{len(heads) + 1}")(x))
            x = pool(x) if name == "3b" else pool(x, 2) if name == "4e" else x
        return {"auxiliary1": heads[0], "auxiliary2": heads[1], "logits": self.fc(x.mean((2, 3)))}


class EncoderBlock(nn.Module):
    """A block of torchvision's ViT."""

    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.ln_2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(
            *(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0)),
            *(nn.Linear(4 * width, width), nn.Dropout(0)),
        )

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.self_attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class ViT(nn.Module):
    def __init__(self, width, heads, depth, patches):
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.conv_proj = nn.Conv2d(3, width, 16, 16)
        self.encoder = nn.Module()
        self.encoder.pos_embedding = nn.Parameter(torch.zeros(1, patches + 1, width))
        blocks = {f"encoder_layer_{index}": EncoderBlock(width, heads) for index in range(depth)}
        self.encoder.layers = nn.ModuleDict(blocks)
        self.encoder.ln = nn.LayerNorm(width, eps=1e-6)
        self.heads = nn.ModuleDict({"head": nn.Linear(width, CLASSES)})

    def forward(self, x):
        x = torch.flatten(self.conv_proj(x), 2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.encoder.pos_embedding
        for block in self.encoder.layers.values():
            x = block(x)
        return self.heads["head"](self.encoder.ln(x)[:, 0])


WIDE, HIDDEN = (8, 12, 16, 16, 20), {"hidden": (24, 24)}
RESNET = {"depths": (2, 1, 2, 1), "width": 8}
NETWORKS = {  # model name: the network in PyTorch, image size, options in the zoo
    "resnet18": (lambda: ResNet((2, 1, 2, 1), False, 8), 64, RESNET),
    "resnet50_v1_5": (lambda: ResNet((2, 1, 2, 1), True, 8), 64, RESNET),
    "vgg16": (lambda: vgg((2, 2, 3, 3, 3), WIDE, False, 24, 2), 64, {"widths": WIDE, **HIDDEN}),
    "vgg11_bn": (lambda: vgg((1, 1, 2, 2, 2), WIDE, True, 24, 3), 96, {"widths": WIDE, **HIDDEN}),
    "alexnet": (lambda: alexnet(24, 2), 96, HIDDEN),
    "squeezenet": (lambda: squeezenet(96, 7, (1, 4, 8)), 65, {}),
    "squeezenet_v1_1": (lambda: squeezenet(64, 3, (1, 3, 5)), 66, {}),
    "googlenet": (GoogLeNet, 96, {"auxiliary": True}),
    "vit_tiny": (lambda: ViT(48, 3, 3, 6 * 6), 96, {"width": 48, "depth": 3}),
}


def randomize(net, images):
    """Sets random weights and statistics that keep the scale of activations; returns the net."""
    torch.manual_seed(0)
    for name, parameter in net.named_parameters():
        with torch.no_grad():
            if parameter.ndim > 1 and "token" not in name and "embedding" not in name:
                parameter.normal_(0, (2 / parameter[0].numel()) ** 0.5)
                parameter[0] *= 1e-3  # a channel with so small a variance that epsilon matters
            elif parameter.ndim == 1 and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(0, 0.1)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # statistics of these images
    with torch.no_grad():
        net.train()(images)
    return net.eval()


def standardised(images):
    return torch.tensor(((images / 255 - MEAN) / DEVIATION).transpose(0, 3, 1, 2).copy()).float()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_match_pytorch(name, zipped, tmp_path):
    build, side, options = NETWORKS[name]
    images = np.random.default_rng(0).uniform(0, 255, (4, side, side, 3))
    net = randomize(build(), standardised(images))
    path = tmp_path / "x.pth"
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=zipped)
    shape = (side, side, 3)
    model = zoo.build(name, num_classes=CLASSES, input_shape=shape, weights=path, **options)
    with torch.no_grad():
        expected = net(standardised(images))
    got = model(images.astype("float32"), training=False)
    expected = expected if isinstance(expected, dict) else {"": expected}
    got = got if isinstance(got, dict) else {"": got}
    assert set(got) == set(expected)
    for head, tensor in expected.items():
        logits, torch_logits = keras.ops.convert_to_numpy(got[head]), tensor.numpy()
        assert np.ptp(torch_logits) > 0.1
        tolerance = 1e-4 * max(1, np.abs(torch_logits).max())
        np.testing.assert_allclose(logits, torch_logits, atol=tolerance)


class Cifar(nn.Module):
    """The ResNets of akamaster/pytorch_resnet_cifar10, with shortcuts of option A or B."""

    def __init__(self, blocks, option):
        super().__init__()
        self.option = option
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        before = 16
        for stage, width in enumerate((16, 32, 64), start=1):
            made = []
            for index in range(blocks):
                block = Residual(before, width, 2 if stage > 1 and index == 0 else 1, False)
                block.shortcut, block.downsample = block.downsample or nn.Sequential(), None
                if option == "A":
                    block.shortcut = nn.Sequential()
                block.forward = types.MethodType(Cifar.block, block)
                made.append(block)
                before = width
            setattr(self, f"layer{stage}", nn.Sequential(*made))
        self.linear = nn.Linear(64, CLASSES)

    def block(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if len(self.shortcut) == 0 and y.shape != x.shape:
            width = y.shape[1]
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, width // 4, width // 4))
        return torch.relu(y + self.shortcut(x))

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


@pytest.mark.parametrize("option", ["A", "B"])
@pytest.mark.parametrize("wrapper", ["module.", ""])
def test_logits_of_a_resnet_for_cifar_match_pytorch(option, wrapper, tmp_path):
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3))
    net = randomize(Cifar(3, option), standardised(images))
    state = {wrapper + name: tensor for name, tensor in net.state_dict().items()}
    torch.save({"state_dict": state, "best_prec1": 91.7}, tmp_path / "resnet20-12fca82f.th")
    options = {"shortcut": {"A": "padding", "B": "projection"}[option], "num_classes": CLASSES}
    model = zoo.build("resnet20", weights=tmp_path / "resnet20-12fca82f.th", **options)
    with torch.no_grad():
        torch_logits = net(standardised(images)).numpy()
    logits = keras.ops.convert_to_numpy(model(images.astype("float32"), training=False))
    assert np.ptp(torch_logits) > 0.1
    tolerance = 1e-4 * max(1, np.abs(torch_logits).max())
    np.testing.assert_allclose(logits, torch_logits, atol=tolerance)


def test_read_files_saved_by_pytorch(tmp_path):
    from zoo.weights import torch_files

    base = torch.arange(24.0)
    content = {
        "turned": base.view(4, 6).t(),
        "part": base[3:9].view(2, 3),
        "brain": torch.tensor([1.5, -2.0, 3.25]).bfloat16(),
        "half": torch.arange(3).half(),
        "parameter": nn.Parameter(torch.ones(2)),
        "count": torch.tensor(3),
        "last": torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }
    for zipped in (True, False):
        for protocol in (2, 4):
            options = {"_use_new_zipfile_serialization": zipped, "pickle_protocol": protocol}
            torch.save(content, tmp_path / "x.pth", **options)
            found = torch_files.read(tmp_path / "x.pth")
            assert list(found) == list(content)
            for name, expected in content.items():
                expected = expected.detach()
                expected = expected.float() if name == "brain" else expected
                np.testing.assert_array_equal(found[name], expected.numpy())


def test_pickled_torch_module_is_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "x.pth")
    with pytest.raises(
        zoo.UsageError, match=r"needs torch.nn.modules.linear.Linear, which is refused"
    ):
        zoo.build("resnet18", weights=tmp_path / "x.pth")
