"""The page's content: complete, honest about what is missing, small, the same every time."""

from __future__ import annotations

import csv
import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
import yaml

from datasets_spec.contract import Label, LabelMap
from model import learningcurve, provenance
from model.evaluate import evaluate
from model.scoring import learning_curve
from pipeline import paths
from pipeline.audit import audit
from pipeline.pages import of_run, plots, tiles
from pipeline.pairs import manifest
from pipeline.params import reader as params
from pipeline.report import report
from pipeline.runtime import modelfile
from pipeline.volumes.findings import finding, to_json
from tests.conftest import Refused
from tests.support import cohort
from tests.support.models import save_untrained

pytestmark = pytest.mark.slow

RUN = paths.run(cohort.DATASET)


@pytest.fixture
def settings(workplace: Path) -> params.Params:
    """A prepared cohort without a run."""
    return cohort.prepare()


def _page() -> str:
    report([cohort.DATASET], paths.PARAMS)
    return (paths.REPORT / "index.html").read_text("utf-8")


def _evaluated(settings: params.Params) -> None:
    save_untrained(cohort.DATASET, settings)
    evaluate(cohort.DATASET, settings)


def test_a_dataset_without_a_run_says_so(settings: params.Params) -> None:
    page = _page()
    assert "Not evaluated yet" in page
    assert "not evaluated yet" in (paths.REPORT / "summary.txt").read_text("utf-8")
    assert "Learning curves" not in page


def test_scores_of_an_earlier_model_are_not_shown(settings: params.Params) -> None:
    _evaluated(settings)
    (RUN / paths.METRICS).unlink()  # as train does
    assert "Not evaluated yet" in _page()


def test_everything_is_in_one_file_that_states_its_size(settings: params.Params) -> None:
    _evaluated(settings)
    page = _page()
    beside = {file.name for file in paths.REPORT.iterdir()}
    assert beside == {"index.html", "summary.txt", "cases"}
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    outside = [one for one in sources if not one.startswith(("data:", "#", "https://", "cases/"))]
    assert not outside
    assert not re.findall(r'src="cases', page)  # a link, not a part of the page
    assert not re.findall(r'src="https?:', page)
    assert "@import" not in page
    assert f"{len(page.encode()) / 1e6:.1f} MB" in page
    assert len(page.encode()) < 1e6


def test_scores_stand_with_their_intervals_beside_the_all_background_row(
    settings: params.Params,
) -> None:
    _evaluated(settings)
    page = _page()
    found = json.loads((RUN / paths.SCORES).read_text("utf-8"))
    for row in ("model", "all_background"):
        dice = found[row]["mean_foreground"]["dice"]
        shown = f'{dice["mean"]:.3f} <span class="soft">[{dice["low"]:.3f}, {dice["high"]:.3f}]'
        assert shown in page
        assert f"{found[row]['reference']['dice_coef_multiclass']:.4f}" in page
    assert found["definitions"]["empty_masks"] in page
    assert "2 patients are too few" in page
    summary = (paths.REPORT / "summary.txt").read_text("utf-8")
    assert f"{found['model']['mean_foreground']['dice']['mean']:.3f}" in summary


def test_worst_cases_come_first_with_their_picture(settings: params.Params) -> None:
    _evaluated(settings)
    page = _page()
    worst = json.loads((RUN / paths.SCORES).read_text("utf-8"))["worst"]
    places = [page.index(one["picture"], page.index("Worst cases first")) for one in worst]
    assert places == sorted(places)
    assert page.index("Worst cases first") < page.index("Pictures of mini_test")


def test_every_test_case_is_scrolled_in_a_folder_beside_the_page(
    settings: params.Params,
) -> None:
    _evaluated(settings)
    page = _page()
    cases = {
        pair.case for pair in manifest.read(paths.dataset(cohort.DATASET)) if pair.split == "test"
    }
    index = f"cases/{cohort.DATASET}/index.html"
    links = set(re.findall(r'href="(cases/[^"]*)"', page))
    assert links == {index, *(f"{index}#{case}" for case in cases)}
    for case in cases:
        view = paths.REPORT / "cases" / cohort.DATASET / "view" / case
        kept = RUN / paths.PREDICTIONS / "view" / case
        assert {file.name: file.read_bytes() for file in view.iterdir()} == {
            file.name: file.read_bytes() for file in kept.iterdir()
        }


