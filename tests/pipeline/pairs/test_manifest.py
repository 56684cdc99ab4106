"""The manifest comes back as it was written, and the same pairs give the same bytes."""

import dataclasses
import math
import tempfile
import tracemalloc
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import paths
from pipeline.pairs import manifest
from pipeline.pairs.manifest import Pair

QUICK = settings(max_examples=25, deadline=None)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
real = st.floats(allow_nan=False)
reals = st.lists(real, max_size=16).map(tuple)
whole = st.lists(st.integers(0, 2**40), max_size=6).map(tuple)
pairs = st.lists(
    st.builds(
        Pair,
        id=text,
        dataset=text,
        patient=text,
        case=text,
        slice_index=st.integers(0, 2**31 - 1),
        rater=text,
        image=text,
        mask=text,
        source=text,
        source_digest=text,
        source_shape=whole,
        affine=reals,
        plane=text,
        canvas=reals,
        window=st.tuples(real, real),
        class_pixels=whole,
        image_digest=text,
        mask_digest=text,
        licence=text,
        fingerprint=text,
        official_split=text,
        parent=text,
        warp=text,
        split=text,
        sop_instance_uid=text,
    ),
    max_size=4,
    unique_by=lambda pair: pair.id,
)


def pair(id="a_0001", **changes):  # noqa: A002  # the field's own name
    texts = ("dataset", "patient", "case", "rater", "image", "mask", "source")
    more = ("source_digest", "plane", "image_digest", "mask_digest", "licence", "fingerprint")
    facts = {
        **{name: name for name in (*texts, *more)},
        "slice_index": 1,
        "source_shape": (2, 3, 4),
        "affine": (1.0, 0.1, -0.0),
        "canvas": (512.0, 1 / 3),
        "window": (0.0, 80.0),
        "class_pixels": (10, 2),
    }
    return Pair(id=id, **{**facts, **changes})


@QUICK
@given(pairs)
def test_pairs_come_back_sorted_and_unchanged(written):
    with tempfile.TemporaryDirectory() as folder:
        manifest.write(Path(folder), written)
        assert manifest.read(Path(folder)) == sorted(written, key=lambda pair: pair.id)


@QUICK
@given(st.permutations([pair(f"a_{n:04d}", slice_index=n) for n in range(6)]))
def test_the_order_given_does_not_change_the_bytes(shuffled):
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        manifest.write(Path(one), shuffled)
        manifest.write(Path(two), iter(sorted(shuffled, key=lambda pair: pair.id)))
        files = [Path(folder) / paths.MANIFEST for folder in (one, two)]
        assert files[0].read_bytes() == files[1].read_bytes()


COLUMNS = [field.name for field in dataclasses.fields(Pair)]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_the_augmented_pairs_own_or_its_parents(name):
    own = {"id", "parent", "warp", "image", "mask", "image_digest", "mask_digest", "class_pixels"}
    own |= {"fingerprint", "likeness", "truth", "truth_digest", "ignored_pixels", "more_digests"}
    own |= {"scan", "scan_digest", "shard", "shard_at", "case_shard", "case_at"}
    parent, child = pair(**{name: "a parent's"}), pair(**{name: "a child's"})
    made = getattr(manifest.inherited(child, parent), name)
    assert made == ("a child's" if name in own else "a parent's")


def test_numbers_come_back_to_the_last_bit(tmp_path):
    numbers = (0.1, 1 / 3, -1e-300, 1e300)
    manifest.write(tmp_path, [pair(affine=numbers, window=(-0.1, 0.2))])
    (back,) = manifest.read(tmp_path)
    assert back.affine == numbers
    assert back.window == (-0.1, 0.2)


