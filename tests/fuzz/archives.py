"""tar, zip and model files: members that lead out, that are no files, or that are too many."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace

from tests.fuzz import texts
from tests.fuzz.mutations import Mutation, Random, anything, pick, target
from tests.fuzz.trees import Input, Tree

OUTSIDE = "/flexunet-fuzz/outside"
"""In a member's name: a place that does not exist, and that nothing may be written to."""
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tgz")


def seeds(tree: Tree) -> list[Input]:
    """The files of ``tree`` in archives of each kind."""
    files = {name: entry for name, entry in tree.items() if isinstance(entry, bytes)}
    found = []
    for suffix, mode in ((".tar", "w"), (".tar.gz", "w:gz"), (".tar.xz", "w:xz")):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode=mode) as archive:
            for name, content in files.items():
                archive.addfile(_member(name, len(content)), io.BytesIO(content))
        found.append(Input(suffix, {f"archive{suffix}": stream.getvalue()}, (f"archive{suffix}",)))
    for name, method in (("zip", zipfile.ZIP_DEFLATED), ("stored zip", zipfile.ZIP_STORED)):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for file, content in files.items():
                archive.writestr(zipfile.ZipInfo(file), content, method)
        found.append(Input(name, {"archive.zip": stream.getvalue()}, ("archive.zip",)))
    return [replace(one, packed=files) for one in found]


