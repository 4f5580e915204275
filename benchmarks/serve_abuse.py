"""What a server of `zoo serve` survives: broken images, broken connections, large uploads.

    python benchmarks/serve_abuse.py --images 10000

Starts a server of a model with random weights, then sends, one after the other: damaged images;
requests whose client is gone before the answer; bodies of which half is sent; clients that read
nothing; and an upload of 100 MB. After each, an intact image must be predicted as before. Prints
what the requests were answered, seconds, and the memory of the server, as JSON.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import io
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

ZOO = [sys.executable, "-m", "scripts"]
UPLOAD = 100 * 10**6  # bytes
PROBE_SECONDS = 60


def main():
    """Prints the figures as JSON; fails if an intact image is not predicted as before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mobilenet_025")
    parser.add_argument("--images", type=int, default=10_000, help="damaged images")
    parser.add_argument("--connections", type=int, default=200, help="of each other kind")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.keras"
        code = f"import zoo; zoo.build({args.model!r}).save({str(target)!r})"
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        words = [*ZOO, "serve", str(target), "--port", "0"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
            url = urlsplit(server.stdout.readline().strip())
            found = attack(url, server.pid, args)
            server.terminate()
            found["exit_status"] = server.wait(60)
    print(json.dumps(found, indent=2))


def attack(url, process, args):
    """Returns for each kind of request its answers, seconds, and memory in MiB."""
    intact = random_jpeg(np.random.default_rng(0))
    expected = predict(url, intact)
    found = {"before": {"memory_mib": memory(process)}}
    for kind, count in (
        (damaged_images, args.images),
        (killed_clients, args.connections),
        (half_sent_bodies, args.connections),
        (slow_readers, args.connections),
        (large_upload, 1),
    ):
        started = time.perf_counter()
        answers = kind(url, intact, count)
        found[kind.__name__] = {"requests": count, "answers": answers}
        found[kind.__name__]["seconds"] = round(time.perf_counter() - started, 1)
        if predict(url, intact) != expected:
            raise SystemExit(f"after {kind.__name__} the prediction is another")
        found[kind.__name__]["memory_mib"] = memory(process)
    return found


def damaged_images(url, intact, count):
    """Sends images with random bytes changed, cut off, or of random bytes alone."""
    random, answers = np.random.default_rng(1), collections.Counter()
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=PROBE_SECONDS)
    for number in range(count):
        body = bytearray(intact)
        for offset in random.integers(0, len(body), 20):
            body[offset] = random.integers(0, 256)
        kinds = (body, body[: random.integers(0, len(body))], random.bytes(500))
        connection.request(
            "POST", "/predict", bytes(kinds[number % 3]), {"content-type": "image/png"}
        )
        response = connection.getresponse()
        response.read()
        answers[response.status] += 1
    connection.close()
    return dict(answers)


def killed_clients(url, intact, count):
    """Sends whole requests and closes the connection before the answer."""
    for _ in range(count):
        with connect(url) as connection:
            connection.sendall(request_head(url, len(intact)) + intact)
    return "not read"


def half_sent_bodies(url, intact, count):
    """Sends half of each body and closes the connection."""
    for _ in range(count):
        with connect(url) as connection:
            connection.sendall(request_head(url, len(intact)) + intact[: len(intact) // 2])
    return "not read"


def slow_readers(url, intact, count):
    """Opens connections whose answers are not read, all at once, for a second."""
    connections = [connect(url) for _ in range(count)]
    for connection in connections:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.sendall(request_head(url, len(intact)) + intact)
    time.sleep(1)
    for connection in connections:
        connection.close()
    return "not read"


def large_upload(url, intact, count):
    """Sends 100 MB in chunks, without stating the length; returns the first line of the answer."""
    chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
    with connect(url) as connection:
        connection.sendall(request_head(url, None))
        try:
            for _ in range(UPLOAD // 2**20):
                connection.sendall(chunk)
        except OSError:  # the server has closed the connection
            pass
        try:
            return connection.recv(4096).partition(b"\r\n")[0].decode()
        except OSError as error:
            return str(error)


def connect(url):
    return socket.create_connection((url.hostname, url.port), timeout=PROBE_SECONDS)


def request_head(url, length):
    size = f"content-length: {length}" if length is not None else "transfer-encoding: chunked"
    kind = "content-type: application/octet-stream"
    return f"POST /predict HTTP/1.1\r\nhost: {url.netloc}\r\n{kind}\r\n{size}\r\n\r\n".encode()


def random_jpeg(random):
    data = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (64, 64, 3), "uint8")).save(data, "PNG")
    return data.getvalue()


def predict(url, body):
    """Returns the prediction on an image; tries again while too many images wait."""
    for _ in range(PROBE_SECONDS):
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=PROBE_SECONDS)
        connection.request("POST", "/predict?top=3", body, {"content-type": "image/png"})
        response = connection.getresponse()
        content = json.loads(response.read())
        connection.close()
        if response.status == 200:
            return [row["name"] for row in content["predictions"][0]["classes"]]
        time.sleep(1)
    raise SystemExit(f"no prediction: status {response.status}, {content}")


def memory(process):
    """Returns the resident memory of a process in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main()
