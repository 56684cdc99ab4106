"""nnU-Net v2 on given folds for a given time, for :mod:`head_to_head`.

    PEER_PYTHON tests/benchmarks/head_to_head_peer.py prepare
    PEER_PYTHON tests/benchmarks/head_to_head_peer.py train CONFIGURATION FOLD MINUTES

Run by a Python that has nnU-Net, which finds its folders by its own variables of the environment;
it imports nothing of this project. Everything is nnU-Net's default (plans, batch and patch, losses,
augmentation, SGD, mirror images at prediction, the last weights) but for the length: epochs are as
short as it takes to have about fifty of them in MINUTES of the clock, its learning rate falls by
its own power of .9 over these minutes instead of over 1,000 epochs, and training ends with them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprints,
    plan_experiments,
    preprocess,
)
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

DATASET_ID, DATASET = 4, "Dataset004_Hippocampus"
CONFIGURATIONS = ("2d", "3d_fullres")
_EPOCHS, _POWER = 50, 0.9
_TRIAL = 3  # iterations by which the length of an epoch is chosen
_JUDGED = 5  # iterations of training for one of validation, as by default (250 to 50)


class Timed(nnUNetTrainer):
    """Trains for ``minutes`` from its first iteration, online validation included."""

    minutes, iterations = 1.0, 0

    def run_training(self) -> None:
        """As nnU-Net's, in as many short epochs as there is time for."""
        self.on_train_start()
        start, limit = time.monotonic(), 60 * self.minutes
        self.num_iterations_per_epoch = self._iterations(limit)
        judged = max(1, self.num_iterations_per_epoch // _JUDGED)
        while (passed := time.monotonic() - start) < limit:
            self.lr_scheduler = _Falling(self.optimizer, self.initial_lr, passed / limit)
            self.on_epoch_start()
            self.on_train_epoch_start()
            outputs = []
            for _ in range(self.num_iterations_per_epoch):
                outputs.append(self.train_step(next(self.dataloader_train)))
                self.iterations += 1
                if time.monotonic() - start >= limit:
                    break
            self.on_train_epoch_end(outputs)
            with torch.no_grad():
                self.on_validation_epoch_start()
                batches = [next(self.dataloader_val) for _ in range(judged)]
                self.on_validation_epoch_end([self.validation_step(one) for one in batches])
            self.on_epoch_end()
        self.on_train_end()

    def _iterations(self, limit: float) -> int:
        """Iterations of an epoch; those that measure it train too."""
        self.network.train()
        self.train_step(next(self.dataloader_train))
        start = time.monotonic()
        for _ in range(_TRIAL):
            self.train_step(next(self.dataloader_train))
        self.iterations += 1 + _TRIAL
        each = (time.monotonic() - start) / _TRIAL
        return max(1, min(250, round(limit / _EPOCHS / each)))


class _Falling:
    """The learning rate where a share of the time has passed; a scheduler as nnU-Net calls it."""

    def __init__(self, optimizer: torch.optim.Optimizer, initial: float, passed: float) -> None:
        self.optimizer, self.rate = optimizer, initial * (1 - min(passed, 1.0)) ** _POWER

    def step(self, _: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate


def prepare() -> None:
    """Fingerprint, plans and preprocessed cases."""
    count = os.cpu_count() or 1
    extract_fingerprints([DATASET_ID], num_processes=count, check_dataset_integrity=True)
    plan_experiments([DATASET_ID])
    preprocess([DATASET_ID], configurations=CONFIGURATIONS, num_processes=[count])


def train(configuration: str, fold: int, minutes: float) -> None:
    """Train and predict the fold; ``timing.json`` beside its predictions says how long it took."""
    torch.set_num_threads(multiprocessing.cpu_count())
    torch.set_num_interop_threads(1)
    base = Path(os.environ["nnUNet_preprocessed"]) / DATASET  # noqa: SIM112  # theirs
    plans = json.loads((base / "nnUNetPlans.json").read_text("utf-8"))
    plans["continue_training"] = False
    dataset = json.loads((base / "dataset.json").read_text("utf-8"))
    trainer = Timed(plans, configuration, fold, dataset, torch.device("cpu"))
    trainer.minutes = minutes
    start = time.monotonic()
    trainer.run_training()
    trained = time.monotonic()
    trainer.perform_actual_validation()
    timing = {
        "train_s": trained - start,
        "predict_s": time.monotonic() - trained,
        "weights": sum(one.numel() for one in trainer.network.parameters()),
        "batch": trainer.configuration_manager.batch_size,
        "patch": list(trainer.configuration_manager.patch_size),
        "iterations": trainer.iterations,
    }
    (Path(trainer.output_folder) / "timing.json").write_text(json.dumps(timing), "utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare()
    else:
        train(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