def test_without_such_pages_nothing_links_to_them(settings: params.Params) -> None:
    changed = replace(settings, evaluate=replace(settings.evaluate, viewed_cases=0))
    _evaluated(changed)
    assert "cases/" not in re.findall(r'href="([^"]*)"', _page())
    assert not (paths.REPORT / "cases").exists()


def test_the_page_begins_with_the_best_the_median_and_the_worst_case(
    settings: params.Params,
) -> None:
    _evaluated(settings)
    page = _page()
    scores = json.loads((RUN / paths.SCORES).read_text("utf-8"))
    dice = [scores[name]["dice"] for name in ("best", "median")] + [scores["worst"][0]["dice"]]
    assert dice == sorted(dice, reverse=True)
    start, end = page.index("Best, median and worst test case"), page.index("Scores on the test")
    for name in ("best", "worst"):
        assert page.count(f"{name} test case: mean foreground Dice", start, end) == 1
    top = page[start:end]
    assert top.index(scores["best"]["picture"]) < top.index(scores["worst"][0]["picture"])


def test_same_files_give_the_same_bytes(settings: params.Params) -> None:
    _evaluated(settings)
    assert _page() == _page()


def test_labels_in_doubt_are_listed_with_their_slices(settings: params.Params) -> None:
    _evaluated(settings)
    assert "Labels in doubt" not in _page()
    audit(cohort.DATASET)
    with (RUN / paths.AUDIT).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))[:20]
    page = _page()
    links = re.findall(r'href="(cases/[^"]*:[0-9]+)"', page)
    index = f"cases/{cohort.DATASET}/index.html"
    assert links == [f"{index}#{row['case']}:{row['slice']}" for row in rows]
    assert page.count('<td class="text">open</td>') == len(rows)


def test_what_more_patients_would_give_is_drawn(settings: params.Params) -> None:
    assert "Would more patients help?" not in _page()
    trainings = [
        learning_curve.Training(size, seed, (0.9 - 0.5 / size + 0.01 * seed, 0.85 - 0.5 / size))
        for size in (4, 8, 16)
        for seed in (1, 2)
    ]
    learningcurve.write(cohort.DATASET, trainings, 16)
    page = _page()
    start = page.index("Would more patients help?")
    drawn = page[start : page.index("</figure>", start)]
    assert drawn.count('<circle class="dot"') == len(trainings)
    assert drawn.count('<polygon class="band"') == 1
    assert "with 16 more" in drawn
    assert "with 200 more" in drawn


@pytest.mark.parametrize(
    ("tissue", "regions", "without", "counted"),
    [
        ("blood", 20, 0, True),
        ("csf", 9, 1, False),
        ("", 20, 0, False),  # one in every case: a part of the anatomy
        ("", 22, 0, False),  # and a stray voxel in two
        ("", 23, 0, True),
        ("", 20, 1, True),
    ],
)
def test_regions_are_counted_of_lesions_alone(
    tissue: str, regions: int, without: int, counted: bool
) -> None:
    label_map = LabelMap(
        (
            Label(0, "background", (0, 0, 0), "all else"),
            Label(1, "one", (200, 0, 0), "it", tissue=tissue),
        )
    )
    found = {"lesions": {"truth": regions}, "negative": {"cases": without}}
    scores = {"test_cases": 20, "model": {"classes": {"one": found}}}
    assert of_run.lesions(scores, label_map) == ["one"][: int(counted)]


def test_a_page_of_anatomy_speaks_of_no_lesions(settings: params.Params) -> None:
    _evaluated(settings)
    assert [one for one in (">Lesion F1<", ">lesions found<") if one in _page()] == []


