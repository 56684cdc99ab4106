"""A real S3 server (moto's) on the loopback, and what fails between it and who asks.

Requests pass a relay, which tests let answer in the place of the server: overloaded, broken off,
or not at all.
"""

from __future__ import annotations

import http.client
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from pipeline.runtime import retries

BUCKET = "bucket"
SECRET = "a-secret-key"  # noqa: S105  # of a server that ends with the test
URL = f"s3://{BUCKET}/raw data"
_SERVER = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])"
Fault = Callable[["Relayed"], None]


class Relayed(http.server.BaseHTTPRequestHandler):
    """A request: handed on, unless a fault of :class:`Server` comes first."""

    protocol_version = "HTTP/1.1"
    server: _Relay

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):
            super().handle_one_request()

    def relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        its = self.server.of
        its.asked.append((self.command, self.path))
        fault = its.next_fault(self.path)
        if fault is not None:
            fault(self)
            return
        status, headers, content = self.answer(body)
        self.reply(status, headers, content)

    def answer(self, body: bytes = b"") -> tuple[int, Mapping[str, str], bytes]:
        """What the real server says."""
        to = http.client.HTTPConnection("127.0.0.1", self.server.of.behind)
        to.request(self.command, self.path, body, dict(self.headers))
        answer = to.getresponse()
        content = answer.read()
        headers = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() not in ("connection", "transfer-encoding")
        }
        return answer.status, headers, content

    def reply(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = relay  # noqa: N815  # as the library has it

    def log_message(self, *_: object) -> None:
        pass


def overloaded(request: Relayed) -> None:
    """S3's "503 Slow Down"."""
    text = (
        b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    )
    request.reply(503, {"Content-Type": "application/xml"}, text)


def unavailable(request: Relayed) -> None:
    """A server behind a gateway that does not work."""
    request.reply(502, {}, b"<html>Bad Gateway</html>")


def dropped(request: Relayed) -> None:
    """No answer: the connection ends."""
    request.close_connection = True
    request.connection.shutdown(socket.SHUT_RDWR)


def cut(request: Relayed) -> None:
    """Half an answer, then the connection ends."""
    status, _, content = request.answer()
    request.send_response_only(status)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content[: len(content) // 2])
    request.wfile.flush()
    dropped(request)


class _Relay(http.server.ThreadingHTTPServer):
    daemon_threads = True
    of: Server


@dataclass
class Server:
    """The server as clients see it: its address, what was asked, and what comes in its place."""

    behind: int
    address: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    """For the next requests, one each."""
    always: Fault | None = None
    about: str = ""
    """What the address of a request has in it that a fault is for."""
    _lock: Any = field(default_factory=threading.Lock)

    def next_fault(self, path: str) -> Fault | None:
        with self._lock:
            if self.about not in path:
                return None
            return self.faults.pop(0) if self.faults else self.always

    @property
    def environment(self) -> dict[str, str]:
        """What a user would set for this server."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "a-key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """Of the server itself, past the relay and its faults."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.behind}",
            aws_access_key_id="a-key",
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def put(self, folder: Path, prefix: str = "raw data") -> None:
        """Every file of a folder, below ``prefix`` in the bucket."""
        client = self.client()
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                key = f"{prefix}/{file.relative_to(folder).as_posix()}"
                client.put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes())

    def reset(self) -> None:
        """An empty bucket, and a server that works."""
        self.faults, self.always, self.about = [], None, ""
        _post(self.behind, "reset-auth", b"inf")
        _post(self.behind, "reset")
        self.client().create_bucket(Bucket=BUCKET)
        self.asked.clear()

    def require_known_keys(self) -> None:
        """Refuse every key that IAM has not given, as AWS does."""
        _post(self.behind, "reset-auth", b"0")


@contextmanager
def server(place: Path) -> Iterator[Server]:
    """The server, with its log in ``place``; it is gone after the block."""
    log = place / "moto.log"
    with log.open("wb") as out:
        real = subprocess.Popen([sys.executable, "-c", _SERVER], stdout=out, stderr=out)
    try:
        its = Server(_port(log, real))
        with _Relay(("127.0.0.1", 0), Relayed) as relay:
            relay.of = its
            its.address = f"http://127.0.0.1:{relay.server_address[1]}"
            threading.Thread(target=relay.serve_forever, daemon=True).start()
            yield its
            relay.shutdown()
    finally:
        real.kill()
        real.wait(30)


def use(its: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test's requests go to this server, with an empty bucket; failed ones soon again."""
    its.reset()
    for name in [one for one in os.environ if one.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in its.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(retries, "PAUSES_S", (0.01,) * len(retries.PAUSES_S))
    forget_connections()


def forget_connections() -> None:
    """Let fsspec open its file systems anew, with the environment of now."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()


def _port(log: Path, real: subprocess.Popen[bytes]) -> int:
    for _ in range(600):
        for line in log.read_text("utf-8").splitlines():
            if "Running on http" in line:
                return int(line.rpartition(":")[2].strip("/ "))
        assert real.poll() is None, log.read_text("utf-8")
        time.sleep(0.1)
    raise AssertionError("the S3 server does not start")


def _post(port: int, what: str, data: bytes = b"") -> None:
    address = f"http://127.0.0.1:{port}/moto-api/{what}"
    plain = {"Content-Type": "text/plain"}
    with urlopen(Request(address, data, plain, method="POST")) as answer:
        assert answer.status == 200
