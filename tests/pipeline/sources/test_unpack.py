"""An archive becomes plain files below one folder, or one line that names the member."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.sources import unpack
from tests.conftest import Refused
from tests.support.every import every

CONTENT = {"top.txt": b"top", "a/one.nii": b"1" * 3000, "a/b/two.nii": b""}
Change = Callable[[tarfile.TarInfo], None]


def tar_member(name: str, content: bytes = b"x", **facts: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for fact, value in facts.items():
        setattr(member, fact, value)
    return member, content


def write_tar(file: Path, *members: tuple[tarfile.TarInfo, bytes], kind: int | None = None) -> Path:
    with tarfile.open(file, "w", format=kind or tarfile.PAX_FORMAT) as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return file


def zip_member(name: str, mode: int = 0) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system = 3  # Unix
    member.external_attr = mode << 16
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def write_zip(file: Path, *members: tuple[zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for member, content in members:
            archive.writestr(member, content)
    return file


def sound(file: Path) -> Path:
    """An archive of :data:`CONTENT`, of the kind that the file's name says."""
    if file.suffix == ".zip":
        folder = (zip_member("a/"), b"")
        return write_zip(file, folder, *((zip_member(n), c) for n, c in CONTENT.items()))
    folder_member = tar_member("./a", b"", type=tarfile.DIRTYPE)
    write_tar(file, folder_member, *(tar_member(f"./{n}", c) for n, c in CONTENT.items()))
    packers = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    if file.suffix in packers:
        file.write_bytes(packers[file.suffix](file.read_bytes()))
    return file


