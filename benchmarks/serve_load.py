"""Load of `zoo serve`: throughput against `zoo predict`, latency, memory.

    python benchmarks/serve_load.py --clients 32 --seconds 60

Starts a server of a model (MobileNet-0.25 with random weights at 224 pixels by default), has
clients in another process send JPEGs one after the other over open connections, and compares the
images per second with those of `zoo predict` on the same files. Clients and server share the
processor.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

ZOO = [sys.executable, "-m", "scripts"]


def main():
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mobilenet_025")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--images", type=int, default=2000, help="files for zoo predict")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target, photos = Path(folder) / "model.keras", Path(folder) / "photos"
        save_model(args.model, target)
        files = write_photos(photos, args.images)
        streamed = predict_rate(target, photos, Path(folder) / "out.csv", len(files))
        bodies = [path.read_bytes() for path in files[:64]]
        found = served_rate(target, bodies, args.clients, args.seconds)
    found |= {"predict_images_per_second": streamed}
    found |= {"share_of_predict": round(found["images_per_second"] / streamed, 3)}
    print(json.dumps(found, indent=2))


def save_model(name, path):
    """Saves a model of the zoo; in a process of its own, to keep this one small."""
    code = f"import zoo; zoo.build({name!r}).save({str(path)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def write_photos(folder, count):
    """Writes JPEGs of 256 x 256 smooth random pixels; returns their paths."""
    folder.mkdir()
    random = np.random.default_rng(0)
    paths = [folder / f"{number:05}.jpg" for number in range(count)]
    for path in paths:
        small = Image.fromarray(random.integers(0, 256, (16, 16, 3), "uint8"))
        small.resize((256, 256), Image.Resampling.BICUBIC).save(path, quality=90)
    return paths


def predict_rate(target, photos, out, count):
    """Returns the images per second that `zoo predict` prints, without its start."""
    words = ["predict", str(target), str(photos), "--output", str(out)]
    done = subprocess.run([*ZOO, *words], capture_output=True, text=True, check=True)
    line = next(line for line in done.stderr.splitlines() if "images/s" in line)
    assert f"{count:,} images" in line
    return float(line.rpartition(", ")[2].removesuffix(" images/s").replace(",", ""))


def served_rate(target, bodies, clients, seconds):
    """Returns the figures of a server under load."""
    words = ["serve", str(target), "--port", "0"]
    with subprocess.Popen([*ZOO, *words], stdout=subprocess.PIPE, text=True) as server:
        url = urlsplit(server.stdout.readline().strip())
        load(url, bodies, clients, min(5.0, seconds))  # warm-up
        before = memory(server.pid)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            times, errors, took = pool.apply(load, (url, bodies, clients, seconds))
        after = memory(server.pid)
        server.terminate()
        assert server.wait(60) == 0
    milliseconds = np.percentile(np.array(times) * 1000, [50, 90, 99]).round(1).tolist()
    return {
        "images_per_second": round(len(times) / took, 1),
        "errors": errors,
        "milliseconds_p50_p90_p99": milliseconds,
        "memory_mib_before_after": [before, after],
    }


def memory(process):
    """Returns the resident memory of a process in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


def load(url, bodies, clients, seconds):
    """Returns the seconds of each request, the number of errors, and the seconds of all."""
    return asyncio.run(_load(url, bodies, clients, seconds))


async def _load(url, bodies, clients, seconds):
    started = time.perf_counter()
    until = started + seconds
    found = await asyncio.gather(*(_client(url, bodies, n, until) for n in range(clients)))
    times = [each for some, _ in found for each in some]
    return times, sum(errors for _, errors in found), time.perf_counter() - started


async def _client(url, bodies, number, until):
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    times, errors = [], 0
    while (began := time.perf_counter()) < until:
        body = bodies[number % len(bodies)]
        number += 1
        head = f"POST /predict?top=1 HTTP/1.1\r\nhost: {url.netloc}\r\ncontent-type: image/jpeg\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in answer.lower().splitlines()[1:-1])
        await reader.readexactly(int(fields[b"content-length"]))
        errors += answer.split()[1] != b"200"
        times.append(time.perf_counter() - began)
    writer.close()
    return times, errors


if __name__ == "__main__":
    main()
