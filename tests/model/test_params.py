"""Every parameter is stated, of its type and within its range; else the message names the place."""

import copy
import dataclasses
import os
import time
import typing
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from datasets_spec import names
from model import params
from model.planning import published
from pipeline.params import reader
from pipeline.params.dicom import USUAL
from pipeline.params.limits import Limits
from tests.conftest import PROJECT
from tests.support.every import every

SECTIONS = yaml.safe_load((PROJECT / "params.yaml").read_text("utf-8"))
SECTIONS = {field.name: SECTIONS[field.name] for field in dataclasses.fields(params.Params)}
NAME = "virtual_mni152"


def leaves(kind=params.Params, above=()):
    """The path of every leaf of the parameters: ("train", "network", "image_px"), ..."""
    for name, hint in typing.get_type_hints(kind).items():
        if getattr(hint, "PARTIAL", False):
            continue  # its leaves may be left out: see the tests of tolerances
        if dataclasses.is_dataclass(hint):
            yield from leaves(hint, (*above, name))
        else:
            yield (*above, name)


LEAVES = sorted(leaves())
every_leaf = every("path", LEAVES)


def at(path, value):
    """``value`` under a path of keys, as nested mappings."""
    for key in reversed(path):
        value = {key: value}
    return value


def mapping_of(content, path):
    for key in path:
        content = content[key]
    return content


@pytest.fixture
def write(tmp_path):
    """Writes a parameter file: the project's sections, changed, and one dataset's entry."""

    def call(change=lambda _: None, entry=None, **more):
        content = copy.deepcopy({"datasets": {NAME: entry}, **SECTIONS, **more})
        change(content)
        file = tmp_path / "params.yaml"
        file.write_text(yaml.safe_dump(content), "utf-8")
        return file

    return call


@pytest.fixture
def changed(write):
    """Loads the parameters with one leaf of a section set to a value."""

    def call(path, value):
        def change(content):
            mapping_of(content, path[:-1])[path[-1]] = value

        return params.load(NAME, write(change))

    return call


# --- what holds ------------------------------------------------------------------------------


def test_the_projects_own_file_loads_for_every_enabled_dataset():
    enabled = reader.enabled(PROJECT / "params.yaml")
    assert enabled
    assert set(enabled) <= set(names())
    for name in enabled:
        loaded = params.load(name, PROJECT / "params.yaml")
        assert loaded.train.network.image_px <= loaded.convert.image_px


def test_an_empty_entry_means_as_the_sections_say(write):
    loaded = params.load(NAME, write())
    for path in LEAVES:
        found = loaded
        for name in path:
            found = getattr(found, name)
        stated = mapping_of(SECTIONS, path)
        assert found == (tuple(stated) if isinstance(found, tuple) else stated)


def test_datasets_are_enabled_in_the_files_order(tmp_path):
    file = tmp_path / "params.yaml"
    listed = sorted(names(), reverse=True)
    assert len(listed) > 1
    file.write_text("datasets:\n" + "".join(f"  {name}:\n" for name in listed), "utf-8")
    assert reader.enabled(file) == tuple(listed)


@pytest.mark.parametrize("entry", [None, {"convert": {"id_salt": "mine, and secret"}}])
def test_a_salt_of_earlier_versions_names_its_new_place(write, refused, entry):
    def salted(content):
        if entry is None:
            content["convert"]["id_salt"] = "mine, and secret"

    problem = refused(lambda: params.load(NAME, write(salted, entry)))
    assert problem.where.endswith("convert")
    assert "FLEXUNET_ID_SALT" in problem.remedy
    assert "data/id_salt" in problem.remedy
    assert "mine, and secret" not in str(problem)


@every("path", LEAVES)
def test_no_parameter_has_a_name_that_dvc_does_not_track(path):
    # iterative/dvc #10296: a change of a parameter called size or nfiles goes unseen
    assert not {"size", "nfiles"} & set(path)


