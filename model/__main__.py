"""python -m model <verb> ...: parse, load parameters, call."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.__main__ import (
    Verb,
    add_table,
    cluster_of,
    cluster_option,
    dataset_option,
    debug_wanted,
    end,
    guarded,
    named_by_stage,
    params_option,
    positive,
    wanted_datasets,
)

if TYPE_CHECKING:
    from model import params
    from pipeline.__main__ import Verbs


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, or 2 for an error that a user can correct."""
    return guarded(lambda: run(_parser().parse_args(arguments)), debug_wanted(arguments))


def _network_option(parser: ArgumentParser) -> None:
    dataset_option(parser, "; or a member's name, from params.yaml")


def _processes_option(parser: ArgumentParser) -> None:
    text = "of this machine, each of which trains on its part of every batch (with JAX); default:"
    text += f" ${_PROCESSES}, or 'processes' in the parameter file, or 1"
    parser.add_argument("--processes", type=positive, default=None, metavar="N", help=text)


def _runs_option(parser: ArgumentParser) -> None:
    text = "a run's folder, as evaluate filled it, or its folds, as crossvalidate did; two of them"
    parser.add_argument("runs", type=Path, nargs="+", metavar="run", help=text)
    text = "one or several runs that B is; then those before are A, such as of several seeds"
    parser.add_argument("--against", type=Path, nargs="+", default=[], metavar="RUN", help=text)


def _folds_options(parser: ArgumentParser) -> None:
    text = "how many, 3 or more (split.folds, or 5 where that is 0)"
    parser.add_argument("--folds", type=int, default=0, metavar="K", help=text)
    text = "only these, counted from 0, such as on one of several machines (all)"
    parser.add_argument("--fold", type=int, nargs="+", default=[], metavar="N", help=text)


def _curve_options(parser: ArgumentParser) -> None:
    text = "on how many of train's patients, three or more (all, and three halvings)"
    parser.add_argument("--patients", type=int, nargs="+", default=[], metavar="N", help=text)
    text = "trainings on each number, each on other patients (2)"
    parser.add_argument("--seeds", type=int, default=0, metavar="K", help=text)


def _predict_options(parser: ArgumentParser) -> None:
    from model.delivery.wish import SEG_KINDS
    from model.inference.mirrors import MIRRORS

    add = parser.add_argument
    add("model", help="a dataset's name (its run), a run's folder, or a model file")
    add("inputs", nargs="+", type=Path, metavar="input", help="scans, pictures, folders of them")
    add("--output", type=Path, required=True, help="folder for masks, table and page")
    add("--ensemble", nargs="+", default=[], metavar="MODEL", help="more models, for an ensemble")
    add(
        "--channel",
        action="append",
        default=[],
        metavar="NAME=PATTERN",
        help="names of the scans of a sequence, such as t1w='*_T1w.nii.gz' (repeat for each)",
    )
    add("--volume", default="", metavar="KEY", help='of scans that hold several: "echo 2"')
    add("--mirrors", choices=MIRRORS, default="auto", help="mean over mirror images (auto)")
    add("--seg", choices=SEG_KINDS, default="auto", help="DICOM SEG of DICOM series (auto)")
    add("--probabilities", action="store_true", help="also a map for each class")
    add("--uncertainty", action="store_true", help="also entropy and the models' disagreement")
    add("--overlays", action="store_true", help="also PNG pictures with outlines")
    add("--film", action="store_true", help="also an animated WebP of the slices")
    add("--no-page", action="store_true", help="without index.html")
    add("--anonymous", action="store_true", help="hash all names, and write no DICOM SEG")
    add("--params", type=Path, help="take limits from this parameter file")


def _export_option(parser: ArgumentParser) -> None:
    parser.add_argument("model", help="a dataset's name, a run's folder or a model file")
    formats = ("onnx", "saved_model", "litert", "openvino")
    parser.add_argument("--format", choices=formats, default="onnx", help="the default is onnx")
    parser.add_argument(
        "--output", type=Path, help="a file *.onnx, or a folder; by default beside the model"
    )


def _of_each_dataset(options: Namespace, act: Callable[[str, params.Params], None]) -> None:
    from model import params
    from pipeline.pairs import identities
    from pipeline.runtime import shortages

    for dataset in wanted_datasets(options):
        settings = params.load(dataset, options.params)
        with shortages.named(f"{options.verb} {dataset}"), identities.explaining(dataset):
            act(dataset, settings)


def _preflight(options: Namespace) -> None:
    from model.preflight import preflight

    preflight(options.params)


def _compare(options: Namespace) -> None:
    from datasets_spec.contract import Problem
    from model.compare import compare

    a, b = options.runs, options.against
    if not b and len(a) != 2:
        raise Problem(
            f"expected two runs, got {len(a)}",
            where="compare",
            remedy="Where a side is several runs, write: compare A1 A2 --against B1 B2",
        )
    compare(*((a, b) if b else ([a[0]], [a[1]])))


