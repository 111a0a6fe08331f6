"""One large artifact, uploaded and fetched over connections that are cut at random, and what the server's memory grows by.

Cuts are drawn with a fixed seed over the whole. The bytes come from a generator, so that nothing of that size is held
here either; what is fetched is digested as it comes.
"""

import hashlib
import http.client
import json
import os
import random
import sys
import time

SIZE = int(os.environ.get("ARTIFACT_MIB", "1024")) * 1024 * 1024
CUTS = 20
CHUNK = 256 * 1024


def chunk(number):
    """A chunk that is like no other."""
    return hashlib.sha256(number.to_bytes(8, "little")).digest() * (CHUNK // 32)


def stretch(offset, end):
    """The bytes from `offset` to `end`."""
    at = offset
    while at < end:
        inside = at % CHUNK
        piece = chunk(at // CHUNK)[inside : inside + end - at]
        yield piece
        at += len(piece)


def connect(server):
    return http.client.HTTPConnection(server.base.removeprefix("http://"), timeout=600)


def send_until_cut(server, path, offset, cut):
    """Sends all that is left, and hangs up once `cut` is reached."""
    connection = connect(server)
    try:
        connection.putrequest("PATCH", f"/api/v1{path}")
        for name, value in (
            ("Authorization", f"Bearer {server.token}"),
            ("Content-Type", "application/octet-stream"),
            ("Content-Length", str(SIZE - offset)),
            ("Upload-Offset", str(offset)),
        ):
            connection.putheader(name, value)
        connection.endheaders()
        for piece in stretch(offset, min(cut, SIZE)):
            connection.send(piece)
        if cut < SIZE:
            return
        answer = connection.getresponse()
        if answer.status not in (204, 409):
            sys.exit(f"bench: PATCH: {answer.status} {answer.read().decode()}")
    except (BrokenPipeError, ConnectionResetError):
        # It stood elsewhere and said so; ask again.
        pass
    finally:
        connection.close()


def upload(server, cuts):
    digest = hashlib.sha256()
    for piece in stretch(0, SIZE):
        digest.update(piece)
    digest = "sha256:" + digest.hexdigest()
    body = {"digest": digest, "size_bytes": SIZE, "media": "application/octet-stream"}
    path = f"/artifacts/uploads/{server.call('POST', '/artifacts/uploads', body)['id']}"
    cuts = sorted(cuts)
    while (offset := server.call("GET", path)["offset"]) < SIZE:
        while cuts and cuts[0] <= offset:
            cuts.pop(0)
        send_until_cut(server, path, offset, cuts[0] if cuts else SIZE)
    server.call("POST", f"{path}/finish", {})
    return digest


def download(server, digest, cuts):
    seen, got, cuts = hashlib.sha256(), 0, sorted(cuts)
    connections = 0
    while got < SIZE:
        connection = connect(server)
        connections += 1
        connection.request(
            "GET",
            f"/api/v1/artifacts/{digest}",
            headers={
                "Authorization": f"Bearer {server.token}",
                "Range": f"bytes={got}-",
                "If-Range": f'"{digest}"',
            },
        )
        answer = connection.getresponse()
        if answer.status != 206:
            sys.exit(f"bench: GET: {answer.status} {answer.read().decode()}")
        until = cuts.pop(0) if cuts else SIZE
        while got < until and (piece := answer.read(min(CHUNK, until - got))):
            seen.update(piece)
            got += len(piece)
        connection.close()
    if "sha256:" + seen.hexdigest() != digest:
        sys.exit("bench: what was fetched is not what was sent")
    return connections


def run(server):
    """MiB the server's memory grew by at its peak, and the seconds of both ways."""
    draw = random.Random(1)
    server.call("GET", "/health")
    time.sleep(3)
    server.forget_peak()
    before = server.memory_mb()
    began = time.perf_counter()
    digest = upload(server, [draw.randrange(SIZE) for _ in range(CUTS)])
    uploaded = time.perf_counter()
    connections = download(server, digest, [draw.randrange(SIZE) for _ in range(CUTS)])
    fetched = time.perf_counter()
    growth = server.memory_mb("VmHWM") - before
    print(json.dumps({"cuts": CUTS, "connections": connections, "before_mb": before}), file=sys.stderr)
    return growth, uploaded - began, fetched - uploaded