def test_rows_read_and_written_some_at_a_time_are_the_same_rows(tmp_path, monkeypatch):
    written = [
        pair(f"a_{n:04d}", affine=(n // 3 * 0.5, -0.0 if n % 2 else 0.0), case=f"c{n // 3}")
        for n in range(10)
    ]
    manifest.write(tmp_path / "whole", written)
    monkeypatch.setattr(manifest, "_GROUP_ROWS", 4)
    monkeypatch.setattr(manifest, "_BATCH_ROWS", 3)
    manifest.write(tmp_path / "parts", written)
    assert pq.ParquetFile(tmp_path / "parts" / paths.MANIFEST).num_row_groups == 3
    assert manifest.read(tmp_path / "parts") == manifest.read(tmp_path / "whole") == written
    signs = [math.copysign(1, one.affine[1]) for one in manifest.read(tmp_path / "parts")]
    assert signs == [1, -1] * 5


def test_what_a_case_shares_is_in_memory_once(tmp_path):
    manifest.write(tmp_path, [pair(f"a_{n:04d}", slice_index=n) for n in range(50)])
    rows = manifest.read(tmp_path)
    for name in ("patient", "source_digest", "affine", "canvas", "window", "findings"):
        assert len({id(getattr(row, name)) for row in rows}) == 1, name


def test_a_row_takes_about_a_kilobyte(tmp_path):
    """Of a real dataset: 60 slices a case, with digests, affine and hash of a true length."""
    rows = [
        pair(
            f"sub-{n // 60:04d}_{n % 60:04d}",
            case=f"sub-{n // 60:04d}",
            slice_index=n % 60,
            source_digest=f"{n // 60:064x}",
            affine=(n // 60 * 0.1, *(0.1 * k for k in range(15))),
            canvas=(512.0, 400.0, 400.0, 1.28, 1.28, 0.0, 0.0),
            class_pixels=(260_000 - n, 1000 + n, 500 + n),
            image_digest=f"{n:064x}",
            mask_digest=f"{-n & (1 << 256) - 1:064x}",
            likeness=f"{7 * n:064x}",
        )
        for n in range(6000)
    ]
    manifest.write(tmp_path, rows)
    del rows
    tracemalloc.start()
    rows = manifest.read(tmp_path)
    taken, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken / len(rows) < 1200
    assert peak - taken < 4_000_000  # what is read at once, however many rows there are


def test_a_manifest_of_no_pairs_is_read_as_such(tmp_path):
    manifest.write(tmp_path / "new", [])
    assert manifest.read(tmp_path / "new") == []


@pytest.mark.parametrize(
    ("counts", "empty"), [((9,), True), ((9, 0, 0), True), ((9, 0, 1), False), ((0, 9), False)]
)
def test_a_pair_is_empty_where_it_has_no_foreground(counts, empty):
    assert pair(class_pixels=counts).empty is empty


def test_the_table_is_readable_by_column(tmp_path):
    manifest.write(tmp_path, [pair("b"), pair("a")])
    table = pq.read_table(tmp_path / paths.MANIFEST)
    assert table.schema.equals(manifest.SCHEMA)
    assert table.column("id").to_pylist() == ["a", "b"]


def test_a_crash_while_writing_leaves_the_earlier_table(tmp_path, monkeypatch):
    manifest.write(tmp_path, [pair("a")])

    def crash(*_):
        raise OSError("no space left")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", crash)
    with pytest.raises(OSError, match="no space"):
        manifest.write(tmp_path, [pair("b")])
    assert manifest.read(tmp_path) == [pair("a")]


def test_refuses_a_folder_without_manifest(tmp_path, refused):
    problem = str(refused(lambda: manifest.read(tmp_path)))
    assert str(tmp_path / paths.MANIFEST) in problem
    assert "dvc repro" in problem


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b"id,image,mask\n", id="text"),
        pytest.param(lambda content: content[:-20], id="end cut off"),
        pytest.param(lambda content: content[20:], id="start cut off"),
        pytest.param(lambda content: content[:4] + bytes(60) + content[64:], id="zeroed"),
    ],
)
def test_refuses_a_damaged_table(tmp_path, refused, damage):
    manifest.write(tmp_path, [pair()])
    file = tmp_path / paths.MANIFEST
    file.write_bytes(damage(file.read_bytes()))
    problem = str(refused(lambda: manifest.read(tmp_path)))
    assert str(file) in problem
    assert "Delete" in problem


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"name": ["a"]}, id="foreign"),
        pytest.param({**asdict(pair()), "more": "x"}, id="one column more"),
        pytest.param({k: v for k, v in asdict(pair()).items() if k != "warp"}, id="one missing"),
    ],
)
def test_refuses_a_table_of_other_columns(tmp_path, refused, columns):
    file = tmp_path / paths.MANIFEST
    pq.write_table(pa.Table.from_pylist([columns]), file)
    assert str(file) in str(refused(lambda: manifest.read(tmp_path)))


def test_refuses_a_text_of_no_encoding(tmp_path, refused):
    manifest.write(tmp_path, [pair()])
    file = tmp_path / paths.MANIFEST
    table = pq.read_table(file)
    at = table.schema.get_field_index("source")
    no_text = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(table.set_column(at, table.schema.field(at), no_text), file)
    assert "Delete" in str(refused(lambda: manifest.read(tmp_path)))
