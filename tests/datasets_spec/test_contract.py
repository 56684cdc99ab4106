"""A dataset is checked when it is built: a mistake in an adapter is an error at import."""

import dataclasses
import pickle
import unicodedata
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_spec.contract import (
    IGNORED_COLOUR,
    Case,
    Dataset,
    Label,
    LabelMap,
    Licence,
    PatientsTable,
    Problem,
    RemoteFile,
    Source,
    Window,
    is_slug,
    names_in,
    slug,
    slugs,
    unchecked,
)
from tests.support.every import every

BLACK = (0, 0, 0)
REMOTE = RemoteFile("https://example.org/a.zip", "md5:" + "0" * 32)
TERMS = Licence("CC BY 4.0", redistribute=True, commercial=True)


def label(id=1, name="core", colour=(255, 0, 0), meaning="the inner part", values=()):  # noqa: A002
    return Label(id, name, colour, meaning, values)


BACKGROUND = label(0, "background", BLACK, "everything else")


def source(**changes):
    facts = {"homepage": "https://example.org", "licence": TERMS, "citation": "Someone, 2026"}
    return Source(**{**facts, "instructions": "Ask them.", **changes})


def dataset(**changes):
    facts = {"title": "Some scans", "modality": "MR", "label_map": LabelMap((BACKGROUND, label()))}
    return Dataset(**{**facts, "source": source(), **changes})


def case(tmp_path, **changes):
    facts = {"id": "case1", "patient": "p1", "image": tmp_path / "i.nii"}
    return Case(**{**facts, "labels": {"": tmp_path / "l.nii"}, **changes})


@pytest.mark.parametrize(
    ("line", "where", "remedy"),
    [
        ("what", "", ""),
        ("where: what", "where", ""),
        ("what. Do this.", "", "Do this."),
        ("where: what. Do this.", "where", "Do this."),
    ],
)
def test_problem_says_where_what_and_what_to_do(line, where, remedy):
    assert str(Problem("what", where=where, remedy=remedy)) == line


def test_problem_survives_the_way_between_processes():
    sent = Problem("what", where="where", remedy="Do this.")
    came = pickle.loads(pickle.dumps(sent))  # noqa: S301  # made on the line itself
    assert type(came) is Problem
    assert (came.what, came.where, came.remedy) == ("what", "where", "Do this.")


def test_label_stands_for_its_own_id_unless_it_lists_raw_values():
    assert label(3).values == (3,)
    assert label(3, values=(7, 8)).values == (7, 8)


def test_refuses_a_tissue_that_is_not_in_the_vocabulary():
    assert Label(1, "core", (255, 0, 0), "blood", tissue="blood").tissue == "blood"
    with pytest.raises(ValueError, match="air, csf, grey_matter"):
        Label(1, "core", (255, 0, 0), "blood", tissue="clot")


def test_refuses_a_contrast_that_is_unknown_or_of_ct():
    assert dataset(contrast="T1w").contrast == "T1w"
    with pytest.raises(ValueError, match="T1w, T2w, FLAIR"):
        dataset(contrast="T1")
    with pytest.raises(ValueError, match="contrast is for MR"):
        dataset(modality="CT", window=Window(40, 80), contrast="T1w")


@pytest.mark.parametrize("name", ["", "Core", "grey matter", "2nd", "_core", "grey-matter", "a\n"])
def test_refuses_a_label_name_that_is_not_lower_case_words(name):
    with pytest.raises(ValueError, match="lower case"):
        label(name=name)


@pytest.mark.parametrize("colour", [(0, 0), (0, 0, 0, 0), (0, 0, 256), (-1, 0, 0)])
def test_refuses_a_colour_that_is_not_three_bytes(colour):
    with pytest.raises(ValueError, match=r"three of 0\.\.255"):
        label(colour=colour)


@pytest.mark.parametrize("meaning", ["", "  "])
def test_refuses_a_label_without_a_meaning(meaning):
    with pytest.raises(ValueError, match="state what it means"):
        label(meaning=meaning)


