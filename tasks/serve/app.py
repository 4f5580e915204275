"""The web application: predictions, health, metrics and the page."""

from __future__ import annotations

import asyncio
import functools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

import zoo
from tasks.data import image_io
from tasks.serve import request_images
from tasks.serve.batcher import QueueFullError
from tasks.serve.limits import Limits
from tasks.serve.request_images import BadRequest
from tasks.serve.served_generator import SampleRequest, ServedGenerator
from tasks.serve.served_model import MAX_TOP, RequestOptions
from tasks.web import page

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)  # of histogram buckets
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
DECODERS = 4  # threads that decode images
BODIES = {  # of the API's description
    "image/*": {"schema": {"type": "string", "format": "binary"}},
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {
                "file": {"type": "string", "format": "binary"},
                "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
            },
        }
    },
    "application/json": {
        "schema": {
            "type": "object",
            "properties": {
                "image": {"type": "string", "format": "byte"},
                "images": {"type": "array", "items": {"type": "string", "format": "byte"}},
            },
        }
    },
}
PREDICT_DOCS = {"openapi_extra": {"requestBody": {"content": BODIES, "required": True}}}


@dataclass(frozen=True)
class ServerLimits:
    """Limits of a server.

    Attributes:
        max_bytes: The largest body of a request.
        max_pixels: The largest number of pixels of an image.
        body_timeout: Seconds in which the body of a request must arrive.
        predict_timeout: Seconds in which a prediction must be made.
    """

    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    body_timeout: float = 30.0
    predict_timeout: float = 60.0


class Statistics:
    """Counters and histograms in the format of Prometheus."""

    def __init__(self):
        disable_created_metrics()
        self.registry = CollectorRegistry()
        make = functools.partial(dict, registry=self.registry)
        self.requests = Counter("zoo_requests", "requests by status", ("path", "status"), **make())
        self.images = Counter("zoo_images", "images predicted", ("model",), **make())
        self.seconds = Histogram(
            "zoo_request_seconds", "duration of a request", buckets=SECONDS, **make()
        )
        self.batches = Histogram(
            "zoo_batch_size", "images per batch", ("model",), buckets=SIZES, **make()
        )
        self.waiting = Gauge("zoo_queue_images", "images that wait", ("model",), **make())


def create_app(models: dict, statistics: Statistics, limits: ServerLimits, token=None) -> FastAPI:
    """Returns the application.

    Args:
        models: `served_model.ServedModel` by name; the first is the default.
        statistics: What `/metrics` returns.
        limits: The limits of requests.
        token: The token that requests must carry, or `None`.
    """
    app = FastAPI(title="keras-zoo", version=zoo.__version__, docs_url=None, redoc_url=None)
    _add_pages(app)
    _add_descriptions(app, models, statistics)

    async def respond(path, answer):
        started = time.perf_counter()
        status, content = await _with_status(answer, limits)
        statistics.requests.labels(path, status).inc()
        statistics.seconds.observe(time.perf_counter() - started)
        headers = {"retry-after": "1"} if status == 429 else None
        return JSONResponse(content, status, headers)

    _add_predictions(app, models, statistics, limits, respond)
    _add_samples(app, models, limits, respond)
    app.add_middleware(Limits, max_bytes=limits.max_bytes, timeout=limits.body_timeout, token=token)
    return app


def _add_predictions(app, models, statistics, limits, respond):
    pool = ThreadPoolExecutor(DECODERS, "decode")

    @app.post("/predict", **PREDICT_DOCS)
    async def predict_images(
        request: Request,
        model: str = next(iter(models)),
        top: int = RequestOptions.top,
        draw: bool = False,
        explain: bool = False,
    ):
        """Predicts on one or several images.

        The body is an image, a form with the field `file` or `files`, or JSON with `image` or
        `images`, base64 or data URLs. Returns `predictions`, one per image, in order.
        """
        options = RequestOptions(top, draw, explain)
        answer = _predict(request, models, model, options, limits, pool, statistics)
        return await respond("/predict", answer)