def _plan_options(parser: ArgumentParser) -> None:
    text = "of this machine, for all networks of a dataset (default: %(default)s)"
    parser.add_argument("--minutes", type=_minutes, default=30.0, help=text)
    parser.add_argument("--print", action="store_true", help="show the plan, write nothing")


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 1 <= minutes <= _MOST_MINUTES:
        raise ArgumentTypeError(f"expected 1 to {_MOST_MINUTES} minutes, got {text!r}")
    return minutes


# Verbs import Keras after the parameters were read, so that --help and errors come at once.


def _plan(options: Namespace) -> None:
    from pipeline.runtime import allocator

    allocator.keep_freed()  # steps are timed as a training takes them

    def act(dataset: str, _: params.Params) -> None:
        from model.plan import plan
        from model.planning import machine

        plan(dataset, options.params, options.minutes, machine.here(), options.print)

    _of_each_dataset(options, act)


def _inspect(options: Namespace) -> None:
    def act(dataset: str, settings: params.Params) -> None:
        from model.inspect import inspect

        inspect(dataset, settings)

    _of_each_dataset(options, act)


def _processes(options: Namespace) -> int:
    """How many processes train: as the option, the environment or the parameter file says.

    One of several that were started by hand, on this machine or others, starts no more.
    """
    from datasets_spec.contract import Problem
    from pipeline.params import reader

    if _BY_HAND in os.environ:
        if options.processes:
            raise Problem(
                f"expected --processes or processes that were started by hand ({_BY_HAND}), got"
                " both",
                where="--processes",
                remedy=f"Leave it out, or unset {_BY_HAND}.",
            )
        return 1
    stated = os.environ.get(_PROCESSES, "")
    try:
        return options.processes or (
            positive(stated) if stated else reader.processes(options.params)
        )
    except ArgumentTypeError as error:
        raise Problem(str(error), where=_PROCESSES) from None


def _train(options: Namespace) -> None:
    import datasets_spec
    from datasets_spec.contract import Problem
    from pipeline.params import reader
    from pipeline.runtime import allocator

    allocator.keep_freed()
    count, members = _processes(options), reader.members(options.params)
    options.dataset = options.dataset or named_by_stage("member")
    names = list(wanted_datasets(options))
    if not options.dataset and not named_by_stage(options.verb):
        names += members
    known = (*datasets_spec.names(), *members)
    for name in names:
        if members and name not in known:
            raise Problem(
                f"expected a dataset or a member, one of {', '.join(known)}, got {name!r}",
                where=options.params,
                remedy="Members are named below 'members:'.",
            )
    if names[1:] and _BY_HAND in os.environ:
        raise Problem(
            f"expected one dataset, got {', '.join(names)}",
            where=_BY_HAND,
            remedy="Processes that were started by hand train one: name it, and start them anew"
            " for the next.",
        )
    for name in names:
        of_member = name in members
        _, settings = _settings_of(name, of_member, options.params)
        if count == 1:
            train_one(name, of_member, options.params)
            continue
        # by the name that others can import: as a program, this module has none
        from model.__main__ import train_one as importable
        from model.training import launch

        task = partial(importable, name, of_member, options.params)
        launch.run(task, count, name, settings.train.batch_pairs)


def _settings_of(name: str, of_member: bool, file: Path) -> tuple[str, params.Params]:
    """The dataset of a network, and its parameters."""
    from model import params

    return params.load_member(name, file) if of_member else (name, params.load(name, file))


def train_one(name: str, of_member: bool, file: Path) -> None:
    """Train one network, in this process or as one of several."""
    from pipeline.pairs import identities
    from pipeline.runtime import shortages

    dataset, settings = _settings_of(name, of_member, file)
    with shortages.named(f"train {name}"), identities.explaining(dataset):
        from model.train import train

        train(dataset, settings, name if of_member else "")


def _evaluate(options: Namespace) -> None:
    def act(dataset: str, settings: params.Params) -> None:
        from model.evaluate import evaluate

        evaluate(dataset, settings, cluster_of(options))

    _of_each_dataset(options, act)


def _ensemble(options: Namespace) -> None:
    from datasets_spec.contract import Problem
    from model import params
    from pipeline.pairs import identities
    from pipeline.runtime import shortages

    named = options.dataset or named_by_stage(options.verb)
    for dataset in wanted_datasets(options):
        settings = params.load(dataset, options.params)
        wanted = params.ensemble(dataset, options.params)
        if wanted is None:
            if named:
                raise Problem(
                    f"expected {dataset} below 'ensembles:', found none",
                    where=options.params,
                    remedy="Add it there, and at least one network of it below 'members:'.",
                )
            continue
        members = {
            name: params.load_member(name, options.params)[1]
            for name in params.members(dataset, options.params)
        }
        with shortages.named(f"ensemble {dataset}"), identities.explaining(dataset):
            from model.ensemble import ensemble

            ensemble(dataset, wanted, settings, members)


