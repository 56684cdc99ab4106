"""Paths of an inventory answer as those of a tree of files, and travel to workers."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from pipeline.sources import inventory, listed
from pipeline.sources.inventory import Inventory, Object
from pipeline.sources.listed import ListedPath
from tests.conftest import Refused

FILES = (
    "MASKS/a.png", "MASKS/ä b.png", "PNG/a.png", "PNG/.hidden", "deep/er/MASKS/c.png",
    "sub-01/ct/1.dcm", "sub-01/ct/more/2.dcm", "sub-01/pair.hdr", "sub-01/pair.img",
    "sub-02/label.nii.gz", "table.csv",
)  # fmt: skip
PATTERNS = (
    "*", "sub-*", "*.png", "*/*.png", "**/*.png", "**/MASKS", "sub-0[12]", "sub-*/", "**/ct/*",
    "table.csv", "MASKS/a.png", "no*", "deep/**/*.png", "P?G/*", "**",
)  # fmt: skip


@pytest.fixture
def local(workplace: Path) -> Path:
    folder = workplace / "local"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, "utf-8")
    return folder


@pytest.fixture
def tree(workplace: Path) -> ListedPath:
    objects = {
        name: Object(name, len(name.encode()), "1", f"sha-{name}", name.encode()) for name in FILES
    }
    return listed.tree_of(Inventory(Path("data/raw/x"), "s3://bucket/x", objects))


def below(root: Path, found: object) -> list[str]:
    return sorted(one.relative_to(root).as_posix() for one in found)  # type: ignore[attr-defined]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_match_what_they_match_in_a_folder(
    local: Path, tree: ListedPath, pattern: str
) -> None:
    assert below(tree, tree.glob(pattern)) == below(local, local.glob(pattern))
    assert below(tree, tree.rglob(pattern)) == below(local, local.rglob(pattern))


@pytest.mark.parametrize("name", [*FILES, "sub-01", "deep/er", "nothing", "sub-01/nothing", ""])
def test_a_path_answers_as_that_of_a_file(local: Path, tree: ListedPath, name: str) -> None:
    real, own = local / name, tree / name
    for question in ("exists", "is_file", "is_dir", "is_symlink"):
        assert getattr(own, question)() == getattr(real, question)()
    assert (own.name, own.stem, own.suffix) == (
        (real.name, real.stem, real.suffix) if name else ("x", "x", "")
    )
    assert own == Path("data/raw/x") / name
    assert sorted([own, Path("a"), Path("z")])[1] == own
    if real.is_dir():
        assert below(own, own.iterdir()) == below(real, real.iterdir())
    elif real.exists():
        assert own.stat().st_size == real.stat().st_size
        assert own.read_text("utf-8") == real.read_text("utf-8")
        with own.open("rb") as stream:
            assert stream.read() == real.read_bytes()
        assert own.parent.is_dir()
    else:
        with pytest.raises(FileNotFoundError, match="s3://bucket/x"):
            own.stat()
        with pytest.raises(FileNotFoundError):
            own.read_bytes()


def test_nothing_is_written_through_it(tree: ListedPath) -> None:
    with pytest.raises(OSError, match="only read"):
        (tree / "new").open("w")


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("table.csv", ["table.csv"]),
        ("sub-01/ct", ["sub-01/ct/1.dcm", "sub-01/ct/more/2.dcm"]),
        ("sub-01/pair.hdr", ["sub-01/pair.hdr", "sub-01/pair.img"]),
        ("nothing", []),
    ],
)
def test_a_path_takes_its_own_objects_to_a_worker(
    tree: ListedPath, name: str, needs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = pickle.dumps(tree / name)
    monkeypatch.setattr(listed, "_READ", {})  # as in another process
    along = listed.carried(pickle.loads(sent))  # noqa: S301  # pickled above
    assert along is not None
    assert (along.url, along.folder) == ("s3://bucket/x", Path("data/raw/x"))
    assert [one.path for one in along.objects] == needs
    assert len(sent) < 2000


def test_a_path_of_this_machine_needs_nothing(local: Path) -> None:
    assert listed.carried(local) is None


def test_an_inventory_is_read_as_it_was_written_and_not_written_twice(tree: ListedPath) -> None:
    found = listed.inventory_of(tree)
    assert found is not None
    inventory.write(found)
    file = found.folder / inventory.NAME
    before = (file.read_bytes(), file.stat().st_ino)
    again = inventory.read(found.folder)
    assert again == found
    inventory.write(found)
    assert (file.read_bytes(), file.stat().st_ino) == before


def test_a_file_of_the_dataset_that_is_called_so_is_its_own(local: Path, refused: Refused) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), local / inventory.NAME)
    assert listed.tree(local) is local
    (local / inventory.NAME).write_bytes(b"nothing of the kind")
    problem = refused(lambda: listed.tree(local))
    assert "inventory" in problem.what


def test_an_object_that_fetch_never_read_is_named(tree: ListedPath, refused: Refused) -> None:
    found = listed.inventory_of(tree)
    assert found is not None
    found.learn({"table.csv": ""})
    problem = refused(lambda: listed.digests([tree / "table.csv"]))
    assert problem.where == "s3://bucket/x/table.csv"
    assert "pipeline fetch x" in problem.remedy