def test_tolerances_that_are_left_out_are_the_usual_ones(write):
    assert params.load(NAME, write()).convert.dicom == USUAL
    file = write(entry={"convert": {"dicom": {"off_line_mm": 0.4}}})
    assert params.load(NAME, file).convert.dicom == replace(USUAL, off_line_mm=0.4)

    def state(content):
        content["convert"]["dicom"] = {"tilt_degrees": 1}

    assert reader.tolerances(write(state)) == replace(USUAL, tilt_degrees=1.0)
    assert reader.tolerances(write()) == USUAL


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"off_line_mm": 9.0}, "off_line_mm: expected above 0 and at most 5, got 9.0"),
        (0.6, "dicom: expected a mapping of keys to values, got 0.6"),
        ([], "dicom: expected a mapping of keys to values, got []"),
        ({"off_line": 1.0}, "expected keys among"),
        ({"few_gaps": "many"}, "expected float, got 'many'"),
    ],
)
def test_tolerances_that_do_not_fit_are_refused(write, refused, stated, words):
    file = write(entry={"convert": {"dicom": stated}})
    assert words in str(refused(lambda: params.load(NAME, file)))
    assert words in str(refused(lambda: reader.tolerances(file, NAME)))


# --- what does not fit -------------------------------------------------------------------------


@every_leaf
def test_refuses_a_missing_key(write, refused, path):
    def drop(content):
        del mapping_of(content, path[:-1])[path[-1]]

    problem = str(refused(lambda: params.load(NAME, write(drop))))
    assert "params.yaml: " + ": ".join(path[:-1]) in problem
    assert f"expected the key {path[-1]!r}" in problem


@every_leaf
def test_refuses_a_misspelt_key_with_the_nearest_one(write, refused, path):
    def misspell(content):
        section = mapping_of(content, path[:-1])
        section[path[-1] + "x"] = section.pop(path[-1])

    problem = str(refused(lambda: params.load(NAME, write(misspell))))
    assert "params.yaml: " + ": ".join(path[:-1]) in problem
    assert f"got {path[-1] + 'x'!r}" in problem
    assert f"Did you mean {path[-1]!r}?" in problem


@every_leaf
@every("value", [None, {"a": 1}, [["b"]]])
def test_refuses_a_value_of_no_such_type(changed, refused, path, value):
    problem = str(refused(lambda: changed(path, value)))
    assert "params.yaml: " + ": ".join(path) in problem
    assert "expected" in problem


@every(
    ("path", "value"),
    [
        ("convert.image_px", 512.0),
        ("convert.shards", 1.5),
        ("convert.shards", True),
        ("convert.image_px", "512"),
        ("convert.mr_percentiles", [1.0]),
        ("convert.mr_percentiles", [1, 2, 3]),
        ("augment.empty_slices", "no"),
        ("augment.empty_slices", 0),
        ("augment.variants", ["HorizontalFlip"]),
        ("augment.variants", {"flipped": ["HorizontalFlip"]}),
        ("augment.variants", {"flipped": {"HorizontalFlip": None}}),
        ("augment.variants", {1: []}),
        ("split.mini_test", True),
        ("split.shares", [0.7, 0.15, 0.15]),
        ("train.network", "small"),
        ("train.learning_rate", True),
        ("train.loss", 5),
        ("evaluate.worst_cases", "2 * 16"),
    ],
)
def test_refuses_a_wrong_type(changed, refused, path, value):
    path = path.split(".")
    problem = str(refused(lambda: changed(path, value)))
    assert "params.yaml: " + ": ".join(path) in problem


