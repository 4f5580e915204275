"""Serves models over HTTP, with a page to try them: zoo serve runs/NAME.

MODEL is a run folder, a .keras file, or a pretrained model such as resnet50.imagenet. The server
listens on this machine only, unless --host names another address:

    zoo serve runs/NAME --port 8000
    curl -F file=@photo.jpg http://127.0.0.1:8000/predict

Images that arrive at the same time are predicted as one batch.
"""

from __future__ import annotations

import sys

from zoo.errors import UsageError

MEBIBYTE = 2**20


def arguments(parser, words):
    """Adds the options of this command."""
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="run folder, .keras file or pretrained model"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="port; 0 for a free one (default: 8000)"
    )
    parser.add_argument(
        "--runtime",
        default="auto",
        metavar="NAME",
        help="keras, openvino, litert, onnx, or auto for the fastest (default: auto)",
    )
    parser.add_argument(
        "--precision",
        default="float32",
        metavar="NAME",
        help="float32 or bfloat16 (default: float32)",
    )
    _add_limits(parser)
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="file with a token that requests must send as `Authorization: Bearer TOKEN`",
    )


def run(args):
    """Serves the models until it is interrupted."""
    from tasks.deploy import model_loader
    from tasks.serve import server

    _check(args)
    for target in args.models:  # before anything is loaded, which takes seconds
        model_loader.find_model(target)
    server.check_packages()
    token = server.read_token(args.token_file)
    listening = server.bind(args.host, args.port)
    with listening:
        host, port = listening.getsockname()[:2]
        limits = server.app_module.ServerLimits(
            max_bytes=args.max_megabytes * MEBIBYTE, max_pixels=args.max_megapixels * 10**6
        )

        def ready(models):
            for name, model in models.items():
                about = model.describe()
                print(f"{name}: {about['preprocessing']}; {about['runtime']}", file=sys.stderr)
            shown = f"[{host}]" if ":" in host else host
            print(f"http://{shown}:{port}", flush=True)

        server.serve(
            args.models,
            listening,
            runtime=args.runtime,
            precision=args.precision,
            max_wait=args.max_wait_ms / 1000,
            queue_size=args.queue,
            limits=limits,
            token=token,
            ready=ready,
        )


def _add_limits(parser):
    """Adds the options that bound waiting and size."""
    parser.add_argument(
        "--max-wait-ms",
        type=float,
        default=2.0,
        metavar="X",
        help="maximum time to wait for a batch to fill, in milliseconds (default: 2)",
    )
    parser.add_argument(
        "--queue",
        type=int,
        default=256,
        metavar="N",
        help="maximum waiting images per model; further requests get status 429 (default: 256)",
    )
    parser.add_argument(
        "--max-megabytes",
        type=int,
        default=32,
        metavar="N",
        help="maximum size of a request (default: 32)",
    )
    parser.add_argument(
        "--max-megapixels",
        type=int,
        default=50,
        metavar="N",
        help="maximum size of an image (default: 50)",
    )


def _check(args):
    for name, low, high in (
        ("port", 0, 65_535),
        ("max_wait_ms", 0, 10_000),
        ("queue", 1, 1_000_000),
        ("max_megabytes", 1, 4_096),
        ("max_megapixels", 1, 10_000),
    ):
        value = getattr(args, name)
        if not low <= value <= high:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} must be a number from {low} to {high}, not {value:g}")