def test_counts_are_those_of_the_manifest(settings: params.Params) -> None:
    page = _page()
    pairs = manifest.read(paths.dataset(cohort.DATASET))
    row = re.search(r'<tr><th scope="row">train</th>(.*?)</tr>', page)
    assert row is not None
    members = [pair for pair in pairs if pair.split == "train"]
    originals = [pair for pair in members if not pair.parent]
    numbers = [int(value) for value in re.findall(r'data-v="(\d+)"', row[1])]
    assert numbers[:5] == [
        len({pair.patient for pair in members}),
        len({pair.case for pair in members}),
        len(originals),
        sum(pair.empty for pair in originals),
        len(members) - len(originals),
    ]
    assert numbers[5:] == np.sum([pair.class_pixels for pair in members], axis=0).tolist()


def test_text_of_others_cannot_become_markup(settings: params.Params) -> None:
    card = paths.dataset(cohort.DATASET) / paths.CARD
    content = json.loads(card.read_text("utf-8"))
    content["label_tables"] = {"<script>alert(1)</script>": 3}
    card.write_text(json.dumps(content), "utf-8")
    assert "<script>alert" not in _page()


def test_curves_are_drawn_for_what_valid_has_too(settings: params.Params) -> None:
    RUN.mkdir(parents=True)
    (RUN / paths.HISTORY).write_text(
        "epoch,learning_rate,loss,val_loss\n0,0.1,1.0,1.5\n1,0.1,0.5,0.75\n", "utf-8"
    )
    page = _page()
    assert "Loss; after epoch 2: train 0.500, valid 0.750." in page
    assert page.count('class="line series2" points') == 1
    assert "Every other curve" not in page


def test_loss_and_foreground_dice_come_first_and_others_are_folded(
    settings: params.Params,
) -> None:
    RUN.mkdir(parents=True)
    names = ("dice_csf", "foreground_dice", "loss", "iou_csf")
    heads = ",".join(f"{name},val_{name}" for name in names)
    (RUN / paths.HISTORY).write_text(f"epoch,{heads}\n0{',0.5' * 8}\n1{',0.75' * 8}\n", "utf-8")
    shown, folded = _page().split("<summary>Every other curve (2)</summary>")
    assert [name in shown for name in ("Loss; ", "Foreground dice; ", "Dice csf; ")] == [
        True,
        True,
        False,
    ]
    assert "Dice csf; " in folded
    assert "Iou csf; " in folded


@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_a_curve_stays_in_its_frame(epochs: int) -> None:
    curve = list(np.linspace(0.2, 0.9, epochs))
    svg = plots.lines("dice", {"train": curve, "valid": curve[::-1]}, "curves")
    points = re.findall(r"([\d.]+),([\d.]+)", " ".join(re.findall(r'points="([^"]*)"', svg)))
    assert len(points) == 2 * epochs
    assert all(0 <= float(x) <= 460 and 0 <= float(y) <= 240 for x, y in points)


def test_an_outline_runs_around_its_class(label_map: LabelMap) -> None:
    ids = np.zeros((64, 64), np.uint8)
    ids[10:20, 30:50] = 2
    [outline] = tiles.outlines(ids, label_map, 64)
    assert outline.label.id == 2
    start = [float(value) for value in re.findall(r"[\d.]+", outline.path.partition("l")[0])]
    assert start == pytest.approx([30, 10], abs=0.5)
    assert outline.path.endswith("z")


def test_a_single_pixel_has_an_outline(label_map: LabelMap) -> None:
    ids = np.zeros((64, 64), np.uint8)
    ids[5, 7] = 1
    [outline] = tiles.outlines(ids, label_map, 64)
    assert outline.path.startswith("M7 5")


@pytest.mark.parametrize(
    ("name", "before", "after", "what"),
    [
        ("train.epochs", "2", "1", "the model"),
        ("evaluate.nsd_tolerance_mm", "1.0", "3.0", "the scores"),
        ("split.mini_test", "6", "4", "the pairs"),
    ],
)
def test_parameters_that_have_changed_since_a_run_stand_beside_it(
    name: str, before: str, after: str, what: str, settings: params.Params
) -> None:
    _evaluated(settings)
    assert "is no longer that of" not in _page()
    cohort.write_params(**{name: json.loads(after)})
    page = _page()
    assert f"The parameter file is no longer that of {what}: see Parameters" in page
    row = re.search(rf'<tr><th scope="row">{name}</th>(.*?)</tr>', page)
    assert row is not None
    assert re.findall(r">([^<>]+)</td>", row[1]) == [what, before, after]