def test_label_map_counts_lists_and_finds_its_classes():
    lesion = label(1, values=(1, 2, 5))
    classes = LabelMap((BACKGROUND, lesion))
    assert len(classes) == 2
    assert list(classes) == [BACKGROUND, lesion]
    assert classes.foreground == (lesion,)
    assert classes.class_of == {0: 0, 1: 1, 2: 1, 5: 1}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param((BACKGROUND,), "2 to 255 classes", id="background only"),
        pytest.param((BACKGROUND, label(2)), "label ids are 0, 1, 2", id="a gap"),
        pytest.param((label(1), BACKGROUND), "label ids are 0, 1, 2", id="wrong order"),
        pytest.param((label(0), label(1, "rim")), "'background'", id="no background"),
        pytest.param((BACKGROUND, label(1), label(2, colour=(1, 2, 3))), "name", id="same name"),
        pytest.param((BACKGROUND, label(1, colour=BLACK)), "colour", id="same colour"),
        pytest.param((BACKGROUND, label(1, values=(1, 0))), "raw value 0", id="same raw value"),
        pytest.param(
            (BACKGROUND, *(label(n, f"c{n}", (n % 256, n // 256, 1)) for n in range(1, 257))),
            "2 to 255 classes",
            id="257 classes",
        ),
    ],
)
def test_refuses_a_label_map_that_is_ambiguous(labels, message):
    with pytest.raises(ValueError, match=message):
        LabelMap(labels)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"ignored_values": (1, 7)}, r"not both: \[1\]"),
        ({"ignored_values": (0xFF0000,), "coding": "colours"}, r"not both: \[16711680\]"),
        ({"ignored_values": (9,), "coding": "binary"}, "state the coding values"),
    ],
)
def test_refuses_values_that_are_ignored_and_a_class(facts, message):
    with pytest.raises(ValueError, match=message):
        dataset(**facts)


def test_a_class_id_as_a_value_may_be_ignored_where_labels_are_drawn_in_colours():
    assert dataset(ignored_values=(1,), coding="colours").ignored_values == (1,)


def test_refuses_a_class_in_the_colour_of_what_nobody_annotated():
    with pytest.raises(ValueError, match="marks what nobody annotated"):
        label(colour=IGNORED_COLOUR)


@pytest.mark.parametrize("slices", [(), (-1, 2)])
def test_refuses_annotated_slices_that_are_none_or_negative(tmp_path, slices):
    with pytest.raises(ValueError, match="one or more indices from 0"):
        case(tmp_path, annotated_slices=slices)


def test_window_is_centred_on_its_level():
    assert Window(level=40, width=80).bounds == (0, 80)


@pytest.mark.parametrize("width", [0, -80, float("nan")])
def test_refuses_a_window_without_width(width):
    with pytest.raises(ValueError, match="above 0 HU"):
        Window(40, width)


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 64, "md5:" + "f" * 32])
def test_accepts_sha256_and_md5(digest):
    assert RemoteFile("https://example.org/a.zip", digest).digest == digest


def test_a_remote_file_may_state_both_digests():
    file = RemoteFile("https://example.org/a.zip", f"md5:{'1' * 32} sha256:{'2' * 64}")
    assert file.digests == {"md5": "1" * 32, "sha256": "2" * 64}
    with pytest.raises(ValueError, match="one digest of a kind"):
        RemoteFile("https://example.org/a.zip", f"md5:{'1' * 32} md5:{'2' * 32}")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/files/a%20b.tar.gz?download=1", "a%20b.tar.gz"),
        ("https://example.org/12345", "12345"),
        ("http://127.0.0.1:8000/a.zip", "a.zip"),
    ],
)
def test_a_remote_file_has_the_name_at_the_end_of_its_path(url, name):
    assert RemoteFile(url, "md5:" + "0" * 32).name == name


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.org/a.zip", "begins with https"),
        ("http://127.0.0.1.example.org/a.zip", "begins with https"),
        ("ftp://example.org/a.zip", "begins with https"),
        ("file:///etc/passwd", "begins with https"),
        ("https://example.org/", "ends in the file's name"),
        ("https://example.org/..", "ends in the file's name"),
        ("https://example.org/.hidden", "ends in the file's name"),
    ],
)
def test_refuses_an_address_that_is_not_safe_or_names_no_file(url, message):
    with pytest.raises(ValueError, match=message):
        RemoteFile(url, "md5:" + "0" * 32)


