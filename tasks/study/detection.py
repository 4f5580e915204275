"""Detection: how often a network runs per image, from sliding windows to anchors."""

import time

import zoo
from tasks.data import shapes
from tasks.detection.box_annotations import iou
from tasks.detection.selective_search import search_image
from tasks.study import Claim, Findings, pictures, study
from tasks.study.training import progress
from zoo.flops import count_params_and_flops
from zoo.lazy import np
from zoo.parts.boxes import generate_anchors

SIDE, CROP = 128, 32  # pixels: of an image, and of a region that R-CNN warps
WINDOWS = (16, 32, 64)  # sides in pixels
RATIOS = (0.5, 1, 2)  # height over width
LEVELS = range(2, 7)  # of the feature pyramid of Faster R-CNN


def windows(stride):
    """Returns all windows of three sizes and shapes that lie in an image, `(count, 4)`."""
    cells = SIDE // stride
    found = generate_anchors([WINDOWS], [stride], RATIOS, [(cells, cells)])
    return found[(found.min(1) >= 0) & (found.max(1) <= SIDE)]


def recall(boxes, scenes):
    """Returns the share of objects that a candidate box overlaps by half or more."""
    found = [iou(scene.boxes, own).max(1) >= 0.5 for scene, own in zip(scenes, boxes, strict=True)]
    return float(np.concatenate(found).mean())


def milliseconds(model, scenes, boxes, repeats):
    """Returns the median time of a model for one image, with candidate boxes if it takes any."""
    times = []
    for index in range(-2, repeats):
        image = scenes[index % len(scenes)].image[None].astype("float32")
        inputs = image
        if boxes:  # the first two calls compile, the second one for any number of boxes
            own = boxes[index % len(boxes)][None]
            inputs = {"image": image, "proposals": own[:, :-index] if index < 0 else own}
        start = time.perf_counter()
        model.predict_on_batch(inputs)
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[2:]))


def draw_boxes(image, boxes):
    """Returns a picture of boxes on an image."""
    drawn, axes = pictures.figure(width=4, height=4)
    axes.imshow(image)
    for x0, y0, x1, y1 in boxes:
        axes.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color="white", linewidth=0.8)
    axes.set(xlim=(0, SIDE), ylim=(SIDE, 0))
    axes.axis("off")
    return pictures.svg(drawn)


def backbone_flops(name, side):
    """Returns the FLOPs of a backbone for one image."""
    return count_params_and_flops(zoo.backbone(name, input_shape=(side, side, 3)))[1]


@study(27, "How did detection get by with ever fewer runs of the network?")
def run(
    seed: int = 0, images: int = 20, stride: int = 8, repeats: int = 3, backbone: str = "resnet20"
):
    """A classifier of crops becomes a detector when it looks at all windows of an image. R-CNN only
    looks at regions that selective search proposes; Fast R-CNN runs the backbone once and pools
    each region from its maps; Faster R-CNN replaces the search by anchors, which it classifies on
    the same maps. The networks have random weights, on which their cost does not depend."""
    indices = np.random.default_rng(seed).choice(shapes.SPLITS["test"], images, replace=False)
    scenes = [shapes.draw("test", int(i), image_size=SIDE) for i in indices]
    start = time.perf_counter()
    searched = [search_image(scene.image) for scene in progress(scenes, "selective search")]
    search = 1000 * (time.perf_counter() - start) / images
    grid = windows(stride)
    crop, whole = (backbone_flops(backbone, side) for side in (CROP, SIDE))
    options = {"input_shape": (SIDE, SIDE, 3), "num_classes": 6, "backbone": backbone}
    nets = {name: zoo.build(name, proposals=None, **options) for name in ("rcnn", "fast_rcnn")}
    nets["faster_rcnn"] = zoo.build("faster_rcnn", **options)
    anchors = generate_anchors([[4 * 2**n] for n in LEVELS], [2**n for n in LEVELS], RATIOS,
                               [(SIDE >> n, SIDE >> n) for n in LEVELS])  # fmt: skip
    regions = float(np.mean([len(boxes) for boxes in searched]))
    rows = {  # recall, runs of the backbone, its FLOPs, milliseconds
        "sliding windows": (recall([grid] * images, scenes), len(grid), len(grid) * crop,
                            milliseconds(nets["rcnn"], scenes, [grid] * images, 1)),
        "R-CNN": (recall(searched, scenes), regions, regions * crop,
                  search + milliseconds(nets["rcnn"], scenes, searched, repeats)),
        "Fast R-CNN": (recall(searched, scenes), 1, whole,
                       search + milliseconds(nets["fast_rcnn"], scenes, searched, repeats)),
        "Faster R-CNN": (recall([anchors] * images, scenes), 1, whole,
                         milliseconds(nets["faster_rcnn"], scenes, None, repeats)),
    }  # fmt: skip
    titles = ("runs of the backbone", "FLOPs of the backbone", "milliseconds per image")
    bars = [pictures.bars({name: row[column] for name, row in rows.items()}, xscale="log",
                          title=title) for column, title in enumerate(titles, 1)]  # fmt: skip
    boxes = {"windows": grid[:: max(1, len(grid) // 60)], "selective search": searched[0],
             "anchors": anchors[:: len(anchors) // 60], "objects": scenes[0].boxes}  # fmt: skip
    shown = {name: draw_boxes(scenes[0].image, found) for name, found in boxes.items()}
    share = {name: row[0] for name, row in rows.items()}
    return Findings(
        claims=[
            Claim("Selective search needs half of the windows or fewer, and misses at most a "
                  "tenth more of the objects.",
                  regions < len(grid) / 2 and share["R-CNN"] > share["sliding windows"] - 0.1,
                  f"{regions:.0f} regions with recall {share['R-CNN']:.2f}; {len(grid)} windows "
                  f"with {share['sliding windows']:.2f}"),
            Claim("Shared maps make the backbone's FLOPs a half or less.",
                  whole < regions * crop / 2,
                  f"{whole / 1e9:.1f} against {regions * crop / 1e9:.1f} billion"),
            Claim("Anchors cover four of five objects or more before any is moved.",
                  share["Faster R-CNN"] > 0.8,
                  f"{share['Faster R-CNN']:.2f} by {len(anchors)} anchors"),
        ],
        pictures=[
            ("Cost", pictures.panels(bars), "Milliseconds include selective search; they depend on "
             "the machine and its load, so no claim is made about them."),
            ("Boxes", pictures.slider(shown, "boxes"), "Candidates of one image, and its objects."),
        ],
        next_steps=["--stride 16: fewer windows; how many objects are missed?",
                    "zoo train detection --model faster_rcnn: trained on the same images"],
        references=["Girshick et al., 2014 (R-CNN); Girshick, 2015 (Fast R-CNN)",
                    "Ren et al., 2015 (Faster R-CNN); Uijlings et al., 2013 (selective search)",
                    "zoo/models/rcnn.py"],
    )  # fmt: skip