def test_a_model_of_other_pairs_is_called_one(settings: params.Params) -> None:
    _evaluated(settings)
    folder = paths.dataset(cohort.DATASET)
    pairs = manifest.read(folder)
    manifest.write(folder, [replace(pairs[0], licence="another"), *pairs[1:]])
    assert "The model was trained on other pairs" in _page()


def test_labels_are_called_probed_only_where_they_were(settings: params.Params) -> None:
    assert "Labels were probed in 6 of 6 cases (amount in 6, brightness in 6" in _page()
    file = paths.dataset(cohort.DATASET) / paths.CARD
    content = json.loads(file.read_text("utf-8"))
    content["probed_labels"] |= {"tissues": 0, "rules": {}, "cases": 0}
    file.write_text(json.dumps(content), "utf-8")
    page = _page()
    assert "Labels were not probed: no label names a tissue." in page
    assert "look like the tissue" not in page


def test_what_labels_obey_stands_on_the_page(settings: params.Params) -> None:
    assert "Not asked: that takes 12 patients of train" in _page()
    file = paths.dataset(cohort.DATASET) / paths.CARD
    content = json.loads(file.read_text("utf-8"))
    stated = content["label_rules"]
    stated |= {"patients": 30}
    file.write_text(json.dumps(content), "utf-8")
    assert "is one piece in nearly all of 30 patients" in _page()
    stated |= {"rules": [{"sentence": "head & tail are divided by a coronal plane"}]}
    file.write_text(json.dumps(content), "utf-8")
    assert "<li>head &amp; tail are divided by a coronal plane.</li>" in _page()
    del content["label_rules"]  # as cards were
    file.write_text(json.dumps(content), "utf-8")
    assert "What the labels obey" not in _page()


def test_label_rules_that_were_tried_stand_with_their_gain(settings: params.Params) -> None:
    _evaluated(settings)
    file = RUN / paths.SCORES
    scores = json.loads(file.read_text("utf-8"))
    assert scores["label_rules"] == []
    assert "<dt>label rules</dt>" not in _page()
    gain = {"gain": 0.0123, "low": 0.001, "high": 0.02, "valid_patients": 9}
    scores["label_rules"] = [{"words": "head is one piece", "kept": True, **gain}]
    file.write_text(json.dumps(scores), "utf-8")
    assert "head is one piece: kept (+0.0123 Dice [+0.0010, +0.0200] on 9 valid" in _page()


def _recorded(page: str) -> dict[str, object]:
    """The parameters that the page says this was made with."""
    shown = re.search(r"made with</summary><pre[^>]*>(.*?)</pre>", page, re.DOTALL)
    assert shown is not None
    return dict(yaml.safe_load(html.unescape(shown[1])))


def test_the_parameters_are_those_of_the_run_and_not_of_the_file_today(
    settings: params.Params,
) -> None:
    _evaluated(settings)
    before = _recorded(_page())
    assert sorted(before) == ["augment", "convert", "evaluate", "split", "train"]
    cohort.write_params(
        **{"train.epochs": 1, "evaluate.nsd_tolerance_mm": 3.0, "split.mini_test": 4}
    )
    page = _page()
    assert _recorded(page) == before
    assert "The parameter file is no longer that of the model, the pairs, the scores" in page


def test_where_nothing_is_trained_the_parameters_of_the_pairs_are_shown(
    settings: params.Params,
) -> None:
    assert sorted(_recorded(_page())) == ["augment", "convert", "split"]