def _add_samples(app, models, limits, respond):
    @app.post("/generate")
    async def generate_images(
        model: str = next(iter(models)),
        first: int = SampleRequest.first,
        second: int = SampleRequest.second,
        label: int = SampleRequest.label,
        steps: int = SampleRequest.steps,
    ):
        """Generates images on the way from the sample of the seed `first` to that of `second`.

        `label` is the index of the class, of a class-conditional generator. Returns `images`,
        data URLs.
        """
        request = SampleRequest(first, second, label, steps)
        return await respond("/generate", _generate(models, model, request, limits))


def _add_pages(app):
    """Adds the page to try the models, and that of the API."""

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    def show(request: Request):
        if request.url.path == "/":
            return page.served()
        return (resources.files("tasks.serve") / "api.html").read_text(encoding="utf-8")


def _add_descriptions(app, models, statistics):
    """Adds what is known without predicting: health, models, metrics."""

    @app.get("/health")
    def health():
        """Returns `{"status": "ok"}` as soon as predictions can be made."""
        return {"status": "ok", "models": list(models)}

    @app.get("/models")
    def describe():
        """Returns the models, the default one first."""
        return [model.describe() for model in models.values()]

    @app.get("/metrics")
    def metrics():
        """Returns counters and histograms in the format of Prometheus."""
        for name, model in models.items():
            statistics.waiting.labels(name).set(model.batcher.waiting)
        return Response(generate_latest(statistics.registry), media_type=CONTENT_TYPE_LATEST)


async def _with_status(answer, limits):
    """Returns the status and the JSON content of the response that a coroutine makes."""
    try:
        return await answer
    except (BadRequest, MultiPartException) as error:
        return 400, {"error": str(error)}
    except ClientDisconnect:
        return 499, {"error": "the client is gone"}
    except QueueFullError:
        return 429, {"error": "too many images wait; try again"}
    except TimeoutError:
        return 503, {"error": f"no prediction within {limits.predict_timeout:g} seconds"}


async def _predict(request, models, name, options, limits, pool, statistics):
    if name not in models:
        return 404, {"error": f"no model {name!r:.100}; there are: {', '.join(models)}"}
    if isinstance(models[name], ServedGenerator):
        return 422, {"error": f"{name} generates images; send a request to /generate"}
    if not 1 <= options.top <= MAX_TOP:
        return 422, {"error": f"top must be from 1 to {MAX_TOP}, not {options.top}"}
    model, loop = models[name], asyncio.get_running_loop()
    images = await request_images.read_images(request)
    decoded = await asyncio.gather(
        *(
            loop.run_in_executor(pool, _decode, model, content, limits.max_pixels)
            for _, content in images
        )
    )
    found = await _compute(model, [x for x in decoded if not isinstance(x, str)], options, limits)
    statistics.images.labels(name).inc(len(found))
    rest = iter(found)
    predictions = [
        {"name": label, **({"error": x} if isinstance(x, str) else next(rest))}
        for (label, _), x in zip(images, decoded, strict=True)
    ]
    status = 422 if not found else 200
    return status, {"model": name, "predictions": predictions}


async def _generate(models, name, sample, limits):
    if name not in models:
        return 404, {"error": f"no model {name!r:.100}; there are: {', '.join(models)}"}
    if not isinstance(models[name], ServedGenerator):
        return 422, {"error": f"{name} takes images; send a request to /predict"}
    if reason := models[name].check(sample):
        return 422, {"error": reason}
    (images,) = await _compute(models[name], [sample], None, limits)
    return 200, {"model": name, "images": images}


async def _compute(model, items, options, limits):
    """Returns the results of items from the batches of a model."""
    futures = model.batcher.submit(items, options)
    try:
        async with asyncio.timeout(limits.predict_timeout):
            return await asyncio.gather(*map(asyncio.wrap_future, futures))
    finally:
        for future in futures:
            future.cancel()


def _decode(model, content, max_pixels):
    """Returns the decoded image, or the reason why it cannot be read."""
    try:
        return model.decode(content, max_pixels)
    except image_io.UnreadableImage as error:
        return error.reason