def below(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where archives are unpacked: two levels below what they must not touch."""
    inside = tmp_path / "outside" / "inside"
    inside.mkdir(parents=True)
    return inside


NAMES = ["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.zip"]


@pytest.mark.parametrize("name", NAMES)
def test_every_file_arrives_with_its_bytes(folder: Path, tmp_path: Path, name: str) -> None:
    assert unpack.unpack(sound(tmp_path / name), folder) == len(CONTENT)
    assert below(folder) == CONTENT


def test_the_content_decides_what_an_archive_is(folder: Path, tmp_path: Path) -> None:
    archive = sound(tmp_path / "a.zip").rename(tmp_path / "a.tar")
    unpack.unpack(archive, folder)
    assert below(folder) == CONTENT


def test_setuid_and_owners_are_dropped(folder: Path, tmp_path: Path) -> None:
    special = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX | 0o777
    tar = write_tar(tmp_path / "a.tar", tar_member("program", mode=special, uid=12345))
    packed = write_zip(tmp_path / "a.zip", (zip_member("other", stat.S_IFREG | special), b"x"))
    for archive in (tar, packed):
        unpack.unpack(archive, folder)
    for name in ("program", "other"):
        found = (folder / name).stat()
        assert not found.st_mode & (special & ~0o666)
        assert found.st_uid == os.getuid()


LINK = tarfile.SYMTYPE
HOSTILE_TARS = {
    "absolute": [tar_member("/evil")],
    "parent": [tar_member("../evil")],
    "parent within": [tar_member("a/../../evil")],
    "symbolic link": [tar_member("evil", b"", type=LINK, linkname="/etc/passwd")],
    "through a link": [tar_member("evil", b"", type=LINK, linkname=".."), tar_member("evil/file")],
    "hard link": [tar_member("evil", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")],
    "pipe": [tar_member("evil", b"", type=tarfile.FIFOTYPE)],
    "device": [tar_member("evil", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=5)],
    "unknown": [tar_member("evil", b"", type=b"Q")],
    "no name": [tar_member(".", b"evil")],
    "ours": [tar_member(".unfinished-moving/evil")],
    "twice": [tar_member("evil", b"1"), tar_member("evil", b"2")],
    "file and folder": [tar_member("evil"), tar_member("evil/file")],
    "too long": [tar_member("evil" * 100)],
}


@pytest.mark.parametrize("members", HOSTILE_TARS.values(), ids=list(HOSTILE_TARS))
def test_a_hostile_tar_is_refused_by_its_member(
    folder: Path, tmp_path: Path, refused: Refused, members: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    archive = write_tar(tmp_path / "a.tar", tar_member("good"), *members)
    before = below(tmp_path)
    message = str(refused(lambda: unpack.unpack(archive, folder)))
    assert "evil" in message or "'.'" in message
    new = {name for name in below(tmp_path) if name not in before}
    assert all(name.startswith("outside/inside/") for name in new)
    assert all(file.is_dir() or file.is_file() for file in folder.rglob("*"))
    assert not any(file.is_symlink() for file in folder.rglob("*"))


HOSTILE_ZIPS = {
    "absolute": [zip_member("/evil")],
    "parent": [zip_member("../evil")],
    "parent within": [zip_member("a/../../evil")],
    "symbolic link": [zip_member("evil", stat.S_IFLNK | 0o777)],
    "pipe": [zip_member("evil", stat.S_IFIFO | 0o666)],
    "device": [zip_member("evil", stat.S_IFCHR | 0o666)],
    "twice": [zip_member("evil"), zip_member("./evil")],
    "file and folder": [zip_member("evil"), zip_member("evil/file")],
}


@pytest.mark.parametrize("members", HOSTILE_ZIPS.values(), ids=list(HOSTILE_ZIPS))
def test_a_hostile_zip_is_refused_by_its_member(
    folder: Path, tmp_path: Path, refused: Refused, members: list[zipfile.ZipInfo]
) -> None:
    archive = write_zip(
        tmp_path / "a.zip", (zip_member("good"), b"x"), *((m, b"/etc/passwd") for m in members)
    )
    before = below(tmp_path)
    assert "evil" in str(refused(lambda: unpack.unpack(archive, folder)))
    new = {name for name in below(tmp_path) if name not in before}
    assert all(name.startswith("outside/inside/") for name in new)
    assert not any(file.is_symlink() for file in folder.rglob("*"))


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.xz", "a.zip"])
def test_a_bomb_is_refused_before_it_is_written(
    folder: Path,
    tmp_path: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(unpack, "SMALL", 1 << 20)
    zeros = bytes(30 << 20)
    if name == "a.zip":
        archive = write_zip(tmp_path / name, (zip_member("good"), b""), (zip_member("evil"), zeros))
        assert archive.stat().st_size * 500 < len(zeros)
        monkeypatch.setattr(unpack, "RATIO", 500)
    else:
        archive = write_tar(tmp_path / name, tar_member("good"), tar_member("evil", zeros))
        packer = gzip.compress if name.endswith("gz") else lzma.compress
        archive.write_bytes(packer(archive.read_bytes()))
    message = str(refused(lambda: unpack.unpack(archive, folder)))
    assert "evil" in message
    assert "bytes" in message
    assert sum(len(content) for content in below(folder).values()) < 1 << 20


def test_a_header_cannot_ask_for_memory(folder: Path, tmp_path: Path, refused: Refused) -> None:
    member, content = tar_member("evil")
    member.pax_headers = {"comment": "x" * (3 << 20)}
    archive = write_tar(tmp_path / "a.tar", (member, content))
    assert "headers of at most" in str(refused(lambda: unpack.unpack(archive, folder)))


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_too_many_members_are_refused(
    folder: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(unpack, "MEMBERS", 2)
    archive = sound(tmp_path / name)
    assert "at most 2 members" in str(refused(lambda: unpack.unpack(archive, folder)))


def test_more_than_the_disk_holds_is_refused(
    folder: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = unpack.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda _: usage)
    archive = sound(tmp_path / "a.tar")
    assert "a disk with 1,000 free" in str(refused(lambda: unpack.unpack(archive, folder)))


@pytest.mark.parametrize("name", NAMES)
@every("keep", [0, 3, 100, 0.5, 0.9])
def test_a_cut_archive_is_refused(
    folder: Path, tmp_path: Path, refused: Refused, name: str, keep: float
) -> None:
    archive = sound(tmp_path / name)
    content = archive.read_bytes()
    if name == "a.tar":  # its end is padding
        content = content.rstrip(b"\0")
    archive.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    assert str(archive) in str(refused(lambda: unpack.unpack(archive, folder)))


def test_a_damaged_header_does_not_end_a_tar(
    folder: Path, tmp_path: Path, refused: Refused
) -> None:
    archive = write_tar(tmp_path / "a.tar", tar_member("one"), tar_member("two"))
    content = bytearray(archive.read_bytes())
    content[1024] ^= 1  # the first letter of the second name
    archive.write_bytes(content)
    assert "no header" in str(refused(lambda: unpack.unpack(archive, folder)))


def test_an_encrypted_zip_is_refused(folder: Path, tmp_path: Path, refused: Refused) -> None:
    archive = write_zip(tmp_path / "a.zip", (zip_member("secret"), b"x"))
    content = bytearray(archive.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    archive.write_bytes(content)
    message = str(refused(lambda: unpack.unpack(archive, folder)))
    assert "secret" in message
    assert "encrypted" in message


def test_a_member_far_too_deep_is_refused(tmp_path: Path, refused: Refused) -> None:
    archive = tmp_path / "deep.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("d/" * 900 + "evil", b"x")
    (tmp_path / "place").mkdir()
    assert "64 folders in each other" in str(
        refused(lambda: unpack.unpack(archive, tmp_path / "place"))
    )
    assert list((tmp_path / "place").iterdir()) == []
