"""Random invalid commands, damaged files and invalid calls.

`prepare` creates a folder with small files of every supported kind; each case runs in a copy of
it. Cases are meant to be invalid, but some may be valid: both are fine, tracebacks are not.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import random
import shlex
import zipfile

import numpy as np
from PIL import Image

from tests.support import fuzz_data

TRAINED, TASK = "run", "classification"
DAMAGEABLE = 2**14  # bytes at the beginning of a file, which hold its structure


@dataclasses.dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        kind: `command`, `file` or `call`.
        words: the arguments of the command, or the code of the call.
        damage: arguments of `damage` to apply before, or `None`.
        note: description of the damage.
    """

    kind: str
    words: tuple[str, ...]
    damage: tuple | None = None
    note: str = ""


SMALL = "--epochs 1 --batch-size 8 --precision float32 --out new"
SHAPES = "--dataset shapes --image-size 32 --train-split train[:8] --validation-split "
SHAPES += f"validation[:4] --test-split test[:4] {SMALL}"
DATA = "--dataset images --validation-split none"
LENET = f"train {TASK} --model lenet5 {DATA} {SMALL}"
RESUMED = LENET.replace("--out new", "--out unfinished")
FINISHED = LENET.replace("--out new", "--out run")
SEARCH = f"tune {TASK} --model lenet5 --engine random --trials 1 --isolate off --dataset images "
SEARCH += SMALL.replace("--out new", "--out search")
EXPORT = "export run --format onnx --images images --out exported"
DETECTOR = "--model faster_rcnn --backbone lenet5 --model-options "
DETECTOR += "'{levels: [2, 3], channels: 8, proposals: 12, hidden: [8]}'"
# Valid commands in the folder of `prepare`, which take a few seconds at most.
COMMANDS = (
    f"finetune lenet5 images {SMALL}",
    LENET,
    f"train {TASK} --model lenet5 --dataset list.csv --resize stretch {SMALL}",
    "train --recipe run/recipe.yaml --out new",
    f"train segmentation --model unet --model-options '{{widths: [4, 8]}}' {SHAPES}",
    f"train detection {DETECTOR} {SHAPES}",
    f"train captioning --model nic --backbone lenet5 {SHAPES}",
    "train gan --width 4 --latent-size 8 --train-split train[:16] --validation-split none "
    f"--test-split test[:8] --num-samples 8 {SMALL}",
    "train style_transfer --model fast_style --steps 2 --image-size 32 --train-split train[:4] "
    "--backbone lenet5 --backbone-weights random --out new",
    "train dqn --dataset catch --epoch-steps 96 --learning-starts 60 --replay-size 400 "
    f"--test-episodes 2 --validation-episodes 2 {SMALL}",
    f"train sequence --dataset mackey_glass --length 8 --stride 400 --units 4 {SMALL}",
    f"tune {TASK} --model lenet5 --trials 1 --isolate off --dataset images {SMALL}",
    f"tune {TASK} --engine evolution --engine-options '{{population: 2}}' --trials 1 "
    f"--isolate off --dataset images {SMALL}",
    "predict run images/black/0.png --top 2",
    "predict run images --format csv --output predictions.csv",
    "predict run/model.keras images --json --runtime keras",
    "evaluate run --dataset images --json",
    "evaluate run --split train[:4] --tta flip",
    "doctor run images --images 8",
    "embed run images --k 3 --page map.html --neighbours images/black/0.png",
    "runs . --sort figure",
    "compare run other --out page.html",
    "rank images --models resnet20.cifar10 --images 8",
    "lr-find lenet5 images --steps 4 --validation-split none",
    "generate run --count 2 --out generated",
    "show lenet5 --layers --json",
    "show resnet20.cifar10",
    "list res* --max-params 25M --min-accuracy 70% --sort params",
    "weights list lenet*",
    "weights mirror mirror resnet20*",
    "launch -n 1 --restarts 0 -- list",
    EXPORT,
    "export run --format keras,saved_model --images images --json",
    "export run --format litert --precision int8 --calibration images --images images --out new",
    "predict exported/onnx/model.onnx images --top 2 --json",
    "explain run images --class white --out maps",
    "explain resnet20.cifar10 images/black/0.png --method occlusion --out maps",
    "serve run --port 0 --max-wait-ms 1 --queue 4 --max-megabytes 1",
    "serve resnet20.cifar10 run --port 0 --runtime keras --token-file token.txt",
    "study softmax --seed 1 --out studies",
    "study filters --json --out studies",
    "gradcheck lenet5 --samples 2 --json",
    "clean images --folds 2 --out cleaning",
    "clean list.csv --apply corrections.csv --out cleaned --json",
    "benchmark lenet5 --runtime keras --batch-size 1 --threads 1 --seconds 0.1 --csv speed.csv",
    "benchmark exported/onnx/model.onnx --seconds 0.1 --picture speed.svg --json",
    "export run --format web --images images --out web",
    f"{LENET} --columns path=path,label=label --folds 2",
    f"{LENET} --track mlflow --group-by '(.)[.]...$'",
    *(
        LENET.replace("images", name)
        for name in (
            "shards",
            "studio.json",
            "tiff --pages all",
            "dicom --min-per-class 1",
            "deep --scale 0..4095",
        )
    ),
    "push run hf://user/name --message text",
    SEARCH,
)
VALUES = (
    *("", " ", "-", "--", "-1", "0", "1", "3", "nan", "inf", "-inf", "1e400", "1e-400", "-0.0"),
    *("9" * 25, "1_000", "0x10", "½", "é", "日本", "\x1b[31m", "a\nb", "\udcff", "a" * 300),
    *("nowhere", "nowhere.csv", ".", "..", "images", "images/black/0.png", "run", "list.csv"),
    *("run/model.keras", "run/recipe.yaml", "run/report.json", "empty", "fifo", "dangling"),
    *("[", "{", "{a: b}", "[1]", "null", "{1: 2}", "{depth: x}", "*", "[a-", "%s", "{0}", "true"),
    *(
        "train[:4]",
        "train[9:]",
        "train[4:2]",
        "train[::-1]",
        "tfds:",
        "tfds:nothing",
        "os:CartPole-v1",
    ),
    *("lenet5", "resnet50", "resnet50.imagenet", "unet", "dcgan_generator", "retinanet", "auto"),
)
# File to damage, the last match of the pattern in the folder, and commands that read it.
READERS = {
    "run/model.keras": (
        *("predict run images", "doctor run", "evaluate run", "predict run/model.keras images"),
        *("explain run images --out maps", "serve run --port 0", EXPORT, "gradcheck run"),
        f"{LENET} --weights run/model.keras",
    ),
    "run/recipe.yaml": (
        *("train --recipe run/recipe.yaml --out new", "evaluate run", "doctor run", FINISHED),
        f"tune {TASK} --recipe run/recipe.yaml --trials 1 --isolate off",
    ),
    "run/report.json": (
        *("evaluate run", "predict run images", "doctor run", FINISHED),
        *("runs .", "compare run other", "export run --format keras --images images"),
        *("push run hf://user/name", "serve run --port 0"),
    ),
    "exported/onnx/model.onnx": ("predict exported/onnx/model.onnx images --json",),
    "exported/onnx/export.json": ("predict exported/onnx/model.onnx images", EXPORT),
    "search/oracle.json": (SEARCH, SEARCH.replace("--trials 1", "--trials 2")),
    "search/trials/*.json": (SEARCH, "runs search/trials"),
    "search/search.yaml": (SEARCH,),
    "token.txt": ("serve run --port 0 --token-file token.txt",),
    "run/predictions/*.csv": ("compare run other --out page.html",),
    "run/history.csv": ("compare run other --out page.html",),
    "unfinished/checkpoint/state.json": (RESUMED,),
    "unfinished/checkpoint/*.npz": (RESUMED,),
    "unfinished/history.csv": (RESUMED,),
    "w.weights.h5": (f"{LENET} --weights w.weights.h5",),
    "w.npz": (f"{LENET} --weights w.npz",),
    "w.safetensors": (f"{LENET} --weights w.safetensors",),
    "w.pth": (f"{LENET} --weights w.pth",),
    "images/black/0.png": (
        *("predict run images/black/0.png", LENET, "doctor run images"),
        "rank images --models resnet20.cifar10",
    ),
    "images/black/0.jpg": ("predict run images/black/0.jpg", LENET),
    "list.csv": (f"{LENET} --dataset list.csv", "doctor run list.csv"),
    "coco/boxes.json": (
        f"train detection {DETECTOR} --dataset coco/boxes.json --image-size 32 {SMALL}",
        f"train segmentation --model unet --dataset coco/boxes.json --image-size 32 {SMALL}",
    ),
    "voc/Annotations/0.xml": (f"train detection {DETECTOR} --dataset voc --image-size 32 {SMALL}",),
    "yolo/data.yaml": (f"train detection {DETECTOR} --dataset yolo --image-size 32 {SMALL}",),
    "yolo/labels/0.txt": (f"train detection {DETECTOR} --dataset yolo --image-size 32 {SMALL}",),
    "masks/masks/0.png": (
        f"train segmentation --model unet --dataset masks --image-size 32 {SMALL}",
    ),
    "corrections.csv": ("clean list.csv --apply corrections.csv --out cleaned",),
    **{
        file: (LENET.replace("images", name), f"doctor run {name}")
        for file, name in fuzz_data.FILES.items()
    },
    "captions.txt": (
        f"train captioning --model nic --backbone lenet5 --dataset captions.txt {SMALL}",
    ),
}
WRONG = (
    *("None", "5", "-1", "0", "1.5", "True", "''", "'nothing'", "[]", "{}", "()", "object()"),
    *(
        "float('nan')",
        "10**30",
        "'a' * 300",
        "'\\0'",
        "b'x'",
        "[[1]]",
        "{1: 2}",
        "lambda: 1",
        "int",
    ),
)
CALLS = (
    *("zoo.build({})", "zoo.build('lenet5', input_shape={})", "zoo.build('lenet5', weights={})"),
    *("zoo.build('lenet5', num_classes={})", "zoo.build('lenet5', name={})", "zoo.names({})"),
    *("zoo.build('mlp', widths={})", "zoo.build('mlp', activation={})", "zoo.spec({})"),
    *("zoo.backbone({})", "zoo.backbone('lenet5', output_stride={})", "zoo.class_names({})"),
    *(
        "zoo.surgery.head(zoo.build('lenet5'), num_classes={})",
        "zoo.surgery.head({}, num_classes=2)",
    ),
    *("zoo.surgery.resize(zoo.build('lenet5'), {})", "files.load({})", "tasks.get({})"),
    *("tasks.get('classification')(model={})", "tasks.get('classification')(epochs={})"),
    *("tasks.get('classification')(learning_rate={})", "tasks.get('dqn')(dataset={}).load()"),
    *("tasks.get('classification')(dataset={}).load()", "tasks.get('gan')(width={})"),
    *("tasks.finetune({}, 'images')", "tasks.finetune('lenet5', {})", "tasks.Run.open({})"),
    *("tasks.train({})", "tasks.train('classification', dataset={})"),
    *("tasks.Run.open('run').predict({})", "tasks.Run.open('run').evaluate({})"),
    *("recipes.read_recipe({})", "predict.find_images([{}])"),
)


