"""dvc repro from raw scans to the report: once, again for nothing, and only what changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import FIXTURES, PROJECT

SMALL: dict[str, Any] = {
    "convert": {"image_px": 64},
    "train": {
        "network": {"image_px": 32, "base_filters": 4, "num_layers": 3},
        "epochs": 2,
        "batch_pairs": 4,
    },
}


def merge(base: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = value


class Project:
    """A copy of the project with tiny parameters and the fixtures as raw data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        skipped = shutil.ignore_patterns(".*", "data", "runs", "report", "dvc.lock", "__pycache__")
        shutil.copytree(PROJECT, folder, ignore=skipped, dirs_exist_ok=True)
        for name in (".dvc", ".dvcignore", ".gitignore"):
            source = PROJECT / name
            if source.is_dir():
                (folder / name).mkdir()
                shutil.copy(source / "config", folder / name / "config")
            else:
                shutil.copy(source, folder / name)
        for name in ("virtual_mni152", "virtual_ncct"):
            shutil.copytree(FIXTURES / name / "raw", folder / "data" / "raw" / name)
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
        self.change(SMALL)
        self.enable("virtual_mni152")

    def enable(self, *datasets: str) -> None:
        """Let these datasets, and no others, be enabled, as the sections say."""
        self.change({"datasets": None})
        self.change({"datasets": dict.fromkeys(datasets)})

    def change(self, changes: dict[str, Any]) -> None:
        file = self.folder / "params.yaml"
        content = yaml.safe_load(file.read_text("utf-8"))
        merge(content, changes)
        file.write_text(yaml.safe_dump(content), "utf-8")

    def running(self, *arguments: str) -> subprocess.Popen[str]:
        """Start dvc, as the leader of a process group of its own."""
        bin_folder = str(Path(sys.executable).parent)
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PATH": bin_folder + os.pathsep + os.environ["PATH"]},
            start_new_session=True,
        )

    def dvc(self, *arguments: str) -> str:
        """Run dvc; returns what it printed."""
        done = self.running(*arguments)
        out, err = done.communicate()
        assert done.returncode == 0, out + err
        return out

    def repro(self) -> list[str]:
        """The stages that dvc repro ran."""
        lines = self.dvc("repro").splitlines()
        return [line.split("'")[1] for line in lines if line.startswith("Running stage")]


@pytest.mark.slow
def test_runs_all_once_then_only_what_changed(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    stages = ["convert", "augment", "split", "train", "evaluate"]

    first = [f"{stage}@virtual_mni152" for stage in stages]
    assert project.repro() == ["preflight", *first, "report"]
    page = (project.folder / "report" / "index.html").read_text("utf-8")
    assert "Virtual patients" in page
    assert page.count("data:image/webp;base64,") > 10
    assert "http" not in page.replace("https://nist.mni.mcgill.ca", "").replace("http-equiv", "")
    metrics = json.loads(
        (project.folder / "runs" / "virtual_mni152" / "metrics.json").read_text("utf-8")
    )
    assert set(metrics["dice"]) == {"csf", "grey_matter", "white_matter"}

    assert project.repro() == []

    project.enable("virtual_mni152", "virtual_ncct")
    second = [f"{stage}@virtual_ncct" for stage in stages]
    assert project.repro() == ["preflight", *second, "report"]
    assert list(project.folder.glob("runs/virtual_ncct/predictions/native/sub-*.nii.gz"))

    variants = {"deformed": [{"Elastic": {"sd_px": 1.5, "sigma_px": 8.0}}]}
    project.change({"augment": {"variants": variants}})
    ran = project.repro()
    assert not [stage for stage in ran if stage.startswith("convert")]
    assert ran.count("augment@virtual_mni152") == 1

    assert "mean_foreground_dice" in project.dvc("metrics", "show")
