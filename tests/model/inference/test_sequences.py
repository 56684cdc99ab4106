"""Names alone decide which scans are the sequences of one case; what they leave open is refused."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from model.inference import sequences
from pipeline.pairs import channels
from pipeline.volumes import search
from pipeline.volumes.search import Scan
from tests.conftest import PROJECT, Refused

WANTED = ("t1w", "flair")
INPUT = Path("/in")


def grouped(
    names: list[str], patterns: dict[str, str] | None = None, wanted: tuple[str, ...] = WANTED
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Case -> channel -> path, and the paths that are of none."""
    scans = [Scan(f"n{at}", search.NIFTI, INPUT / name) for at, name in enumerate(names)]
    groups, left = sequences.grouped(scans, wanted, patterns or {}, [INPUT])
    found = {
        group.name: {
            channel: scan.path.relative_to(INPUT).as_posix()
            for channel, scan in group.scans.items()
        }
        for group in groups
    }
    return found, [scan.path.relative_to(INPUT).as_posix() for scan in left]


@pytest.mark.parametrize(
    ("t1w", "flair", "case"),
    [
        pytest.param("sub-01_T1w.nii.gz", "sub-01_FLAIR.nii.gz", "sub-01", id="BIDS"),
        pytest.param(
            "sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_FLAIR.nii.gz", "sub-01", id="deep"
        ),
        pytest.param("sub-01/t1w.nii", "sub-01/flair.nii", "sub-01", id="a folder per case"),
        pytest.param("t1w/p1.nii.gz", "flair/p1.nii.gz", "p1", id="a folder per sequence"),
        pytest.param("p1/T1w/DICOM", "p1/FLAIR/DICOM", "DICOM", id="a folder per series"),
        pytest.param("p1_0000.nii.gz", "p1_0001.nii.gz", "p1", id="nnU-Net"),
        pytest.param("t1w.nii.gz", "flair.nii.gz", "in", id="nothing but the channel"),
    ],
)
def test_words_of_names_tell_the_channel_and_the_rest_the_case(
    t1w: str, flair: str, case: str
) -> None:
    assert grouped([flair, t1w]) == ({case: {"t1w": t1w, "flair": flair}}, [])


def test_cases_of_one_sequence_stay_apart() -> None:
    both = ["c_t1w.nii", "c_flair.nii"]
    found, left = grouped(["a_t1w.nii", "b_flair.nii", "notes_t2w.nii", *both])
    assert found == {
        "a": {"t1w": "a_t1w.nii"},
        "b": {"flair": "b_flair.nii"},
        "c": dict(zip(WANTED, both, strict=True)),
    }
    assert left == ["notes_t2w.nii"]


def test_a_word_is_a_whole_one() -> None:
    found, left = grouped(["a_t1w.nii", "a_nott1w.nii", "a_t1wx.nii", "a_t1w2.nii"])
    assert list(found) == ["a"]
    assert len(left) == 3


def test_numbers_count_only_where_no_name_has_a_word() -> None:
    found, left = grouped(["a_t1w.nii", "b_0001.nii"])
    assert (list(found), left) == (["a"], ["b_0001.nii"])


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        pytest.param(
            {"t1w": "*_t1.nii", "flair": "*_fl.nii"}, ["p1_t1.nii", "p1_fl.nii"], id="wildcard"
        ),
        pytest.param(
            {"t1w": "anat.nii", "flair": "[ft]2.nii"}, ["p1/anat.nii", "p1/f2.nii"], id="folder"
        ),
        pytest.param(
            {"t1w": "{case}/*_mprage", "flair": "{case}/*_tirm"},
            ["p1/3_mprage", "p1/7_tirm"],
            id="numbered series",
        ),
        pytest.param({"t1w": "a/*.nii", "flair": "b/*.nii"}, ["a/p1.nii", "b/p1.nii"], id="path"),
    ],
)
def test_patterns_state_the_channel_and_the_case(
    patterns: dict[str, str], names: list[str]
) -> None:
    found, left = grouped([*names, "p1/other.nii"], patterns)
    assert found == {"p1": dict(zip(WANTED, names, strict=True))}
    assert left == ["p1/other.nii"]


@pytest.mark.parametrize(
    ("names", "patterns", "message"),
    [
        pytest.param(["a_t1w.nii", "x/a_t1w_flair.nii"], {}, "t1w or flair", id="two words"),
        pytest.param(["a_t1w.nii", "a-t1w.nii"], {}, "a_t1w.nii and", id="twice in a case"),
        pytest.param(["a.nii", "b.nii"], {}, "got none among 2 scans", id="no word"),
        pytest.param(["p/3_t1w", "p/7_flair"], {}, "no two that agree", id="numbered series"),
        pytest.param(["a.nii"], {"t1w": "*.nii", "flair": "a*"}, "t1w or flair", id="two patterns"),
        pytest.param(["a.nii"], {"pd": "*.nii"}, "got 'pd'", id="another channel"),
        pytest.param(["a.nii"], {"t1w": "{case}_{case}"}, "expected {case} once", id="two cases"),
        pytest.param(["a.nii"], {"t1w": "b*"}, "got none among 1, such as a.nii", id="no match"),
        pytest.param(
            ["a_t1.nii", "a_fl.nii"],
            {"t1w": "*_t1.nii", "flair": "*_flair.nii"},
            "the channel flair, got none among 2",
            id="one pattern without a match",
        ),
        pytest.param(
            ["3_t1.nii", "4_fl.nii"],
            {"t1w": "*_t1.nii", "flair": "*_fl.nii"},
            "no two that agree",
            id="patterns whose wildcards differ",
        ),
    ],
)
def test_what_names_leave_open_is_refused(
    refused: Refused, names: list[str], patterns: dict[str, str], message: str
) -> None:
    assert message in refused(lambda: grouped(names, patterns)).what


@pytest.mark.parametrize("options", [["t1w"], ["=x"], ["t1w="], ["t1w=a", "t1w=b"]])
def test_an_option_is_a_name_and_a_pattern(refused: Refused, options: list[str]) -> None:
    assert "NAME=PATTERN" in refused(lambda: sequences.stated(options)).what


def test_results_of_equal_names_are_told_apart_by_their_folders() -> None:
    found, _ = grouped(["a/s_t1w.nii", "b/s_t1w.nii", "b/s_flair.nii"])
    assert list(found) == ["a_s", "b_s"]


PUBLISHED = sorted((PROJECT.parent / "shared/data/dicom").glob("PGBM-*.tar.gz"))


@pytest.mark.skipif(not PUBLISHED, reason="the published series are not there")
def test_published_series_of_one_geometry_are_channels_of_one_picture(tmp_path: Path) -> None:
    for archive in PUBLISHED:
        with tarfile.open(archive) as packed:
            packed.extractall(tmp_path, filter="data")
    patterns = {"t1post": "{case}/*/*-T1post-*", "flair": "{case}/*/*-FLAIRreg-*"}
    found = search.search([tmp_path]).scans
    groups, left = sequences.grouped(found, tuple(patterns), patterns, [tmp_path])
    assert [one.name for one in groups] == [file.name.split("_")[0] for file in PUBLISHED]
    assert all("MaskTumor" in one.name for one in left)
    for group in groups:
        scans = {channel: search.read(one) for channel, one in group.scans.items()}
        channels.require_one_grid(scans, {name: one.path for name, one in group.scans.items()})
        assert len(scans) == 2
