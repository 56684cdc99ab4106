"""A trained model's folder of nnU-Net v2 with an untrained network, for :mod:`prediction`.

    PEER_PYTHON tests/benchmarks/prediction_peer.py FOLDER SPACING_MM CLASSES MODALITY

Run by a Python that has nnU-Net; it imports nothing of this project. The network is a PlainConvUNet
of the same depth, filters and picture size as the models that it is compared with; every value that
nnU-Net would have planned and that is not a matter of size is its own default.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

PX, LEVELS, FILTERS = 128, 5, 8
_ORDERS = {"data": (False, 3), "seg": (True, 1), "probabilities": (False, 1)}


def plans(spacing: float, modality: str) -> dict:
    """What ``nnUNetv2_plan_experiment`` writes, for pictures of :data:`PX` pixels."""
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": LEVELS,
            "features_per_stage": [FILTERS * 2**level for level in range(LEVELS)],
            "conv_op": "torch.nn.modules.conv.Conv2d",
            "kernel_sizes": [[3, 3]] * LEVELS,
            "strides": [[1, 1], *[[2, 2]] * (LEVELS - 1)],
            "n_conv_per_stage": [2] * LEVELS,
            "n_conv_per_stage_decoder": [2] * (LEVELS - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    configuration = {
        "data_identifier": "nnUNetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 16,
        "patch_size": [PX, PX],
        "median_image_size_in_voxels": [float(PX), float(PX)],
        "spacing": [spacing, spacing],
        "normalization_schemes": ["CTNormalization" if modality == "CT" else "ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "architecture": architecture,
        "batch_dice": True,
    }
    for what, (is_seg, order) in _ORDERS.items():
        configuration[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        configuration[f"resampling_fn_{what}_kwargs"] = {
            "is_seg": is_seg,
            "order": order,
            "order_z": 0,
            "force_separate_z": None,
        }
    values = {"max": 80.0, "mean": 35.0, "median": 35.0, "min": 0.0, "std": 15.0}
    return {
        "dataset_name": "Dataset001_Peer",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [5.0, spacing, spacing],
        "original_median_shape_after_transp": [32, PX, PX],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"2d": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {**values, "percentile_00_5": 0.0, "percentile_99_5": 80.0}
        },
    }


def main() -> None:
    """Write plans, dataset.json and the checkpoint of fold 0; print the number of weights."""
    folder, spacing, classes, modality = Path(sys.argv[1]), *sys.argv[2:5]
    plan = plans(float(spacing), modality)
    names = ["background", *(f"class_{number}" for number in range(1, int(classes)))]
    dataset = {
        "channel_names": {"0": modality},
        "labels": {name: number for number, name in enumerate(names)},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    architecture = plan["configurations"]["2d"]["architecture"]
    torch.manual_seed(1)
    network = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        1,
        int(classes),
        deep_supervision=False,
    )
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plan, indent=1), "utf-8")
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=1), "utf-8")
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "2d"},
        "inference_allowed_mirroring_axes": (0, 1),
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    print(sum(one.numel() for one in network.parameters()))


if __name__ == "__main__":
    main()
