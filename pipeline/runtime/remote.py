"""Files behind a URL (S3, GCS, Azure, SSH, ...): listed, and read in blocks, with retry.

fsspec opens them; its libraries find credentials in the places of their own (environment
variables, their configuration files), and nothing here takes, keeps or shows any.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from datasets_spec.contract import Problem, printable
from pipeline.runtime import extras, retries

R = TypeVar("R")
BLOCK = 1 << 23
"""Bytes that one request asks for: what is lost by a failure, and held in memory by a reader."""
_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "mtime", "LastModified", "last_modified")
_OURS: Mapping[str, Mapping[str, Any]] = {
    "s3": {"config_kwargs": {"retries": {"total_max_attempts": 1}}},
    "ssh": {"known_hosts": ()},
}
"""Options by extra: botocore's own retries would multiply ours, to a hundred requests; and hosts
are those that ssh knows (asyncssh's default, which sshfs lets be every host)."""
_LONGEST = 200  # characters of a library's reason
_HOW = "docs/how-to/remote-data.md shows where each service's library looks for them."


class Entry(NamedTuple):
    """A file below a URL: its path there, and what changes when its content does.

    ``version`` is the service's own (an ETag, a generation), or else the time of the last change;
    "" where nothing is known.
    """

    path: str
    size: int
    version: str


@dataclass
class Remote:
    """A folder behind a URL: ``root`` in the file system of fsspec's that is ``system``."""

    url: str
    system: Any
    root: str
    options: Mapping[str, Any]
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def is_ssh(self) -> bool:
        """Whether it is one connection that everything passes, which does not come back itself."""
        return _extra(self.url) == "ssh"

    def entries(self) -> list[Entry]:
        """Every file below the folder, sorted by path.

        Raises :class:`Problem` where there is none, or the service does not answer.
        """

        def found(system: Any) -> Mapping[str, Mapping[str, Any]]:
            system.invalidate_cache()
            below: Mapping[str, Mapping[str, Any]] = system.find(self.root, detail=True)
            system.invalidate_cache()  # what is asked later is asked anew
            return below

        try:
            infos = self._asked(found, self.url)
        except FileNotFoundError:
            infos = {}
        start = f"{self.root.rstrip('/')}/"
        files = [
            (name.removeprefix(start), info)
            for name, info in infos.items()
            if name.startswith(start) and not name.endswith("/") and info["type"] == "file"
        ]
        if not files:
            raise Problem(
                "expected a folder with files, found none",
                where=self.url,
                remedy="Is the address right, and spelled as the service spells it?",
            )
        return sorted(
            Entry(name, _size(info, self.of(name)), _version(info)) for name, info in files
        )

    def blocks(self, path: str, size: int) -> Iterator[bytes]:
        """The content of a file of ``size`` bytes, in blocks of at most :data:`BLOCK`.

        A request that fails is made again, for the block alone. Raises :class:`Problem` for a file
        that is gone or has another size, and where the service does not answer.
        """
        at = 0
        if not size:
            self._require_size(path, size)
        while at < size:
            # one byte more than there should be, at the end: a file that has grown is noticed
            end = at + BLOCK if at + BLOCK < size else size + 1
            block = self._block(path, at, end, size)
            yield block
            at += len(block)

    def part(self, path: str, offset: int, size: int) -> bytes:
        """``size`` bytes of a file from ``offset`` on, or as many as there are.

        Raises :class:`Problem` where the service does not answer, and FileNotFoundError.
        """

        def read(system: Any) -> bytes:
            return self._range(system, f"{self.root}/{path}", offset, offset + size)

        return self._asked(read, self.of(path)) if size else b""

    def size(self, path: str) -> int | None:
        """The bytes of a file; None where there is none.

        Raises :class:`Problem` where the service does not answer.
        """

        try:
            return self._asked(self._size_of(path), self.of(path))
        except FileNotFoundError:
            return None

    def put(self, file: Path, path: str) -> None:
        """Let a file of this machine be that at ``path``, completely or not at all.

        Raises :class:`Problem` where the service refuses it or does not answer.
        """
        there = f"{self.root}/{path}"
        folder, _, name = there.rpartition("/")
        # an object store shows an object once it has all of it; in a folder, a name is given last
        beside = there if self._stores_objects else f"{folder}/.unfinished-{name}"

        def sent(system: Any) -> None:
            system.makedirs(folder, exist_ok=True)
            system.put_file(str(file), beside)
            if beside != there:
                system.mv(beside, there)
            system.invalidate_cache()

        self._asked(sent, self.of(path))

    @property
    def _stores_objects(self) -> bool:
        return _extra(self.url) in ("s3", "gcs", "azure")

    def of(self, path: str) -> str:
        """The URL of a file."""
        return f"{self.url}/{path}"

    def _block(self, path: str, start: int, end: int, size: int) -> bytes:
        def read(system: Any) -> bytes:
            block = self._range(system, f"{self.root}/{path}", start, end)
            if len(block) != min(end, size) - start:
                self._require_size(path, size)
                raise ConnectionError("the answer ended early")
            return block

        try:
            return self._asked(read, self.of(path))
        except (FileNotFoundError, ValueError, OSError) as error:
            self._require_size(path, size)  # a range beyond its end is an error of its own
            raise _problem(error, self.of(path)) from None

    def _range(self, system: Any, name: str, start: int, end: int) -> bytes:
        if not self.is_ssh:
            block: bytes = system.cat_file(name, start=start, end=end)
            return block
        with system.open(name, "rb") as stream:  # sshfs knows no range of cat_file
            stream.seek(start)
            content: bytes = stream.read(end - start)
            return content

    def _require_size(self, path: str, size: int) -> None:
        """Raises :class:`Problem` unless the file is there, of this size."""

        try:
            now = self._asked(self._size_of(path), self.of(path))
        except FileNotFoundError:
            raise Problem(
                "expected the object that fetch listed, found none",
                where=self.of(path),
                remedy="Bring it back, or run fetch again, which lists what is there now.",
            ) from None
        if now != size:
            raise changed(f"{size:,} bytes", f"another of {now:,}", self.of(path))

    def _size_of(self, path: str) -> Callable[[Any], int]:
        def stated(system: Any) -> int:
            system.invalidate_cache()
            return int(system.info(f"{self.root}/{path}")["size"])

        return stated

    def _asked(self, action: Callable[[Any], R], where: str) -> R:
        """What ``action`` finds in the file system.

        Raises :class:`Problem` for what the service refuses or does not answer.
        """

        def attempt() -> R:
            system = self.system
            try:
                return action(system)
            except Exception as error:
                if self.is_ssh and not retries.lasts(error):
                    self._reconnect(system)
                raise

        try:
            return retries.retried(attempt)
        except Exception as error:
            if retries.lasts(error) and not retries.refused(error):
                raise
            raise _problem(error, where) from None

    def _reconnect(self, lost: Any) -> None:
        """Another connection in the place of one that is lost, for all who share it."""
        with self._lock, suppress(Exception):  # the next attempt meets what is wrong
            if self.system is lost:
                type(lost).clear_instance_cache()
                self.system, _ = _system(self.url, self.options)


def changed(expected: str, got: str, where: str) -> Problem:
    """What to report of an object that is not the one that fetch listed."""
    return Problem(
        f"expected the object that fetch listed ({expected}), got {got}",
        where=where,
        remedy="It has changed since: run fetch again, which lists and reads what has.",
    )


def folder_of(url: str) -> tuple[Remote, str]:
    """The folder that the file behind ``url`` lies in, and its name there.

    Raises what :func:`opened` raises.
    """
    folder, _, name = url.rpartition("/")
    return opened(folder), name


def opened(url: str) -> Remote:
    """The folder behind ``url``, such as s3://bucket/folder; nothing is asked of the service yet.

    Raises :class:`Problem` for what is no such URL, for one that holds credentials, and for a
    service whose library is not installed.
    """
    url = _plain(url)
    protocol = urlsplit(url).scheme
    options = _options(url)
    try:
        system, root = retries.retried(lambda: _system(url, options))
    except ImportError as error:
        raise extras.problem_of_protocol(protocol, url) or Problem(
            f"expected the library for {protocol}, got: {error}", where=url
        ) from None
    except ValueError as error:
        known = ", ".join(extras.PROTOCOLS)
        raise Problem(
            f"expected a service that fsspec knows ({known}, ...), got {_reason(error)}",
            where=url,
            remedy="Correct the URL, or install fsspec's package for it.",
        ) from None
    except Exception as error:  # some ask for credentials at once
        raise _problem(error, url) from None
    return Remote(url, system, root, options)


def _options(url: str) -> dict[str, Any]:
    """The options of a library that are ours; the user's fsspec configuration comes first."""
    from fsspec.config import conf  # here: what needs no URL needs no fsspec

    stated = conf.get(urlsplit(url).scheme, {})
    return {name: value for name, value in _OURS.get(_extra(url), {}).items() if name not in stated}


def _system(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The file system behind a URL, and the path in it."""
    import fsspec

    system, root = fsspec.core.url_to_fs(url, **options)
    if _extra(url) == "s3":
        system.retries = 1
    return system, str(root).rstrip("/")


def _extra(url: str) -> str:
    return extras.PROTOCOLS.get(urlsplit(url).scheme, "")


def _plain(url: str) -> str:
    """A URL without a slash at its end. Raises :class:`Problem` for one that is none, or secret."""
    parts = urlsplit(url)
    if parts.password is not None or parts.query or "?" in url:
        raise Problem(  # which does not show it
            "expected a URL without a password, a key or a query, got one",
            where=f"{parts.scheme}://...",
            remedy=f"Credentials stand in the environment or in configuration files. {_HOW}",
        )
    if "://" not in url or "::" in url:
        raise Problem(
            f"expected a URL such as s3://bucket/folder, got {url!r}",
            remedy="A folder of this machine is file:///its/path; or link it to data/raw.",
        )
    return url.rstrip("/")


def _size(info: Mapping[str, Any], where: str) -> int:
    if info.get("size") is None:
        raise Problem(
            "expected a service that states the size of files, got none",
            where=where,
            remedy="Copy the files to data/raw, or to a service that does.",
        )
    return int(info["size"])


def _version(info: Mapping[str, Any]) -> str:
    found = next((info[name] for name in _VERSIONS if info.get(name)), "")
    if isinstance(found, datetime):
        return found.astimezone(UTC).isoformat()
    return str(found).strip('"')


def _problem(error: Exception, where: str) -> Problem:
    if isinstance(error, Problem):
        return error
    if retries.refused(error):
        return Problem(
            f"expected credentials that may read this, got: {_reason(error)}",
            where=where,
            remedy=_HOW,
        )
    attempts = 1 if retries.lasts(error) else len(retries.PAUSES_S) + 1
    return Problem(
        f"expected an answer of the service, got, in {attempts} attempts: {_reason(error)}",
        where=where,
        remedy="Is there a network, and does the service run? (Of an S3 server that is not AWS's,"
        " AWS_ENDPOINT_URL states the address.) Run again: what was finished is kept.",
    )


def _reason(error: BaseException) -> str:
    """The error's own words, without what could be a credential in a URL."""
    words = " ".join(str(error).split()) or type(error).__name__
    words = re.sub(r"(?<=://)[^/\s@]+@", "", words)
    return printable(re.sub(r"\?\S*", "", words))[:_LONGEST]