@pytest.mark.parametrize(
    "digest", ["", " ", "0" * 64, "sha256:" + "0" * 63, "md5:" + "F" * 32, "sha1:" + "0" * 40]
)
def test_refuses_a_remote_file_without_a_proper_digest(digest):
    with pytest.raises(ValueError, match="a digest is"):
        RemoteFile("https://example.org/a.zip", digest)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instructions": ""}, "exactly one"),
        ({"recipe": "mni152_t1w"}, "exactly one"),
        ({"homepage": "http://example.org"}, "homepage"),
        ({"citation": " "}, "citation"),
        ({"instructions": "", "files": (REMOTE, REMOTE)}, "different names"),
    ],
)
def test_refuses_a_source_that_leaves_out_or_doubles_a_fact(changes, message):
    with pytest.raises(ValueError, match=message):
        source(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": "PET"}, "CT or MR"),
        ({"modality": "CT"}, "window"),
        ({"window": Window(40, 80)}, "window"),
        ({"plane": "oblique"}, "axial, coronal, sagittal"),
    ],
)
def test_refuses_a_dataset_whose_facts_do_not_fit_together(changes, message):
    with pytest.raises(ValueError, match=message):
        dataset(**changes)


def test_dataset_is_sliced_axially_by_default():
    assert dataset().plane == "axial"


@pytest.mark.parametrize("name", ["a", "0073410", "sub-01", "ID_1_ID_2", "a.b+c"])
def test_accepts_plain_case_and_patient_names(tmp_path, name):
    made = case(tmp_path, id=name, patient=name)
    assert (made.id, made.patient) == (name, name)


@every("what", ["id", "patient"])
@every("name", ["", "a/b", "../a", "a b", "_a", "a_", "a__b", ".a", "ä", "a\n"])
def test_refuses_names_that_are_no_safe_file_names(tmp_path, what, name):
    with pytest.raises(ValueError, match=f"a case's {what}"):
        case(tmp_path, **{what: name})


@pytest.mark.parametrize(
    "rater", ["=HYPERLINK(1)", "<script>", "a b", "../a", "@x", "-x", "+x", "a\n"]
)
def test_refuses_a_rater_whose_name_is_a_formula_markup_or_a_path(tmp_path, rater):
    with pytest.raises(ValueError, match="a case's rater"):
        case(tmp_path, labels={rater: tmp_path / "l.nii"})


@every("what", ["id", "patient"])
@every("start", ["=", "+", "-", "@", "\t", "\r", "."])
def test_no_name_begins_like_a_formula_or_a_hidden_file(tmp_path, what, start):
    with pytest.raises(ValueError, match=f"a case's {what}"):
        case(tmp_path, **{what: f"{start}1"})


@pytest.mark.parametrize("rater", ["", "1", "Reader-2", "A_1"])
def test_accepts_plain_rater_names_and_the_only_one(tmp_path, rater):
    assert case(tmp_path, labels={rater: tmp_path / "l.nii"}).labels.keys() == {rater}


@every(
    ("name", "made"),
    [
        ("x (1)", "x-1"),
        ("Müller", "Muller"),
        ("Weiß Ørsted", "Weiss-Orsted"),
        ("YARISMA_İSKEMİ", "YARISMA_ISKEMI"),
        ("=HYPERLINK(1)", "HYPERLINK-1"),
        ("../a", "a"),
        ("a__b", "a_b"),
        ("._a", "a"),
        ("a\n", "a"),
        ("", ""),
        ("()", ""),
    ],
)
def test_a_slug_is_readable_and_the_same_for_both_spellings(name, made):
    for form in ("NFC", "NFD"):
        assert slug(unicodedata.normalize(form, name)) == made


@given(st.text(max_size=150))
def test_a_slug_is_a_safe_name_or_nothing_and_its_own_slug(name):
    made = slug(name)
    assert is_slug(made) or (made == "" and not any(map(str.isalnum, name)))
    assert slug(made) == made


@given(st.text(st.sampled_from("aÄä患 (1)_-=."), max_size=110))
def test_what_is_a_slug_stays_as_it_is(name):
    assert (slug(name) == name) == (is_slug(name) or name == "")