def _crossvalidate(options: Namespace) -> None:
    def act(dataset: str, settings: params.Params) -> None:
        from model.crossvalidate import crossvalidate

        crossvalidate(dataset, settings, options.params, options.folds, options.fold)

    _of_each_dataset(options, act)


def _learningcurve(options: Namespace) -> None:
    def act(dataset: str, settings: params.Params) -> None:
        from model.learningcurve import learningcurve

        learningcurve(dataset, settings, options.params, options.patients, options.seeds)

    _of_each_dataset(options, act)


def _predict(options: Namespace) -> None:
    from model.delivery.wish import Wish
    from model.inference import places, sequences
    from model.predict import predict
    from pipeline.params.limits import Limits
    from pipeline.runtime import shortages

    limits = Limits()
    if options.params:
        from pipeline.params import reader

        limits = reader.limits(options.params)
    wish = Wish(
        seg=options.seg,
        view=not options.no_page,
        overlays=options.overlays,
        film=options.film,
        probabilities=options.probabilities,
        uncertainty=options.uncertainty,
        anonymous=options.anonymous,
    )
    models = [places.model_file(one) for one in (options.model, *options.ensemble)]
    with shortages.named("predict"):
        predict(
            models,
            options.inputs,
            options.output,
            wish,
            options.mirrors,
            limits,
            sequences.stated(options.channel),
            options.volume,
            cluster_of(options),
        )


def _export(options: Namespace) -> None:
    from model.export import export
    from pipeline.runtime import shortages

    with shortages.named(f"export {options.model}"):
        export(options.model, options.format, options.output)


_MOST_MINUTES = 100_000  # 69 days
_PROCESSES = "FLEXUNET_PROCESSES"
_BY_HAND = "KERAS_DISTRIBUTION_NUM_PROCESSES"
_OF_A_DATASET = (dataset_option, params_option)
VERBS = {
    "preflight": Verb(
        "check every dataset's name and parameters, before any work begins",
        "",
        (params_option,),
        _preflight,
    ),
    "plan": Verb(
        "look at a converted dataset and at this machine, and write its entry of params.yaml",
        "msd_hippocampus --minutes 30",
        (*_OF_A_DATASET, _plan_options),
        _plan,
    ),
    "inspect": Verb(
        "list and draw the network: levels, parameters, GFLOP, receptive field",
        "virtual_mni152",
        _OF_A_DATASET,
        _inspect,
    ),
    "train": Verb(
        "train a FlexUNet on data/dataset/<dataset>",
        "virtual_mni152",
        (_network_option, params_option, _processes_option),
        _train,
    ),
    "evaluate": Verb(
        "score it on the test split, in the source's own grid",
        "virtual_mni152",
        (*_OF_A_DATASET, cluster_option),
        _evaluate,
    ),
    "ensemble": Verb(
        "fuse a dataset's networks into one bundle, scored as one and one by one",
        "virtual_mni152",
        _OF_A_DATASET,
        _ensemble,
    ),
    "crossvalidate": Verb(
        "train and score fold by fold, and pool the patients",
        "virtual_mni152 --folds 5",
        (dataset_option, _folds_options, params_option),
        _crossvalidate,
    ),
    "learningcurve": Verb(
        "train on fewer patients, and say what more of them would give",
        "virtual_mni152 --patients 2 4 8",
        (dataset_option, _curve_options, params_option),
        _learningcurve,
    ),
    "compare": Verb(
        "what one run does better than another on the same test cases, paired",
        "runs/before runs/after",
        (_runs_option,),
        _compare,
    ),
    "predict": Verb(
        "masks of scans and pictures, in their own grid, with a table and a page",
        "virtual_mni152 scans --output masks",
        (_predict_options, cluster_option),
        _predict,
    ),
    "export": Verb(
        "write a trained network for use without TensorFlow, by default as ONNX",
        "virtual_mni152 --format onnx",
        (_export_option,),
        _export,
    ),
}


def run(options: Namespace) -> None:
    """Run the verb that the options of :func:`add_verbs` name."""
    VERBS[options.verb].run(options)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m model",
        description="Plan, inspect, train, score and use FlexUNets.",
        epilog="Example: python -m model train virtual_mni152",
    )
    add_verbs(parser.add_subparsers(dest="verb", required=True, metavar="verb"), parser.prog)
    return parser


def add_verbs(verbs: Verbs, prog: str) -> None:
    """Add the model's verbs with their options to a parser that is called by ``prog``."""
    add_table(VERBS, verbs, prog)


if __name__ == "__main__":
    end(main())
