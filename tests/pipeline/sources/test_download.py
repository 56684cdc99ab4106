"""A published file arrives whole, with the stated digests, over https; a stop costs little."""

from __future__ import annotations

import hashlib
import http.server
import io
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import requests

from datasets_spec.contract import RemoteFile
from pipeline.sources import download
from tests.conftest import Refused

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256, MD5 = (hashlib.new(kind, CONTENT).hexdigest() for kind in ("sha256", "md5"))


@dataclass
class Site:
    """What a server on the loopback does, and what it was asked."""

    address: str = ""
    ranges: bool = True
    drop_after: int = 0
    """Bytes after which the connection is cut; 0: never."""
    redirect: str = ""
    asked: list[str] = field(default_factory=list)
    """The Range header of each request."""

    def file(self, digest: str = f"sha256:{SHA256}") -> RemoteFile:
        return RemoteFile(f"{self.address}/scans.tar", digest, unpack=True)


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            state.asked.append(asked)
            begin = int(asked.removeprefix("bytes=").rstrip("-") or 0) if state.ranges else 0
            if state.redirect:
                self.send_response(302)
                self.send_header("Location", state.redirect)
            elif begin and begin >= len(CONTENT):
                self.send_response(416)
            elif begin:
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{len(CONTENT) - 1}/*")
            else:
                self.send_response(200)
            body = b"" if state.redirect or begin >= len(CONTENT) else CONTENT[begin:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if state.drop_after:
                self.wfile.write(body[: state.drop_after])
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        state.address = f"http://127.0.0.1:{server.server_port}"
        yield state
        server.shutdown()


@pytest.mark.parametrize("digest", [f"sha256:{SHA256}", f"md5:{MD5}", f"md5:{MD5} sha256:{SHA256}"])
def test_a_file_arrives_and_its_sha256_is_recorded(site: Site, tmp_path: Path, digest: str) -> None:
    target = tmp_path / "downloads" / "scans.tar"
    assert download.download(site.file(digest), target) == SHA256
    assert target.read_bytes() == CONTENT
    record = target.with_name("scans.tar.sha256")
    assert record.read_text() == f"{SHA256}  scans.tar\n"
    assert sorted(file.name for file in target.parent.iterdir()) == [target.name, record.name]


def test_what_is_there_is_not_asked_for(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "scans.tar"
    target.write_bytes(CONTENT)
    assert download.download(site.file(), target) == SHA256
    assert site.asked == []


def test_a_file_of_another_version_is_replaced(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "scans.tar"
    target.write_bytes(b"an older version")
    download.download(site.file(), target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "digest",
    [
        f"sha256:{'0' * 64}",
        f"md5:{'0' * 32}",
        f"md5:{MD5} sha256:{'0' * 64}",
        f"sha256:{SHA256} md5:{'0' * 32}",
    ],
)
def test_every_stated_digest_is_checked(
    site: Site, tmp_path: Path, refused: Refused, digest: str
) -> None:
    problem = str(refused(lambda: download.download(site.file(digest), tmp_path / "scans.tar")))
    assert site.address in problem
    assert "0000" in problem
    assert MD5 in problem or SHA256 in problem
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_resumed_or_begun_anew(
    site: Site, tmp_path: Path, refused: Refused, ranges: bool
) -> None:
    target = tmp_path / "scans.tar"
    site.drop_after, site.ranges = 2_500_000, ranges
    problem = str(refused(lambda: download.download(site.file(), target)))
    assert "expected a download, got" in problem
    assert "resumes" in problem
    assert not target.exists()
    site.drop_after = 0
    assert download.download(site.file(), target) == SHA256
    assert target.read_bytes() == CONTENT
    begin = int(site.asked[-1].removeprefix("bytes=").rstrip("-"))
    assert 0 < begin <= 2_500_000


@pytest.mark.parametrize(
    "left", [CONTENT, CONTENT + b"more", b"another file" * 300_000], ids=["whole", "more", "other"]
)
def test_whatever_a_stopped_run_left_the_file_is_right(
    site: Site, tmp_path: Path, left: bytes
) -> None:
    (tmp_path / ".unfinished-scans.tar").write_bytes(left)
    download.download(site.file(), tmp_path / "scans.tar")
    assert (tmp_path / "scans.tar").read_bytes() == CONTENT


def test_a_wrong_beginning_is_removed_so_that_the_next_run_succeeds(
    site: Site, tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / ".unfinished-scans.tar").write_bytes(b"of another version")
    refused(lambda: download.download(site.file(), tmp_path / "scans.tar"))
    download.download(site.file(), tmp_path / "scans.tar")
    assert (tmp_path / "scans.tar").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "target", ["http://example.org/scans.tar", "file:///etc/passwd", "ftp://a/b"]
)
def test_a_redirect_away_from_https_is_not_followed(
    site: Site, tmp_path: Path, refused: Refused, target: str
) -> None:
    site.redirect = target
    problem = str(refused(lambda: download.download(site.file(), tmp_path / "scans.tar")))
    assert f"got one to {target}" in problem
    assert len(site.asked) == 1


def test_https_is_not_redirected_to_this_machine(refused: Refused) -> None:
    answer = requests.Response()
    answer.raw = io.BytesIO()
    answer.status_code, answer.url = 302, "https://example.org/scans.tar"
    answer.headers["Location"] = "http://127.0.0.1:1/"
    assert "a redirect to https" in str(refused(lambda: download._judge_redirect(answer)))
    answer.headers["Location"] = "/elsewhere/scans.tar"
    download._judge_redirect(answer)


def test_no_server_and_no_file_are_reported_in_a_line(
    site: Site, tmp_path: Path, refused: Refused
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    file = RemoteFile(f"http://127.0.0.1:{port}/scans.tar", f"sha256:{SHA256}")
    problem = str(refused(lambda: download.download(file, tmp_path / "scans.tar")))
    assert "Connection refused" in problem
    assert str(tmp_path / "scans.tar") in problem
    assert "object at 0x" not in problem


def test_a_disk_that_is_too_small_is_reported_before_the_download(
    site: Site, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = download.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    problem = str(refused(lambda: download.download(site.file(), tmp_path / "scans.tar")))
    assert "room for 3,000,000 bytes, got a disk with 1,000 free" in problem
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_disk_that_fills_up_is_reported_by_the_file(
    tmp_path: Path, site: Site, refused: Refused
) -> None:
    target = tmp_path / "no" / "scans.tar"
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / ".unfinished-scans.tar").symlink_to("/dev/full")
    problem = str(refused(lambda: download.download(site.file(), target)))
    assert "No space left on device" in problem
    assert "unfinished-scans.tar" in problem