@every(
    ("path", "value"),
    [
        ("convert.image_px", 15),
        ("convert.shards", -1),
        ("convert.shards", 100_000),
        ("convert.shards", "many"),
        ("convert.store", "bucket/brains"),
        ("convert.image_px", 4097),
        ("convert.mr_percentiles", [99.5, 0.5]),
        ("convert.mr_percentiles", [-1, 99]),
        ("convert.mr_percentiles", [1, 101]),
        ("augment.variants", {"a__b": []}),
        ("augment.variants", {"_a": []}),
        ("augment.variants", {".a": []}),
        ("augment.variants", {"a/b": []}),
        ("augment.variants", {"../a": []}),
        ("augment.variants", {"": []}),
        ("augment.variants", {"a": [{}]}),
        ("augment.variants", {"a": [{"VerticalFlip": None, "HorizontalFlip": None}]}),
        ("augment.variants", {"a": [{"HorizontalFlip": 1}]}),
        ("split.shares.train", 0.8),
        ("split.shares.test", 0.0),
        ("split.empty_slices.train", 1.1),
        ("split.empty_slices.valid", -0.1),
        ("split.mini_test", 0),
        ("train.network.channels", 2),
        ("train.network.num_layers", 1),
        ("train.network.base_filters", 0),
        ("train.network.base_kernels", 1),
        ("train.network.base_kernels", 4),
        ("train.network.dilation", 0),
        ("train.network.dropout_rate", 1.0),
        ("train.network.dropout_rate", 0.25),
        ("train.network.dropout_rate", -0.1),
        ("train.seed", -1),
        ("train.seed", 10**13),
        ("train.network.normalization", "layer"),
        ("train.focal_gamma", -1.0),
        ("train.tversky_alpha", 1.0),
        ("train.optimizer", "sgd"),
        ("train.weight_decay", 1.0),
        ("train.schedule", "step"),
        ("train.clipnorm", -1.0),
        ("train.accumulate_batches", 0),
        ("train.precision", "int8"),
        ("train.jit", "on"),
        ("train.foreground_oversampling", 1.5),
        ("train.network.image_px", 0),
        ("train.network.picture_px", -1),
        ("train.network.picture_px", 127),
        ("train.network.picture_px", 128),
        ("train.network.picture_px", 4097),
        ("train.loss", "mse"),
        ("augment.mode", "never"),
        ("train.monitor", "loss"),
        ("train.learning_rate", 0.0),
        ("train.learning_rate", float("nan")),
        ("train.clipvalue", -0.5),
        ("train.batch_pairs", 0),
        ("train.epochs", 0),
        ("train.steps_per_epoch", -1),
        ("train.early_stopping_patience", 0),
        ("train.reducer_factor", 1.0),
        ("train.reducer_patience", 0),
        ("train.epoch_change_pictures", -1),
        ("evaluate.worst_cases", -1),
    ],
)
def test_refuses_a_value_out_of_range(changed, refused, path, value):
    section, *_, leaf = path = path.split(".")
    problem = str(refused(lambda: changed(path, value)))
    assert f"params.yaml: {section}" in problem
    assert ("three positive shares" if "shares" in path else leaf) in problem
    assert "got" in problem


@pytest.mark.parametrize(("layers", "px", "near"), [(5, 100, (96, 112)), (8, 500, (384, 512))])
def test_a_picture_that_cannot_be_halved_so_often_names_the_nearest(
    write, refused, layers, px, near
):
    entry = {"train": {"network": {"num_layers": layers, "image_px": px}}}
    problem = str(refused(lambda: params.load(NAME, write(entry=entry))))
    assert f"{near[0]} or {near[1]}" in problem
    assert f"got {px}" in problem


@pytest.mark.parametrize(("layers", "px"), [(5, 16), (5, 112), (8, 512)])
def test_a_picture_that_can_be_halved_so_often_is_accepted(write, layers, px):
    entry = {"train": {"network": {"num_layers": layers, "image_px": px}}}
    assert params.load(NAME, write(entry=entry)).train.network.image_px == px


@pytest.mark.parametrize(("px", "whole"), [(128, 0), (128, 129), (128, 4096), (16, 512)])
def test_pictures_may_be_larger_than_the_parts_that_are_seen(write, px, whole):
    entry = {"train": {"network": {"image_px": px, "picture_px": whole}}}
    network = params.load(NAME, write(entry=entry)).train.network
    assert (network.picture_px, network.whole_px) == (whole, whole or px)


def test_a_picture_of_thousands_of_parts_is_refused(write, refused):
    entry = {"train": {"network": {"image_px": 16, "picture_px": 513}}}
    problem = str(refused(lambda: params.load(NAME, write(entry=entry))))
    assert "picture_px: expected 0, or above image_px (16) to 512, got 513" in problem