def prepare(folder):
    """Creates small files of every kind in a folder, without a run."""
    rng = np.random.default_rng(0)
    rows = []
    for label, level in (("black", 40), ("white", 200)):
        (folder / "images" / label).mkdir(parents=True)
        for index in range(6):
            pixels = rng.normal(level, 20, (32, 32, 3)).clip(0, 255).astype("uint8")
            name = f"images/{label}/{index}.{'jpg' if label == 'black' and index == 5 else 'png'}"
            Image.fromarray(pixels).save(folder / name)
            rows.append(f"{name},{label}")
    (folder / "images/black/5.jpg").rename(folder / "images/black/0.jpg")
    rows[5] = "images/black/0.jpg,black"
    (folder / "list.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    (folder / "token.txt").write_text("a token of a few words\n")
    (folder / "empty").mkdir()
    (folder / "dangling").symlink_to("nothing")
    (folder / "corrections.csv").write_text(
        "path,action,label\nimages/black/1.png,relabel,white\nimages/white/1.png,remove,\n"
    )
    fuzz_data.write(folder)
    _annotated(folder, rng)
    arrays = {"c1/kernel": np.ones((5, 5, 1, 6), "float32"), "c1/bias": np.ones(6, "float32")}
    np.savez(folder / "w.npz", **arrays)
    _safetensors(folder / "w.safetensors", arrays)
    with zipfile.ZipFile(folder / "w.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"c1.weight": [1.0, 2.0]}, 2))
        archive.writestr("archive/version", "3\n")


def _annotated(folder, rng):
    names = [f"{index}.png" for index in range(4)]
    for place in ("coco", "voc/JPEGImages", "voc/Annotations", "voc/ImageSets/Main", "yolo/images"):
        (folder / place).mkdir(parents=True)
    for place in ("yolo/labels", "masks/images", "masks/masks"):
        (folder / place).mkdir(parents=True)
    for index, name in enumerate(names):
        image = Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype="uint8"))
        for place in ("coco", "voc/JPEGImages", "yolo/images", "masks/images"):
            image.save(folder / place / name)
        mask = np.zeros((32, 32), "uint8")
        mask[4:20, 4:20] = 1
        Image.fromarray(mask).save(folder / "masks/masks" / name)
        (folder / f"yolo/labels/{index}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
        (folder / f"voc/Annotations/{index}.xml").write_text(
            f"<annotation><filename>{name}</filename><size><width>32</width><height>32</height>"
            "<depth>3</depth></size><object><name>cat</name><bndbox><xmin>4</xmin><ymin>4</ymin>"
            "<xmax>20</xmax><ymax>20</ymax></bndbox></object></annotation>"
        )
    (folder / "yolo/data.yaml").write_text("train: images\nval: images\nnames: [cat]\n")
    for split in ("train", "val", "test"):
        (folder / f"voc/ImageSets/Main/{split}.txt").write_text("0\n1\n2\n3\n")
    images = [
        {"id": n, "file_name": name, "width": 32, "height": 32} for n, name in enumerate(names)
    ]
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [4, 4, 16, 16], "area": 256}
        | {"segmentation": [[4, 4, 20, 4, 20, 20]], "iscrowd": 0}
        for n in range(4)
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (folder / "coco/boxes.json").write_text(json.dumps(content))
    lines = [f"images/black/{n}.png#0\ta black picture" for n in range(5)]
    (folder / "captions.txt").write_text("\n".join(lines) + "\n")


