"""python -m model <verb> ...: parse, load parameters, call."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.__main__ import (
    Verb,
    add_table,
    dataset_option,
    debug_wanted,
    end,
    guarded,
    params_option,
    wanted_datasets,
)

if TYPE_CHECKING:
    from model import params
    from pipeline.__main__ import Verbs


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, or 2 for an error that a user can correct."""
    return guarded(lambda: run(_parser().parse_args(arguments)), debug_wanted(arguments))


def _runs_option(parser: ArgumentParser) -> None:
    parser.add_argument("run_a", type=Path, help="a run's folder, as evaluate filled it")
    parser.add_argument("run_b", type=Path, help="another run's folder")


def _pictures_option(parser: ArgumentParser) -> None:
    import datasets_spec

    names = ", ".join(datasets_spec.names())
    parser.add_argument("dataset", help=f"whose model to use; known: {names}")
    parser.add_argument("--input", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--output", type=Path, required=True, help="folder for the masks")
    parser.add_argument("--probabilities", action="store_true", help="also <name>.npz")
    parser.add_argument("--overlays", action="store_true", help="also overlays/<name>.png")


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
    from model.compare import compare

    compare(options.run_a, options.run_b)


# Verbs import Keras after the parameters were read, so that --help and errors come at once.


def _inspect(options: Namespace) -> None:
    def act(dataset: str, settings: params.Params) -> None:
        from model.inspect import inspect

        inspect(dataset, settings)

    _of_each_dataset(options, act)


def _train(options: Namespace) -> None:
    def act(dataset: str, settings: params.Params) -> None:
        from model.train import train

        train(dataset, settings)

    _of_each_dataset(options, act)


def _evaluate(options: Namespace) -> None:
    def act(dataset: str, settings: params.Params) -> None:
        from model.evaluate import evaluate

        evaluate(dataset, settings)

    _of_each_dataset(options, act)


def _predict(options: Namespace) -> None:
    def act(dataset: str, settings: params.Params) -> None:
        from model.predict import predict

        shown = (options.probabilities, options.overlays)
        predict(dataset, settings, options.input, options.output, *shown)

    _of_each_dataset(options, act)


def _export(options: Namespace) -> None:
    from model.export import export
    from pipeline.runtime import shortages

    with shortages.named(f"export {options.model}"):
        export(options.model, options.format, options.output)


_OF_A_DATASET = (dataset_option, params_option)
VERBS = {
    "preflight": Verb(
        "check every dataset's name and parameters, before any work begins",
        "",
        (params_option,),
        _preflight,
    ),
    "inspect": Verb(
        "list and draw the network: levels, parameters, GFLOP, receptive field",
        "virtual_mni152",
        _OF_A_DATASET,
        _inspect,
    ),
    "train": Verb(
        "train a FlexUNet on data/dataset/<dataset>", "virtual_mni152", _OF_A_DATASET, _train
    ),
    "evaluate": Verb(
        "score it on the test split, in the source's own grid",
        "virtual_mni152",
        _OF_A_DATASET,
        _evaluate,
    ),
    "compare": Verb(
        "what one run does better than another on the same test cases, paired",
        "runs/before runs/after",
        (_runs_option,),
        _compare,
    ),
    "predict": Verb(
        "masks of a folder of PNG or JPEG pictures, at their own size",
        "virtual_mni152 --input pictures --output masks",
        (_pictures_option, params_option),
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
        description="Inspect, train, score and use FlexUNets.",
        epilog="Example: python -m model train virtual_mni152",
    )
    add_verbs(parser.add_subparsers(dest="verb", required=True, metavar="verb"), parser.prog)
    return parser


def add_verbs(verbs: Verbs, prog: str) -> None:
    """Add the model's verbs with their options to a parser that is called by ``prog``."""
    add_table(VERBS, verbs, prog)


if __name__ == "__main__":
    end(main())