def test_a_number_that_yaml_reads_as_text_gets_a_hint(tmp_path, write, refused):
    file = write()
    rate = f"learning_rate: {SECTIONS['train']['learning_rate']}"
    text = file.read_text("utf-8")
    assert rate in text
    file.write_text(text.replace(rate, "learning_rate: 7e-5"), "utf-8")
    problem = str(refused(lambda: params.load(NAME, file)))
    assert "learning_rate" in problem
    assert "'7e-5'" in problem
    assert "1.0e-3" in problem


@every("path", ["train.weight_decay", "split.shares.valid", "train.learning_rate"])
@every("value", [float("nan"), float("inf"), -float("inf")])
def test_refuses_a_number_that_is_not_finite(changed, refused, path, value):
    path = path.split(".")
    problem = str(refused(lambda: changed(path, value)))
    assert f"params.yaml: {': '.join(path)}: expected a finite number, got {value}" in problem


def test_refuses_an_argument_that_is_not_finite(changed, refused):
    variants = {"bent": [{"Elastic": {"sd_px": float("inf"), "sigma_px": 8.0}}]}
    problem = str(refused(lambda: changed(("augment", "variants"), variants)))
    assert "params.yaml: augment: variants: expected a finite number, got inf" in problem


@pytest.mark.parametrize("name", ["reducer_factor", "tversky_alpha"])
@pytest.mark.parametrize("value", [0, 1])
def test_a_bound_that_is_not_in_the_range_is_reported(changed, refused, name, value):
    problem = str(refused(lambda: changed(("train", name), value)))
    assert f"{name}: expected above 0 to below 1, got {float(value)}" in problem


def test_dropout_of_the_deepest_level_is_below_one(changed, refused):
    assert changed(("train", "network", "dropout_rate"), 0.24).train.network.num_layers == 5
    problem = str(refused(lambda: changed(("train", "network", "dropout_rate"), 0.25)))
    assert "dropout_rate: expected 0 to below 0.25 (times 4" in problem


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_the_whole_range_of_seeds_is_accepted(changed, seed):
    assert changed(("train", "seed"), seed).train.seed == seed


def test_gradients_are_clipped_in_one_way_only(write, refused):
    entry = {"train": {"clipvalue": 0.5, "clipnorm": 1.0}}
    assert "clipnorm" in str(refused(lambda: params.load(NAME, write(entry=entry))))


@pytest.mark.parametrize(
    "name",
    [
        "network.block",
        "network.deep_supervision",
        "network.input_normalization",
        "ema_momentum",
        "warm_up_steps",
        "overlap_over",
        "label_smoothing",
        "boundary_weight",
        "boundary_px",
    ],
)
def test_an_option_that_gained_nothing_is_to_be_left_out(changed, refused, name):
    path = ("train", *name.split("."))
    problem = str(refused(lambda: changed(path, "none")))
    assert f"{': '.join(path[:-1])}: the parameter {path[-1]!r} no longer exists" in problem
    assert "Leave it out" in problem


@pytest.mark.parametrize("kind", [params.Train, params.Network])
def test_the_documents_list_every_parameter_of_the_trainer(kind):
    text = (PROJECT / "docs/reference/parameters.md").read_text("utf-8")
    table = text[text.index("## train") : text.index("## evaluate")]
    for field in dataclasses.fields(kind):
        assert f"| `{field.name}" in table or f"| `network.{field.name}`" in table


def test_the_reference_projects_presets_take_no_setting_from_the_sections():
    """What we find better later must not creep into what they published."""
    text = yaml.safe_load((PROJECT / "params.yaml").read_text("utf-8"))["presets"]
    free = {"seed", "jit", "tensorboard", "dvclive", "weight_decay"}
    free |= {"focal_gamma", "tversky_alpha"}  # other losses'
    wanted = {field.name for field in dataclasses.fields(params.Train)} - free
    network = {field.name for field in dataclasses.fields(params.Network)}
    theirs = [name for name in text if not name.endswith(published.SUFFIX)]
    reference_projects = [name for name in theirs if name != "msd_hippocampus"]
    assert len(reference_projects) == 5
    for name in reference_projects:
        assert wanted <= set(text[name]["train"])
        assert set(text[name]["train"]["network"]) == network