def _member(name: str, size: int = 0, **fields: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def _hostile_members() -> dict[str, list[tuple[tarfile.TarInfo, bytes]]]:
    def file(name: str, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
        return _member(name, 4, **fields), b"evil"

    def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
        return _member(name, type=kind, linkname=to), b""

    def other(name: str, kind: bytes, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
        return _member(name, type=kind, **fields), b""

    return {
        "absolute": [file(f"{OUTSIDE}/evil")],
        "above": [file("../../evil")],
        "above, from within": [file("a/b/../../../../evil")],
        "through a link": [link("way", OUTSIDE), file("way/evil")],
        "through a relative link": [link("way", "../.."), file("way/evil")],
        "through two links": [link("a", "."), link("b", "a/.."), file("b/../evil")],
        "hard link outside": [link("hard", f"{OUTSIDE}/sound", tarfile.LNKTYPE), file("hard")],
        "hard link above": [link("hard", "../../evil", tarfile.LNKTYPE)],
        "link to /dev/zero": [link("scan.nii", "/dev/zero")],
        "link to itself": [link("self", "self")],
        "named pipe": [other("pipe", tarfile.FIFOTYPE)],
        "device": [other("device", tarfile.CHRTYPE, devmajor=1, devminor=5)],
        "block device": [other("disk", tarfile.BLKTYPE, devmajor=8, devminor=0)],
        "setuid": [file("tool", mode=0o6755)],
        "nobody may read": [file("locked", mode=0o000)],
        "a folder that nobody may enter": [
            other("shut", tarfile.DIRTYPE, mode=0o000), file("shut/evil"),
        ],
        "twice": [file("twice"), file("twice")],
        "a file and a folder": [file("both"), file("both/evil")],
        "long name": [file("n" * 300)],
        "deep": [file("d/" * 900 + "evil")],
        "empty name": [file("")],
        "dot": [file("."), file("..")],
        "line end": [file("a\nb")],
        "another owner": [file("owned", uid=2**31, gid=2**31, uname="root")],
        "backslashes": [file("..\\..\\evil"), file("C:\\evil")],
        "unknown kind": [other("what", b"Z")],
        "pax size": [(_member("p", 4, pax_headers={"size": "99999999999"}), b"evil")],
        "pax path": [(_member("p", 4, pax_headers={"path": "../../evil"}), b"evil")],
    }  # fmt: skip


def hostile_tar(rng: Random, made: Input, _: Sequence[Input]) -> Input | None:
    """A tar with members that no download should have, before or after the sound ones."""
    file = target(rng, made, _TAR_SUFFIXES)
    if file is None:
        return None
    hostile = _hostile_members()
    words = str(pick(rng, list(hostile)))
    sound = [(_member(name, len(content)), content) for name, content in made.packed.items()]
    first = rng.random() < 0.5
    stream = io.BytesIO()
    mode = "w" if file.endswith(".tar") else "w:gz" if file.endswith("gz") else "w:xz"
    with tarfile.open(fileobj=stream, mode=mode, format=tarfile.PAX_FORMAT) as archive:
        for member, content in [*hostile[words], *sound] if first else [*sound, *hostile[words]]:
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return made.with_entry(file, stream.getvalue(), f"a member: {words}")


def hostile_zip(rng: Random, made: Input, _: Sequence[Input]) -> Input | None:
    """A zip with members that no download should have."""
    file = target(rng, made, (".zip",))
    if file is None:
        return None
    files = made.packed
    attributes = {"link": 0o120777 << 16, "pipe": 0o010644 << 16, "setuid": 0o106755 << 16}
    names = {
        "absolute": f"{OUTSIDE}/evil", "above": "../../evil", "backslashes": "..\\..\\evil",
        "drive": "C:/evil", "link": "way", "pipe": "pipe", "setuid": "tool", "long": "n" * 300,
        "twice": next(iter(files)), "line end": "a\nb", "deep": "d/" * 900 + "evil", "empty": "",
        "a file and a folder": next(iter(files)) + "/evil", "bomb": "bomb",
    }  # fmt: skip
    words = str(pick(rng, list(names)))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
        member = zipfile.ZipInfo("placeholder")
        member.filename, member.external_attr = names[words], attributes.get(words, 0o644 << 16)
        content = (
            OUTSIDE.encode() if words == "link" else bytes((64 << 20) * (words == "bomb") or 4)
        )
        archive.writestr(member, content, zipfile.ZIP_DEFLATED)
    return made.with_entry(file, stream.getvalue(), f"a member: {words}")


MUTATIONS = (
    *anything(),
    Mutation("tar", hostile_tar, 4.0),
    Mutation("zip", hostile_zip, 3.0),
)


def hostile_model(rng: Random, made: Input, seeds: Sequence[Input]) -> Input | None:
    """A .keras file with members that are missing, there twice, strange, or say something else."""
    file = target(rng, made, (".keras",))
    if file is None:
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(made.content(file))) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # it was harmed before
        return None
    if not members:
        return None
    name = str(pick(rng, sorted(members)))
    extra: list[tuple[str, bytes]] = []
    harm = int(rng.integers(8))
    if harm == 0:
        del members[name]
        words = "left out"
    elif harm == 1:
        extra, words = [(name, members[name])], "twice"
    elif harm == 2:
        extra = [(str(pick(rng, ("../../evil", f"{OUTSIDE}/evil", "assets/../../evil"))), b"evil")]
        words = f"beside it {extra[0][0]}"
    elif harm == 3:
        one = Input("", {name: members[name]})
        changed = anything()[0].apply(rng, one, seeds)
        assert changed is not None
        members[name], words = changed.content(name), changed.recipe[-1]
    elif harm == 4:
        members[name], words = bytes(int(pick(rng, (0, 1, 100 << 20)))), "zeros"
    else:
        name = str(pick(rng, [name for name in members if name.endswith(".json")] or [name]))
        try:
            value, words = texts.harmed(rng, json.loads(members[name]))
        except ValueError:
            return None
        if harm == 5:
            value, words = _other_layer(rng, value)
        members[name] = json.dumps(value).encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in [*members.items(), *extra]:
            archive.writestr(zipfile.ZipInfo(member), content, zipfile.ZIP_DEFLATED)
    return made.with_entry(file, stream.getvalue(), f"{name}: {words}")


_LAYERS = (
    ("os", "system", {"command": "touch escaped"}),
    ("keras.layers", "Lambda", {"function": {"class_name": "__lambda__", "config": {
        "code": "4wEAAAAA", "defaults": None, "closure": None}}}),
    ("subprocess", "Popen", {"args": ["touch", "escaped"]}),
    ("keras.layers", "TFSMLayer", {"filepath": "escaped"}),
    ("builtins", "eval", {"source": "1"}),
    ("keras.src.utils.file_utils", "get_file", {"origin": "http://127.0.0.1:9/x"}),
    ("keras.layers", "Dense", {"units": 2**30}),
)  # fmt: skip


def _other_layer(rng: Random, value: object) -> tuple[object, str]:
    """A configuration in which one object is of another class, of another module."""
    module, name, config = _LAYERS[int(rng.integers(len(_LAYERS)))]
    objects = [path for path in texts.places(value) if path and path[-1] == "class_name"]
    if not objects:
        return value, "nothing"
    path = objects[int(rng.integers(len(objects)))]
    holder: object = value
    for key in path[:-1]:
        holder = holder[key]
    assert isinstance(holder, dict)
    holder.update({"module": module, "class_name": name, "config": config, "registered_name": None})
    return value, f"{path[:-1]} is {module}.{name}"


MODEL_MUTATIONS = (*anything()[:2], Mutation("members", hostile_model, 8.0))
