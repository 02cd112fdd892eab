"""The constants of the papers, each beside its source.    pytest tests/test_constants.py

A changed constant breaks no other law: training works with nearly any.
"""

import inspect

import pytest
import torch

import augment
import lineval
import optim
import simsiam
from baselines import barlow, lejepa, moco, simclr, swav
from experiments import sec52_alternation, sec52_expectation, theory_directpred
from options import OPTIONS, RECIPES
from resnet import ARCHS
from utils import weights


def default(function, name):
    return inspect.signature(function).parameters[name].default


def blocks(arch):
    """The number of blocks of each stage."""
    network = ARCHS[arch](stem="cifar", num_classes=0, bf16=False)
    return [len(getattr(network, f"layer{i + 1}")) for i in range(network.stages)]


IMAGENET, CIFAR = RECIPES["imagenet"], RECIPES["cifar"]
CONSTANTS = {  # source: what the code has, what the source says
    "Sec. 3: base lr 0.05, batch 512, 100 epochs, weight decay 1e-4, SGD momentum 0.9": (
        (*(IMAGENET[k] for k in ("lr", "batch_size", "epochs", "weight_decay")),
         default(optim.SGD, "momentum")), (0.05, 512, 100, 1e-4, 0.9)),
    "Sec. 3: lr x batch size / 256": (optim.scaled_lr(0.05, 512), 0.1),
    "Sec. 3: ResNet-50; projector of three layers, d 2048; predictor's hidden layer 512": (
        (IMAGENET["arch"], IMAGENET["proj_layers"], IMAGENET["dim"],
         simsiam.prediction_mlp()[0].out_features), ("resnet50", 3, 2048, 512)),
    "Table 1 (c): the default's predictor keeps its lr": (IMAGENET["predictor_lr"], "constant"),
    "App. A: crops of 0.2 to 1 of the area, jitter 0.4, 0.4, 0.4, 0.1 with 0.8, grayscale 0.2": (
        (IMAGENET["crop_min"], *(default(augment.Augment, k)
         for k in ("crop_min", "jitter", "jitter_p", "gray_p"))),
        (0.2, 0.2, (0.4, 0.4, 0.4, 0.1), 0.8, 0.2)),
    "the official code: blur 0.5, flip 0.5": (
        (IMAGENET["blur"], *(default(augment.Augment, k) for k in ("blur_p", "flip_p"))),
        (0.5, 0.5, 0.5)),
    "SimCLR, App. A: the blur's kernel is a tenth of the side; here an odd number of pixels": (
        [augment.Augment(size, 0, 1).kernel_size for size in (32, 96, 224)], [3, 9, 23]),
    "App. D: ResNet-18, base lr 0.03, batch 512, 800 epochs, weight decay 5e-4, no blur": (
        tuple(CIFAR[k] for k in ("arch", "lr", "batch_size", "epochs", "weight_decay", "blur")),
        ("resnet18", 0.03, 512, 800, 5e-4, 0.0)),
    "App. D: projector of two layers, d 2048": ((CIFAR["proj_layers"], CIFAR["dim"]), (2, 2048)),
    "He et al., Table 1: blocks of ResNet-18, 34, 50; Sec. 4.2: 3 x 3 for 20 layers": (
        [blocks(arch) for arch in ("resnet18", "resnet34", "resnet50", "resnet20")],
        [[2, 2, 2, 2], [3, 4, 6, 3], [3, 4, 6, 3], [3, 3, 3]]),
    "Sec. 5.2: the average's momentum 0.8": (
        [row.study.__name__ for row in sec52_expectation.ROWS if row.study][0], "expectation-0.8"),
    "Sec. 5.2: one step, 10, 100, an epoch": (
        [(row.label, row.study and row.study.__name__)
         for row in sec52_alternation.ROWS("photographs")],
        [("1 step (SimSiam)", None), ("10 steps", "alternation-10"),
         ("100 steps", "alternation-100"), ("an epoch", "alternation-epoch")]),
    "MoCo's demo on CIFAR-10: k 200, T 0.1": (
        [default(lineval.knn_predict, k) for k in "kT"], [200, 0.1]),
    "RankMe, Eq. 1: 1e-7 is added to each share": (
        simsiam.effective_rank(torch.eye(2, dtype=torch.float64)[:1].repeat(2, 1)).item(),
        pytest.approx(1 + 1e-7 * 15.118, abs=1e-9)),
    "You et al., as in MoCo v3: trust coefficient 0.001": (default(optim.LARS, "trust"), 0.001),
    "BYOL's m for 100 epochs: 0.99": (IMAGENET["encoder_momentum"], 0.99),
    "BYOL, Sec. 3.3: outputs of 256": (OPTIONS["byol"]["dim"], 256),
    "MoCo: K 65536; MoCo v2: T 0.2, 128 outputs": (
        (IMAGENET["queue"], moco.T, OPTIONS["moco"]["dim"]), (65536, 0.2, 128)),
    "SimCLR, App. B.9: T 0.5; Sec. 3: 128 outputs": (
        (simclr.T, OPTIONS["simclr"]["dim"]), (0.5, 128)),
    "SwAV: T 0.1, ε 0.05, three iterations, 128 outputs": (
        (swav.T, IMAGENET["epsilon"], default(swav.sinkhorn, "iterations"),
         OPTIONS["swav"]["dim"]), (0.1, 0.05, 3, 128)),
    "Barlow Twins, Sec. 2.2: λ 0.005": (barlow.LAMBDA, 0.005),
    "LeJEPA's minimal example: 256 directions, 17 values of t up to 3, λ 0.02": (
        (lejepa.DIRECTIONS, lejepa.KNOTS, lejepa.LIMIT, OPTIONS["lejepa"]["sigreg"]),
        (256, 17, 3, 0.02)),
    "torchvision's presets: the mean and std of ImageNet": (
        weights.IMAGENET, {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}),
    "Tian et al.: ρ 0.3, ε 0.1": (
        [default(theory_directpred.directpred, k) for k in ("rho", "eps")], [0.3, 0.1]),
}


@pytest.mark.parametrize("source", CONSTANTS)
def test_a_constant_is_that_of_its_source(source):
    ours, theirs = CONSTANTS[source]
    assert ours == theirs