def test_whole_numbers_are_taken_for_real_ones(changed):
    loaded = changed(("train", "clipvalue"), 1)
    assert loaded.train.clipvalue == 1.0
    assert type(loaded.train.clipvalue) is float


# --- overrides -------------------------------------------------------------------------------


def test_an_override_merges_leaf_by_leaf(write):
    entry = {"train": {"epochs": 3, "network": {"dropout_rate": 0.1}}, "split": {"mini_test": 2}}
    plain, loaded = params.load(NAME, write()), params.load(NAME, write(entry=entry))
    assert plain.train.epochs != 3
    network = dataclasses.replace(plain.train.network, dropout_rate=0.1)
    assert loaded == dataclasses.replace(
        plain,
        train=dataclasses.replace(plain.train, epochs=3, network=network),
        split=dataclasses.replace(plain.split, mini_test=2),
    )


@pytest.mark.parametrize(
    "name", ["hflipped", "deformed_alpha_1300_sigmoid_8", "distorted_0.02_rsigma0.5_sigma40", "a-1"]
)
def test_a_variant_may_have_the_name_that_the_reference_projects_gave_it(changed, name):
    assert list(changed(["augment", "variants"], {name: []}).augment.variants) == [name]


@pytest.mark.parametrize("variants", [{}, {"flipped": [{"HorizontalFlip": None}]}])
def test_an_override_replaces_the_variants_whole(write, variants):
    plain = params.load(NAME, write())
    loaded = params.load(NAME, write(entry={"augment": {"variants": variants}}))
    assert set(plain.augment.variants) - set(variants)
    assert loaded.augment == dataclasses.replace(plain.augment, variants=variants)


def test_an_override_holds_for_its_dataset_alone(write):
    def enable(content):
        content["datasets"] = dict.fromkeys(names())
        content["datasets"][NAME] = {"train": {"epochs": 3}}

    others = set(names()) - {NAME}
    assert others
    plain, file = params.load(NAME, write()), write(enable)
    assert params.load(NAME, file).train.epochs == 3
    assert all(params.load(name, file) == plain for name in others)


@pytest.mark.parametrize("section", ["convert", "augment", "split", "train"])
def test_an_empty_section_of_an_entry_changes_nothing(write, section):
    plain = params.load(NAME, write())
    assert params.load(NAME, write(entry={section: None})) == plain
    assert params.load(NAME, write(entry={section: {}})) == plain


@pytest.mark.parametrize(
    ("entry", "near"), [({"trian": {}}, "train"), ({"splits": {"mini_test": 2}}, "split")]
)
def test_refuses_an_unknown_section_of_an_entry(write, refused, entry, near):
    problem = str(refused(lambda: params.load(NAME, write(entry=entry))))
    assert f"datasets.{NAME}" in problem
    assert f"Did you mean {near!r}?" in problem


def test_refuses_to_score_one_dataset_otherwise_than_the_others(write, refused):
    entry = {"evaluate": {"worst_cases": 1}}
    problem = str(refused(lambda: params.load(NAME, write(entry=entry))))
    assert f"datasets.{NAME}" in problem
    assert "evaluate" in problem


@pytest.mark.parametrize("entry", ["", 0, [], "as the sections say"])
def test_refuses_an_entry_that_is_no_mapping(write, refused, entry):
    assert f"datasets.{NAME}" in str(refused(lambda: params.load(NAME, write(entry=entry))))


@pytest.mark.parametrize("value", [5, "fast", 0, False, [], ""], ids=repr)
def test_refuses_a_section_of_an_entry_that_is_no_mapping(write, refused, value):
    problem = str(refused(lambda: params.load(NAME, write(entry={"train": value}))))
    assert "train" in problem
    assert "mapping" in problem


@pytest.mark.parametrize("path", ["train.epochs", "train.network.dilation", "split.mini_test"])
@pytest.mark.parametrize("value", [0, "few"])
def test_a_wrong_override_is_named_where_it_stands(write, refused, path, value):
    entry = at(path.split("."), value)
    problem = str(refused(lambda: params.load(NAME, write(entry=entry))))
    assert path.split(".")[-1] in problem
    assert f"datasets.{NAME}" in problem