def test_each_section_is_rendered_once(
    settings: params.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = []
    render = jinja2.Template.render

    def counted(template: jinja2.Template, **values: Any) -> str:
        rendered.append(template.name)
        return render(template, **values)

    monkeypatch.setattr(jinja2.Template, "render", counted)
    _page()
    assert (rendered.count("section.html"), rendered.count("row.html")) == (1, 1)


def test_a_report_that_fails_leaves_the_one_before(
    settings: params.Params, refused: Refused
) -> None:
    before = _page()
    card = paths.dataset(cohort.DATASET) / paths.CARD
    card.write_text("{}", "utf-8")
    refused(_page)
    assert (paths.REPORT / "index.html").read_text("utf-8") == before
    assert [file.name for file in Path().glob("*report*")] == [paths.REPORT.name]


def test_a_model_that_does_not_say_how_it_was_trained_is_named(
    settings: params.Params, refused: Refused
) -> None:
    save_untrained(cohort.DATASET, settings)
    content = modelfile.read(RUN / paths.MODEL)
    del content["train"]
    provenance.renew(RUN / paths.MODEL, content)
    problem = refused(_page)
    assert problem.where == str(RUN / paths.MODEL)
    assert "expected train in its provenance.json" in problem.what


def test_findings_stand_in_words_by_what_they_mean(settings: params.Params) -> None:
    folder = paths.dataset(cohort.DATASET)
    tilt, disagree = (
        finding("gantry-tilt", degrees=12.0, aside_mm=1.0),
        finding("spacing-disagrees", step_mm=5.0, stated_mm=2.5),
    )
    content = to_json([tilt, disagree])
    pairs = manifest.read(folder)
    manifest.write(folder, [replace(pair, findings=content) for pair in pairs])
    doubts, _, handled = _page().partition("In doubt")[2].partition("Handled")
    assert str(disagree) in doubts
    assert str(disagree) not in handled
    assert str(tilt) in handled
    assert str(tilt) not in doubts


def test_findings_of_an_earlier_version_are_named_with_what_to_do(
    settings: params.Params, refused: Refused
) -> None:
    folder = paths.dataset(cohort.DATASET)
    pairs = manifest.read(folder)
    manifest.write(folder, [replace(pair, findings="padding: 3 %") for pair in pairs])
    assert "dvc repro" in refused(_page).remedy


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("content", ["", "{}", "[]", "3", '{"model": 3}', DEEP, "\0", "a,b\n1,2\n"])
@pytest.mark.parametrize("name", [paths.SCORES, paths.PER_CASE, paths.CONFUSION, paths.CARD])
def test_a_file_of_nonsense_is_named_in_one_line(
    name: str, content: str, refused: Refused, ready: Path
) -> None:
    folder = paths.dataset(cohort.DATASET) if name == paths.CARD else RUN
    file = folder / name
    before = file.read_bytes()
    try:
        file.write_text(content, "utf-8")
        problem = refused(_page)
    finally:
        file.write_bytes(before)
    assert str(folder) in problem.where
    assert "dvc repro" in problem.remedy


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (paths.PER_CASE, ",0.", ",nan,0."),
        (paths.PER_CASE, ",0.", ",high,0."),
        (paths.SCORES, '"mean": 0.', '"mean": NaN, "other": 0.'),
        (paths.CONFUSION, "csf,csf,", "csf,csf,x"),
    ],
)
def test_what_is_no_number_is_named_in_one_line(
    name: str, old: str, new: str, refused: Refused, ready: Path
) -> None:
    before = (RUN / name).read_text("utf-8")
    assert old in before
    try:
        (RUN / name).write_text(before.replace(old, new, 1), "utf-8")
        assert refused(_page).where == str(RUN / name)
    finally:
        (RUN / name).write_text(before, "utf-8")


def test_scores_that_lack_a_part_are_named_in_one_line(refused: Refused, ready: Path) -> None:
    file = RUN / paths.SCORES
    before = file.read_bytes()
    content = json.loads(before)
    del content["model"]["classes"]["csf"]["nsd"]
    try:
        file.write_text(json.dumps(content), "utf-8")
        assert refused(_page).where == str(file)
    finally:
        file.write_bytes(before)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an evaluated cohort."""
    folder = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _evaluated(cohort.prepare())
    return folder


@pytest.fixture
def ready(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder is the evaluated cohort's; who changes a file puts it back."""
    monkeypatch.chdir(evaluated)
    return evaluated
