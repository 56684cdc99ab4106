"""Manifests (Parquet), folders of pairs, and runs' scores: seeds and hostile columns."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from datasets_spec.contract import SPLITS
from pipeline import paths
from pipeline.pairs import manifest
from pipeline.pairs.manifest import Pair
from tests.fuzz import pictures, texts
from tests.fuzz.mutations import Mutation, Random, anything, pick, target
from tests.fuzz.trees import Input, Tree
from tests.support import cohort

_STRANGE: tuple[Any, ...] = (
    "", "../../escaped", "/etc/passwd", "a\nb", "\x1b[31m", "x" * 3000, "test", "train", "nowhere",
)  # fmt: skip
_SPAN = 20  # pixels along a side of a pair's pictures


def manifest_seeds() -> list[Input]:
    """A manifest of eight pairs, three of them augmented, and one without rows."""
    pairs = [
        cohort.pair(f"p{number}_{index}", class_pixels=(90, index), affine=(1.0,) * 16)
        for number in range(4)
        for index in range(2)
    ]
    grown = [
        dataclasses.replace(pair, id=f"bent_{pair.id}", parent=pair.id, warp='{"variant": "bent"}')
        for pair in pairs[:3]
    ]
    return [
        Input("eight pairs", {paths.MANIFEST: _parquet([*pairs, *grown])}),
        Input("no pairs", {paths.MANIFEST: _parquet([])}),
    ]


def _parquet(pairs: Sequence[Pair]) -> bytes:
    with TemporaryDirectory() as folder:
        manifest.write(Path(folder), pairs)
        return (Path(folder) / paths.MANIFEST).read_bytes()


def layout_seeds() -> list[Input]:
    """Folders of the layout {train,valid,test}/{images,masks}: foreign, with a card, and ours."""
    foreign = _layout()
    labels = [{"colour": colour} for colour in pictures.COLOURS]
    card = json.dumps({"labels": labels}).encode()
    with_card: Tree = {**foreign, paths.CARD: card}
    pairs = []
    for path, content in foreign.items():
        split, part, name = path.split("/")
        if part == paths.IMAGES and isinstance(content, bytes):
            mask = foreign[f"{split}/{paths.MASKS}/{name}"]
            assert isinstance(mask, bytes)
            digests = [hashlib.sha256(one).hexdigest() for one in (content, mask)]
            pair = cohort.pair(name.removesuffix(".png"), class_pixels=(1, 1, 1), split=split)
            pair = dataclasses.replace(pair, image_digest=digests[0], mask_digest=digests[1])
            pairs.append(pair)
    ours: Tree = {**with_card, paths.MANIFEST: _parquet(pairs)}
    return [Input("foreign", foreign), Input("with a card", with_card), Input("ours", ours)]


def _layout() -> Tree:
    rng = np.random.default_rng(6)
    tree: Tree = {}
    for number, split in enumerate(SPLITS):
        for index in range(2):
            ids = rng.integers(0, 3, (_SPAN, _SPAN), np.uint8)
            grey = rng.integers(0, 256, (_SPAN, _SPAN), np.uint8)
            name = f"p{number}_{index}.png"
            image = pictures.encoded(Image.fromarray(grey))
            tree[f"{split}/{paths.IMAGES}/{name}"] = image
            tree[f"{split}/{paths.MASKS}/{name}"] = pictures.encoded(pictures.indexed(ids))
    return tree


def runs_seed() -> list[Input]:
    """Two runs' tables of the same four cases and two classes."""
    columns = ("case", "patient", "rater", "class", "truth", "dice", "nsd", "lesion_f1")
    tree: Tree = {}
    for run in ("a", "b"):
        rng = np.random.default_rng(len(run) + ord(run))
        stream = io.StringIO()
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(columns)
        for number in range(4):
            for name in ("core", "rim"):
                words = ["" if name == "rim" and not number else f"{s:.4f}" for s in rng.random(3)]
                table.writerow([f"p{number}", f"p{number}", "", name, 10 + number, *words])
        tree[f"{run}/{paths.PER_CASE}"] = stream.getvalue().encode()
    return [Input("two runs", tree, ("a", "b"))]


def hostile_columns(rng: Random, made: Input, _: Sequence[Input]) -> Input | None:
    """A manifest with another column, type, value or row than the pipeline writes."""
    file = target(rng, made, (".parquet",))
    if file is None:
        return None
    try:
        table = pq.read_table(io.BytesIO(made.content(file)))
        rows, names = table.to_pylist(), table.schema.names
    except Exception:  # it was harmed before
        return None
    if not names:
        return None
    name = str(pick(rng, names))
    at = names.index(name)
    harm = int(rng.integers(8))
    if harm == 0:
        table, words = table.drop_columns([name]), "left out"
    elif harm == 1:
        table = table.rename_columns([one if one != name else "other" for one in names])
        words = "renamed"
    elif harm == 2:
        table = table.set_column(at, name, pa.array([str(row[name]) for row in rows], pa.string()))
        words = "as text"
    elif harm == 3:
        table, words = table.set_column(at, name, pa.nulls(len(rows))), "without values"
    elif harm == 4:
        table = table.set_column(at, name, pa.array([[float("nan")]] * len(rows)))
        words = "lists of nan"
    elif harm == 5 and rows:
        table, words = pa.concat_tables([table, table]), "every row twice"
    elif rows and isinstance(rows[0][name], str):
        value = pick(rng, _STRANGE)
        rows[int(rng.integers(len(rows)))][name] = value
        table, words = pa.Table.from_pylist(rows, table.schema), f"one is {value!r:.60}"
    elif rows and isinstance(rows[0][name], list):
        value = [pick(rng, (0, -1, 10**6, 2**31)) for _number in range(int(rng.integers(5)))]
        rows[int(rng.integers(len(rows)))][name] = value
        table, words = pa.Table.from_pylist(rows, table.schema), f"one is {value}"
    else:
        table = table.set_column(at, name, pa.array([2**40] * len(rows), pa.int64()))
        words = "large whole numbers"
    stream = io.BytesIO()
    pq.write_table(table, stream, compression=str(pick(rng, ("zstd", "snappy", "none"))))
    return made.with_entry(file, stream.getvalue(), f"{name} {words}")


MANIFEST_MUTATIONS = (*anything(), Mutation("columns", hostile_columns, 5.0))
LAYOUT_MUTATIONS = (
    *pictures.WITH_STRANGERS,
    Mutation("JSON", texts.hostile_json, 1.0),
    Mutation("columns", hostile_columns, 1.0),
)


def fault(read: Sequence[Pair]) -> str:
    """What no row of a manifest may be."""
    for pair in read:
        for field in dataclasses.fields(Pair):
            value = getattr(pair, field.name)
            kind = {"str": str, "int": int, "float": float}.get(str(field.type), tuple)
            if type(value) is not kind:
                return f"a value of another type ({field.name}: {type(value).__name__})"
            if kind is tuple and any(not isinstance(part, (int, float)) for part in value):
                return f"parts that are no numbers ({field.name})"
            if field.name in ("agreement", "label_evidence"):  # NaN where no rater drew the class
                continue
            if kind is tuple and any(not math.isfinite(part) for part in value):
                return f"numbers that are not finite ({field.name})"
    return ""