# --- datasets and presets ----------------------------------------------------------------------


def test_refuses_a_dataset_that_does_not_exist_with_the_nearest_one(write, refused):
    problem = str(refused(lambda: params.load("virtual_mni125", write())))
    assert "'virtual_mni125'" in problem
    assert f"Did you mean {NAME!r}?" in problem


def test_refuses_a_file_that_enables_an_unknown_dataset(write, refused):
    def enable(content):
        content["datasets"]["virtual_mni125"] = None

    assert "'virtual_mni125'" in str(refused(lambda: params.load(NAME, write(enable))))


def test_refuses_a_dataset_that_is_not_enabled_and_says_how_to(write, refused):
    other = next(name for name in names() if name != NAME)
    problem = str(refused(lambda: params.load(other, write())))
    assert NAME in problem
    assert f"'  {other}:'" in problem


@pytest.mark.parametrize("datasets", [None, {}, [NAME], NAME])
def test_refuses_a_file_that_enables_no_dataset(write, refused, datasets):
    def change(content):
        content["datasets"] = datasets

    assert "datasets" in str(refused(lambda: reader.enabled(write(change))))


def test_presets_are_checked_and_lead_to_parameters(write, refused):
    presets = {"small": {"train": {"epochs": 3}}, "plain": None}
    found = params.presets(write(presets=presets))
    assert found.keys() == presets.keys()
    plain = params.load(NAME, write())
    assert found["plain"] == plain
    assert found["small"].train == dataclasses.replace(plain.train, epochs=3)
    presets["small"]["trian"] = {}
    assert "presets.small" in str(refused(lambda: params.presets(write(presets=presets))))


def test_a_dataset_may_refer_to_a_preset(tmp_path, write):
    file = write()
    text = file.read_text("utf-8").replace(f"{NAME}: null", f"{NAME}: *small")
    file.write_text("presets:\n  small: &small\n    train: {epochs: 3}\n" + text, "utf-8")
    assert params.load(NAME, file).train.epochs == 3


LEVELS = {
    "a section among the datasets": (
        f"datasets:\n  {NAME}:\n  train: {{epochs: 3}}\n",
        ["params.yaml: datasets:", "section 'train'", "Indent 'train:' below the dataset"],
    ),
    "a leaf in an entry": (
        f"datasets:\n  {NAME}:\n    epochs: 3\n",
        [f"datasets.{NAME}", "'epochs' belongs to train: indent it below that"],
    ),
    "a leaf of the network in train": (
        f"datasets:\n  {NAME}:\n    train: {{num_layers: 3}}\n",
        [f"datasets.{NAME}", "'num_layers' belongs to train.network"],
    ),
    "a leaf at the margin": (
        f"datasets:\n  {NAME}:\nepochs: 3\n",
        ["params.yaml:", "'epochs' belongs to train: indent it below that"],
    ),
    "a section in a section": (
        f"datasets:\n  {NAME}:\n    train: {{split: {{mini_test: 2}}}}\n",
        ["'split'", "Write 'split:' at the margin, or indented below a dataset's name"],
    ),
    "a dataset at the margin": (
        f"datasets:\n  {NAME}:\naisd:\n",
        ["'aisd'", "A dataset stands below 'datasets:', indented by two"],
    ),
    "a dataset in a dataset": (
        f"datasets:\n  {NAME}:\n    aisd:\n",
        [f"datasets.{NAME}", "A dataset stands below 'datasets:', indented by two"],
    ),
    "a dataset with a dash": ("datasets:\n  - aisd\n", ["Write '  aisd:'", "without a dash"]),
    "a dataset without colon": ("datasets:\n  aisd\n", ["Write '  aisd:'", "with the colon"]),
    "two datasets without colon": ("datasets:\n  aisd\n  mbh_seg25\n", ["Write '  aisd:'"]),
    "a dataset without colon below another": (
        f"datasets:\n  {NAME}:\n  aisd\n",
        ["could not find expected ':'", "line 4"],
    ),
    "a word that YAML takes for a truth": (
        "datasets:\n  yes:\n",
        ["expected a dataset's name, got True"],
    ),
    "a number": ("datasets:\n  2021:\n", ["expected a dataset's name, got 2021"]),
    "nothing for a name": ("datasets:\n  ~:\n", ["expected a dataset's name, got None"]),
}