@given(st.lists(st.text(st.sampled_from("aAä患 (1)_-"), min_size=1, max_size=4), max_size=6))
def test_different_names_have_different_slugs_in_any_order(names):
    named = [name for name in names if slug(name)]
    made = slugs(named)
    assert len(set(made.values())) == len({unicodedata.normalize("NFC", name) for name in named})
    assert all(made == slugs(order) for order in list(permutations(named))[:24])


def test_names_of_one_slug_both_say_which_they_are_and_a_plain_name_stays():
    made = slugs(["x (1)", "x 1", "x-1", "y 1"])
    assert made["x-1"] == "x-1"
    assert made["y 1"] == "y-1"
    assert made["x (1)"].startswith("x-1-")
    assert made["x 1"].startswith("x-1-")
    assert len(set(made.values())) == 4


def test_a_case_takes_anything_where_it_is_checked_later_and_only_there(tmp_path):
    with unchecked():
        made = case(tmp_path, id="x (1)", labels={"a b": tmp_path / "l.nii"}, split="validation")
    assert made.id == "x (1)"
    with pytest.raises(ValueError, match="a case's id"):
        dataclasses.replace(made, split="valid")


@pytest.mark.parametrize("file", ["/etc/p.tsv", "../p.tsv", "a/../p.csv", "p.xlsx", "p"])
def test_a_patients_table_is_a_csv_or_tsv_below_the_raw_folder(file):
    with pytest.raises(ValueError, match="below raw"):
        PatientsTable(file)


def test_a_patients_table_has_a_key():
    with pytest.raises(ValueError, match="identifies a case"):
        PatientsTable("p.tsv", key="")


def test_refuses_patients_that_are_unknown_and_stated():
    dataset(patients=PatientsTable("p.tsv", strata=("site",)), patients_unknown=True)
    with pytest.raises(ValueError, match="not both"):
        dataset(patients=PatientsTable("p.tsv", patient="person"), patients_unknown=True)


@pytest.mark.parametrize("strata", [{"age": 61}, {1: "A"}])
def test_refuses_strata_that_are_no_text(tmp_path, strata):
    with pytest.raises(ValueError, match="strata are text"):
        case(tmp_path, strata=strata)


def test_refuses_a_case_without_labels(tmp_path):
    with pytest.raises(ValueError, match="no label"):
        case(tmp_path, labels={})


def test_refuses_an_unknown_split(tmp_path):
    with pytest.raises(ValueError, match="split"):
        case(tmp_path, split="validation")


def test_case_keeps_its_own_labels(tmp_path):
    given = {"": tmp_path / "l.nii"}
    made = case(tmp_path, labels=given)
    given.clear()
    assert made.labels == {"": tmp_path / "l.nii"}


@pytest.mark.parametrize("value", [BACKGROUND, Window(40, 80), TERMS, source(), dataset()])
def test_values_are_frozen(value):
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, None)


def test_names_in_lists_the_union_sorted_and_leaves_hidden_files_out(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for file in ("b.nii.gz", "a.nii.gz", "._a.nii.gz", "notes.txt"):
        (images / file).touch()
    for file in ("b.nii.gz", "c.nii.gz"):
        (labels / file).touch()
    assert names_in(images, labels, suffix=".nii.gz") == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]


def test_names_in_refuses_a_missing_folder_by_name(tmp_path, refused):
    missing = tmp_path / "missing"
    assert str(missing) in str(refused(lambda: names_in(tmp_path, missing, suffix=".nii")))


def test_names_in_refuses_folders_without_such_files(tmp_path, refused):
    (tmp_path / "notes.txt").touch()
    problem = refused(lambda: names_in(tmp_path, suffix=".nii"))
    assert str(tmp_path) in str(problem)
    assert "*.nii" in str(problem)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("scan.nii", "scan.nii"),
        ("a\tb", "a\\tb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\udcff", "\\udcff"),
    ],
)
def test_a_problem_never_speaks_to_the_terminal(name: str, shown: str) -> None:
    """A file's name may hold escape sequences, and bytes that no text can be made of."""
    line = str(Problem("expected a file", where=name))
    assert line.startswith(f"{shown}: expected")
    assert line.encode("utf-8")
