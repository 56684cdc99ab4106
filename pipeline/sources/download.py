"""Download a published file completely and check the digests that its adapter states.

An interrupted download is kept beside the target, and the next run resumes it. Only https is
followed, redirects included, so that nobody on the way sees or changes a request.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from tqdm import tqdm

from datasets_spec.contract import Problem, RemoteFile, is_own_address
from pipeline.runtime import files

_BLOCK = 1 << 20  # bytes
_TIMEOUT_S = (30, 60)  # for a connection, and for the next bytes
_RANGE_IS_NO_PART = 416  # HTTP's "Range Not Satisfiable"


def download(file: RemoteFile, target: Path) -> str:
    """Download ``file`` to ``target``, unless it is there already; returns its sha256.

    The sha256 is also written beside it, in the form of ``sha256sum``. Raises :class:`Problem`
    if the download fails or the digest differs.
    """
    if files.is_regular(target) and _fits(file, got := _digests(target)):
        return got["sha256"]
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = files.beside(target)
    if not (files.is_regular(partial) and _fits(file, got := _digests(partial))):
        _fetch(file.url, partial, target)
        got = _digests(partial)
    if not _fits(file, got):
        partial.unlink()
        raise Problem(
            f"expected a file with {file.digest},"
            f" got {' '.join(f'{kind}:{got[kind]}' for kind in file.digests)}",
            where=file.url,
            remedy="Run it again, which downloads it anew. If that does not help, the file at this"
            " address has changed: ask its publisher.",
        )
    with files.replacing(target.with_name(f"{target.name}.sha256")) as place:
        place.write_text(f"{got['sha256']}  {target.name}\n", "utf-8")
    files.sync(partial)
    os.replace(partial, target)
    files.sync(target.parent)
    return got["sha256"]


def _fits(file: RemoteFile, got: Mapping[str, str]) -> bool:
    return all(got[kind] == wanted for kind, wanted in file.digests.items())


def _digests(file: Path) -> dict[str, str]:
    totals = {
        "sha256": hashlib.sha256(),
        "md5": hashlib.md5(usedforsecurity=False),  # beside sha256, or if it is all that is stated
    }
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            for total in totals.values():
                total.update(block)
    return {kind: total.hexdigest() for kind, total in totals.items()}


def _fetch(url: str, partial: Path, target: Path) -> None:
    """Download ``url`` to ``partial``, after what is there already."""
    have = partial.stat().st_size if files.is_regular(partial) else 0
    try:
        with _asked(url, have) as response:
            if response.status_code != _RANGE_IS_NO_PART:
                _save(response, partial, have)
                return
        with _asked(url, 0) as response:
            _save(response, partial, 0)
    except requests.RequestException as error:
        raise Problem(
            f"expected a download, got {_reason(error)}",
            where=url,
            remedy="Is there a network, and is the address right? Run it again, which resumes, or"
            f" download the file by hand to {target}.",
        ) from None
    except OSError as error:
        raise Problem(
            f"expected to write a download, got {error.strerror or error}",
            where=partial,
            remedy="Make room or correct the rights there, and run it again, which resumes.",
        ) from None


def _asked(url: str, have: int) -> requests.Response:
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    response: requests.Response = requests.get(
        url, headers=headers, stream=True, timeout=_TIMEOUT_S, hooks={"response": _judge_redirect}
    )
    if response.status_code != _RANGE_IS_NO_PART:
        response.raise_for_status()
    return response


def _judge_redirect(response: requests.Response, **_: object) -> None:
    """Called for every response, before a redirect is followed."""
    if not response.is_redirect:
        return
    target = urljoin(response.url, response.headers["location"])
    if urlsplit(target).scheme == "https":
        return
    if not (is_own_address(response.url) and is_own_address(target)):
        response.close()
        raise Problem(
            f"expected a redirect to https, got one to {target}",
            where=response.url,
            remedy="Ask the publisher for an address that stays with https.",
        )


def _save(response: requests.Response, partial: Path, have: int) -> None:
    """Append the response's body if it resumes after ``have`` bytes; else start over."""
    rest = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    done = have if response.status_code == requests.codes.partial_content and rest else 0
    stated = response.headers.get("Content-Length", "")
    length = int(stated) if stated.isdecimal() else None
    free = shutil.disk_usage(partial.parent).free + (0 if done else have)
    if length is not None and length > free:
        raise Problem(
            f"expected room for {length:,} bytes, got a disk with {free:,} free",
            where=partial.parent,
            remedy="Make room, and run it again.",
        )
    bar: dict[str, Any] = {"unit": "B", "unit_scale": True, "disable": None, "leave": False}
    total = None if length is None else done + length
    with (
        partial.open("ab" if done else "wb") as out,
        tqdm(desc=f"download {partial.name}", total=total, initial=done, **bar) as progress,
    ):
        for block in response.iter_content(_BLOCK):
            out.write(block)
            progress.update(len(block))
    if total is not None and partial.stat().st_size < total:
        raise requests.ConnectionError("the connection ended before the file did")


def _reason(error: requests.RequestException) -> str:
    """The cause, without the address and the object that the library puts before it."""
    if error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}"
    cause = error.args[0] if error.args else error
    reason = str(getattr(cause, "reason", cause))
    return reason.rpartition("): ")[2]