@every(("lines", "message"), LEVELS.values())
def test_a_key_at_the_wrong_level_is_sent_where_it_belongs(tmp_path, refused, lines, message):
    file = tmp_path / "params.yaml"
    file.write_text(lines + yaml.safe_dump(SECTIONS), "utf-8")
    problem = str(refused(lambda: params.load(NAME, file)))
    assert [words for words in message if words not in problem] == []


@pytest.mark.parametrize("name", ["x;touch pwned", "$(touch pwned)", "x\ntouch pwned", "../x"])
def test_a_name_that_a_shell_would_obey_is_no_dataset(write, refused, name):
    assert repr(name) in str(refused(lambda: reader.enabled(write(datasets={name: None}))))


# --- the file itself ---------------------------------------------------------------------------


def test_refuses_a_section_that_does_not_exist(write, refused):
    problem = str(refused(lambda: params.load(NAME, write(evaluation={}))))
    assert "'evaluation'" in problem
    assert "Did you mean 'evaluate'?" in problem


@pytest.mark.parametrize("section", sorted(SECTIONS.keys() - {"limits"}))
def test_refuses_a_file_without_a_section(write, refused, section):
    assert section in str(refused(lambda: params.load(NAME, write(lambda c: c.pop(section)))))


def test_limits_may_be_left_out(write):
    assert params.load(NAME, write(lambda c: c.pop("limits"))).limits == Limits()


def test_refuses_a_missing_file_and_says_where_to_run(tmp_path, refused):
    problem = str(refused(lambda: params.load(NAME, tmp_path / "params.yaml")))
    assert str(tmp_path / "params.yaml") in problem
    assert "--params" in problem


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"just text", id="text"),
        pytest.param(b"datasets: [a,\n train: {", id="no YAML"),
        pytest.param(b"train: !!python/object/apply:os.getcwd []", id="Python in YAML"),
        pytest.param(b"\xff\xfe\x00\x80", id="no text"),
    ],
)
def test_refuses_a_file_that_is_no_mapping_in_yaml(tmp_path, refused, content):
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    assert str(file) in str(refused(lambda: params.load(NAME, file)))


def laughs(times):
    """A list that unfolds to 10 ** times values, in that many lines."""
    lines = ["a0: &a0 [1]"] + [
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, times + 1)
    ]
    return "\n".join(lines)


HOSTILE = {
    "nested lists": ("augment: " + "[" * 20_000, "more than 32 levels"),
    "nested mappings": ("augment: " + "{a: " * 20_000, "more than 32 levels"),
    "nested by aliases": (
        "a0: &a0 [1]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 2000)),
        "32 levels",
    ),
    "a billion laughs": (laughs(9), "100,000 values"),
    "a billion merges": (
        "a0: &a0 {x: 1}\n"
        + "\n".join(
            f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 10)
        ),
        "100,000 values",
    ),
    "what holds itself": ("a: &a [*a]", "100,000 values"),
    "a merge of itself": ("a: &a {<<: *a}", "100,000 values"),
    "a number of 5,000 digits": ("train: {epochs: " + "9" * 5000 + "}", "line 1"),
    "a number of 4,000 digits": ("train: {epochs: " + "9" * 4000 + "}", "a number of 13288 bits"),
    "a hexadecimal of 9,000 digits": ("train: {epochs: 0x" + "f" * 9000 + "}", "36000 bits"),
    "a day that is none": ("train: {epochs: 2001-99-99}", "line 1"),
    "a truth that is none": ("train: {epochs: !!bool maybe}", "line 1"),
    "no number at all": ("train: {epochs: !!int ''}", "line 1"),
    "a list as key": ("? [a]\n: b", "unhashable key"),
    "a key that stands twice, one of them a list": ("? [a]\n: b\n? [a]\n: c", "unhashable key"),
    "a file of two megabytes": ("# " + "x" * 2_000_000, "at most 1,000,000 bytes"),
    "100,000 keys": ("\n".join(f"a{n}: 1" for n in range(60_000)), "100,000 values"),
}