def _safetensors(path, arrays):
    header, offset = {}, 0
    for name, array in arrays.items():
        span = [offset, offset + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": span}
        offset += array.nbytes
    text = json.dumps(header).encode()
    content = b"".join(array.tobytes() for array in arrays.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)


def cases(count, seed):
    """Returns `count` cases: 60% commands, 30% damaged files and 10% calls."""
    rng = random.Random(seed)
    makers = [_command] * 6 + [_file] * 3 + [_call]
    found = {}
    while len(found) < count:
        case = rng.choice(makers)(rng)
        found.setdefault((case.kind, case.words, case.note), case)
    return [*found.values()]


def _command(rng):
    words = shlex.split(rng.choice(COMMANDS))
    for _ in range(rng.choice((1, 1, 1, 2))):
        place = rng.randrange(len(words))
        change = rng.choice(("replace", "replace", "replace", "value", "value", "drop", "twice"))
        if change == "value" and any(word.startswith("--") for word in words[:-1]):
            flags = [n for n, word in enumerate(words[:-1]) if word.startswith("--")]
            words[rng.choice(flags) + 1] = rng.choice(VALUES)
        elif change == "drop":
            words.pop(place)
        elif change == "twice":
            words.insert(place, words[place])
        else:
            words[place] = rng.choice(VALUES)
        if rng.random() < 0.4:
            words += [rng.choice(FLAGS), rng.choice(VALUES)]
    return Case("command", tuple(words), note="")


def _file(rng):
    file = rng.choice([*READERS])
    name = rng.choice([*DAMAGES])
    return Case(
        "file",
        tuple(shlex.split(rng.choice(READERS[file]))),
        (file, name, rng.random()),
        f"{file}: {name}",
    )


def _call(rng):
    return Case("call", (rng.choice(CALLS).format(rng.choice(WRONG)),))


def _flags():
    """Returns all flags of all tasks, and some of commands."""
    import tasks

    fields = {f.name for n in tasks.names() for f in dataclasses.fields(tasks.get(n))}
    more = ("recipe", "worker", "workers", "wait", "import_module", "search", "engine")
    more += ("median_stopping_epochs", "lag")
    return [f"--{name.replace('_', '-')}" for name in sorted(fields.union(more))]


def damage(folder, file, name, draw):
    """Applies one of the `DAMAGES` to a file, at an offset that `draw` in [0, 1] determines."""
    DAMAGES[name](max(folder.glob(file)), draw)


def _rewritten(change):
    def damaged(path, draw):
        content = bytearray(path.read_bytes())
        path.write_bytes(change(content, random.Random(draw)))

    return damaged


def _flipped(content, rng):
    for _ in range(8):
        if content:
            content[rng.randrange(min(len(content), DAMAGEABLE))] ^= 1 << rng.randrange(8)
    return content


def _spliced(content, rng):
    place = rng.randrange(len(content) + 1)
    return content[:place] + rng.randbytes(rng.randrange(1, 64)) + content[place:]


def _number(content, rng):
    """Replaces a digit by an unusual value."""
    places = [n for n, byte in enumerate(content) if chr(byte).isdigit()] or [0]
    place = rng.choice(places)
    value = rng.choice((b"-1", b"null", b'"x"', b"[]", b"1e999", b"NaN", b"9" * 30, b"{}"))
    return content[:place] + value + content[place + 1 :]


def _replaced(make):
    def damaged(path, draw):
        path.unlink()
        make(path)

    return damaged


DAMAGES = {
    "empty": _rewritten(lambda content, rng: b""),
    "cut": _rewritten(lambda content, rng: content[: rng.randrange(len(content) + 1)]),
    "last byte": _rewritten(lambda content, rng: content[:-1]),
    "flipped": _rewritten(_flipped),
    "spliced": _rewritten(_spliced),
    "number": _rewritten(_number),
    "zeros": _rewritten(lambda content, rng: bytes(len(content))),
    "random": _rewritten(lambda content, rng: rng.randbytes(len(content))),
    "twice": _rewritten(lambda content, rng: content * 2),
    "text": _rewritten(lambda content, rng: b"<html>log in</html>\n"),
    "bom": _rewritten(lambda content, rng: b"\xef\xbb\xbf" + bytes(content)),
    "utf-16": _rewritten(lambda content, rng: content.decode("latin-1").encode("utf-16")),
    "nul": _rewritten(lambda content, rng: bytes(content).replace(b"a", b"\0", 1)),
    "deep": _rewritten(lambda content, rng: b"[" * 100_000),
    "null": _rewritten(lambda content, rng: b"null"),
    "list": _rewritten(lambda content, rng: b"[1, 2]"),
    "number alone": _rewritten(lambda content, rng: b"5"),
    "folder": _replaced(lambda path: path.mkdir()),
    "missing": _replaced(lambda path: None),
    "itself": _replaced(lambda path: path.symlink_to(path.name)),
    "fifo": _replaced(os.mkfifo),
    "png": _replaced(lambda path: Image.new("RGB", (8, 8)).save(path, "PNG")),
}
FLAGS = _flags()