@pytest.mark.parametrize(("text", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_one_line_at_once(tmp_path, refused, text, message):
    file = tmp_path / "params.yaml"
    file.write_text(text, "utf-8")
    begin = time.process_time()
    problem = str(refused(lambda: params.load(NAME, file)))
    assert message in problem
    assert str(file) in problem
    assert len(problem) < 1000
    assert time.process_time() - begin < 20


def test_a_long_value_is_cut_where_it_is_shown(changed, refused):
    problem = str(refused(lambda: changed(["train", "loss"], "x" * 10_000)))
    assert "got 'xxx" in problem
    assert len(problem) < 500


@every("key", [1, None, True, 1.5, "a\nb"])
@every("path", [[], ["train"], ["train", "network"], ["datasets", NAME]])
def test_a_key_that_is_no_word_is_refused_in_one_line(write, refused, path, key):
    def add(content):
        content["datasets"][NAME] = {}
        mapping_of(content, path)[key] = 1

    assert repr(key) in str(refused(lambda: params.load(NAME, write(add))))


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_file_without_end_is_not_read(tmp_path, refused, kind):
    file = tmp_path / "params.yaml"
    os.mkfifo(file) if kind == "pipe" else file.symlink_to("/dev/zero")
    assert "expected a regular file" in str(refused(lambda: params.load(NAME, file)))


def test_another_projects_file_is_recognised(workplace, refused):
    Path("params.yaml").write_text("prepare: {split: 0.2}\ntrain: {lr: 0.1}\n", "utf-8")
    problem = str(refused(lambda: reader.enabled()))
    assert str(PROJECT / "params.yaml") in problem
    assert "another project's" in problem


def test_where_there_is_no_file_the_projects_root_is_named(workplace, refused):
    assert str(PROJECT) in str(refused(lambda: reader.enabled()))


def test_refuses_a_folder_as_parameter_file(tmp_path, refused):
    assert str(tmp_path) in str(refused(lambda: params.load(NAME, tmp_path)))


def test_refuses_a_key_that_stands_twice(workplace, refused):
    text = (
        (PROJECT / "params.yaml")
        .read_text("utf-8")
        .replace("split:\n  seed:", "split:\n  seed: 1\n  seed:")
    )
    Path("params.yaml").write_text(text, "utf-8")
    assert "the key 'seed' twice" in str(refused(lambda: params.load("virtual_mni152")))


def test_merged_mappings_may_be_merged_again(workplace):
    text = (
        (PROJECT / "params.yaml")
        .read_text("utf-8")
        .replace(
            "presets:\n",
            "presets:\n  one: &one {train: &t {epochs: 3, seed: 1}}\n"
            "  two: {train: &u {<<: *t, epochs: 4}}\n  three: {train: {<<: *u, epochs: 5}}\n",
        )
    )
    Path("params.yaml").write_text(text, "utf-8")
    found = params.presets(Path("params.yaml"))
    assert [found[name].train.epochs for name in ("one", "two", "three")] == [3, 4, 5]


def test_a_wrong_indentation_names_its_line(tmp_path, refused):
    file = tmp_path / "params.yaml"
    file.write_text("datasets:\n  virtual_mni152:\n convert:\n  image_px: 64\n")
    problem = str(refused(lambda: reader.enabled(file)))
    assert "in line 3 (is it indented like its neighbours?)" in problem


def test_an_unknown_dataset_below_datasets_names_the_parameter_file(tmp_path, refused):
    file = tmp_path / "params.yaml"
    file.write_text("datasets:\n  virtual_mni15:\n")
    problem = refused(lambda: reader.enabled(file))
    assert str(problem.where) == f"{file}: datasets"
    assert "Did you mean 'virtual_mni152'?" in str(problem)
