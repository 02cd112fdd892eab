"""The options of train.py: what each kind of data starts from, and every ablation as a flag.

A value comes from the command line; failing that from the method, as the default in the signature
of its class; failing that from the recipe for the data. The values in effect are printed at the
start of a run and kept with it. `python train.py --help` shows what is defined here.
"""

import argparse
import inspect
import math
import os
import shutil
import sys

import torch

import runs
from baselines.barlow import BarlowTwins
from baselines.byol import BYOL
from baselines.moco import MoCo
from baselines.simclr import SimCLR
from baselines.swav import SwAV
from baselines.vicreg import VICReg
from lineval import device, positive
from optim import scaled_lr
from resnet import ARCHS, resnet
from simsiam import BN, SIMILARITIES, SimSiam

METHODS = {"simsiam": SimSiam, "byol": BYOL, "moco": MoCo, "simclr": SimCLR, "swav": SwAV,
           "barlow": BarlowTwins, "vicreg": VICReg}
# The flags that a method has if the signature of its class names them.
SWITCHES = ("dim", "proj_layers", "pred_dim", "predictor", "bn", "stopgrad", "similarity",
            "symmetry", "encoder_momentum", "queue")

# What each kind of data starts from. Every value has a flag of its name, which overrides it.
RECIPES = {
    # here: found by trial, for two minutes on two cores
    "shapes": dict(
        arch="resnet8", dim=256, proj_layers=2, epochs=12, batch_size=128, lr=2.0,
        weight_decay=5e-4, predictor_lr="constant", crop_min=0.4, blur=0.0,
        encoder_momentum=0.95, queue=1024),
    # App. D, for images up to 64 px; it does not say whether the predictor's lr decays
    "small": dict(
        arch="resnet18", dim=2048, proj_layers=2, epochs=800, batch_size=512, lr=0.03,
        weight_decay=5e-4, predictor_lr="cosine", crop_min=0.2, blur=0.0,
        encoder_momentum=0.99, queue=8192),
    # here: resnet8 and resnet20 are not the paper's; found by trial, for minutes on two cores
    "small nets": dict(
        arch="resnet8", dim=256, proj_layers=2, epochs=5, batch_size=64, lr=0.8,
        weight_decay=5e-4, predictor_lr="constant", crop_min=0.2, blur=0.0,
        encoder_momentum=0.99, queue=8192),
    # Sec. 3, with the predictor's lr constant as from Sec. 4.3 on
    "photographs": dict(
        arch="resnet50", dim=2048, proj_layers=3, epochs=100, batch_size=512, lr=0.05,
        weight_decay=1e-4, predictor_lr="constant", crop_min=0.2, blur=0.5,
        encoder_momentum=0.99, queue=65536),
}
CXX = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")  # as torch looks
# What may differ when a run is resumed. Not the epochs: they shape the schedule from its beginning.
MAY_CHANGE = ("root", "out", "resume", "max_steps", "device", "compile", "checkpoint_every",
              "knn_every")


def parser():
    """All options, by the paper's sections."""
    p = argparse.ArgumentParser(
        usage="python train.py [option ...]",
        description="Pre-train with SimSiam. An option that names no default here takes its value"
        " from the recipe for the data; the values in effect are printed at the start.")
    g = p.add_argument_group("the run").add_argument
    g("--data", default="shapes", help="shapes, shapes-tinted (a shortcut for SimSiam: colour),"
      " cifar10, cifar100, or a folder that holds train/CLASS/ and test/CLASS/ (default: shapes)")
    g("--root", default="datasets", help="where cifar10 and cifar100 are kept (default: datasets)")
    g("--image-size", type=positive, help="side in pixels to which images are brought (default:"
      " 24 for shapes; for a folder the size of its images, 224 at most)")
    g("--out", help="run folder (default: the first free one of runs/DATA, runs/DATA-2, ...)")
    g("--resume", action="store_true", help="go on with the run in --out, under its own options")
    g("--checkpoint-every", type=runs.interval, default="1", metavar="N[m]",
      help="save after every N-th epoch, or with an m every N minutes (default: 1)")
    g("--knn-every", type=positive, default=1, metavar="N",
      help="judge by kNN after every N-th epoch, and whenever a run ends (default: 1)")
    g("--max-steps", type=positive, help="stop at this step, counted from the run's beginning; the"
      " schedule stays that of --epochs, and --resume goes on from there")
    g("--skip-bad-images", action="store_true",
      help="leave out the files of a folder that cannot be decoded (default: name them and stop)")
    g("--seed", type=int, default=0, help="of weights, order and views (default: 0)")
    g("--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu",
      help="cpu, cuda, cuda:1, ... (default: cuda where there is one)")
    g = p.add_argument_group("network (Sec. 3, App. D)").add_argument
    g("--arch", choices=ARCHS, help="the backbone; resnet8 and resnet20 are for CPUs")
    g("--bf16", action="store_true", help="compute the backbone in bfloat16: faster on GPUs, and on"
      " CPUs that have instructions for it (AVX512-BF16, AMX)")
    g("--compile", action="store_true", help="torch.compile the network: faster steps, after a"
      " minute or two; on a CPU it wants a C++ compiler")
    g("--stem", choices=("cifar", "imagenet"), help="first layers of the backbone: 3x3 of stride 1,"
      " or 7x7 of stride 2 and a max-pool (default: cifar up to 64 px)")
    g("--dim", type=positive, help="d, the width of projections and predictions (App. B)")
    g("--pred-dim", type=positive, help="width of the predictor's hidden layer, in byol of"
      " both heads' (default: d / 4, byol 512)")
    g("--proj-layers", type=int, choices=(2, 3), help="layers of the projector")
    g = p.add_argument_group("optimisation and views (Sec. 3, App. A)").add_argument
    g("--epochs", type=positive, help="length of the run and of the cosine decay")
    g("--batch-size", type=positive, help="images a step (Table 2)")
    g("--lr", type=float, help="base learning rate; the one used is lr x batch size / 256")
    g("--weight-decay", type=float, help="on all parameters, BN's and biases included")
    g("--warmup-epochs", type=int, default=0, help="epochs of linear warm-up: 10 in Table 2 from"
      " a batch of 1024 on, and in Table 3 (a) (default: 0)")
    g("--crop-min", type=float, help="smallest share of an image's area that a view shows")
    g("--blur", type=float, help="probability of Gaussian blur")
    g = p.add_argument_group("ablations (Sec. 4) and other methods (Sec. 6)",
                             "Defaults are SimSiam's; a flag that a method lacks is refused."
                             ).add_argument
    g("--stopgrad", action=argparse.BooleanOptionalAction,
      help="Sec. 4.1: whether the targets z are constants to the gradient (default: they are)")
    g("--predictor", choices=("mlp", "none", "fixed"),
      help="Sec. 4.2: h is trained, the identity, or fixed as initialised (default: mlp)")
    g("--predictor-lr", choices=("constant", "cosine"),
      help="Sec. 4.2: whether the predictor's learning rate decays with the others")
    g("--bn", choices=BN, help="Sec. 4.4: BN in the heads, the rows of Table 3; no-affine: default,"
      " but no scale and offset in the last BN of f (default: default)")
    g("--similarity", choices=SIMILARITIES, help="Sec. 4.5: D (default: cosine)")
    g("--symmetry", choices=("symmetric", "asymmetric", "asymmetric2x"),
      help="Sec. 4.6: both terms of the loss, one, or one on two pairs of views an image"
      " (default: symmetric)")
    g("--method", choices=METHODS, default="simsiam",
      help="Sec. 6: the methods of Table 4 and two later ones, in baselines/ (default: simsiam)")
    g("--encoder-momentum", type=float, metavar="M",
      help="Sec. 6: m of byol's and moco's momentum encoder, 0 for none")
    g("--queue", type=positive, metavar="K", help="Sec. 6: how many keys moco keeps")
    return p


def parse(argv=None):
    """The options of a command line. A resumed run keeps those that it was begun with."""
    p = parser()
    args = p.parse_args(argv)
    if args.resume:
        if not args.out:
            raise SystemExit("--resume: --out must name the run folder to go on with")
        saved = runs.load_checkpoint(args.out)["config"]
        begun = {**vars(p.parse_args([])), **saved}  # a younger flag had its default
        kept = [key for key in vars(args) if key in begun and key not in MAY_CHANGE]
        kept_too = "root", "checkpoint_every", "knn_every"  # unless the command line has others
        p.set_defaults(**{key: begun[key] for key in (*kept, *kept_too)})
        args = p.parse_args(argv)
        changed = [f"{key} {begun[key]} -> {getattr(args, key)}"
                   for key in kept if getattr(args, key) != begun[key]]
        if changed:
            raise SystemExit(f"--resume: a run keeps its options, but {', '.join(changed)};"
                             " leave them away, or start anew in another --out")
    return args


def own(method):
    """The SWITCHES that a method has: {name: its default, or inspect.Parameter.empty}."""
    parameters = inspect.signature(METHODS[method]).parameters
    return {name: parameters[name].default for name in SWITCHES if name in parameters}


def choose(args, size):
    """Fill in the options that were not given; size: of the images, in pixels."""
    if args.data in ("shapes", "shapes-tinted"):
        kind = "shapes"
    elif size <= 64:
        kind = "small nets" if args.arch in ("resnet8", "resnet20") else "small"
    else:
        kind = "photographs"
    has, values = own(args.method), dict(RECIPES[kind])
    values.update((name, v) for name, v in has.items() if v is not inspect.Parameter.empty)
    values["lr"] *= getattr(METHODS[args.method], "lr_scale", 1)  # of a method that needs another
    for name in SWITCHES:
        if name not in has and getattr(args, name) is not None:
            raise SystemExit(f"--{name.replace('_', '-')}: --method {args.method} has no such"
                             " option; leave it away")
    for name, value in values.items():
        if getattr(args, name) is None and (name in has or name not in SWITCHES):
            setattr(args, name, value)
    if "pred_dim" in has and args.pred_dim is None:
        args.pred_dim = max(1, args.dim // 4)  # App. B: always d / 4
    args.stem = args.stem or ("cifar" if size <= 64 else "imagenet")
    args.image_size = size


def complete(args, images):
    """Fill in what was not given, note what the data are, and refuse what cannot be."""
    n = len(images.train)
    choose(args, images.train.shape[-1])
    args.classes, args.train_images, args.torch = images.classes, n, str(torch.__version__)
    args.mean, args.std = images.mean_std()
    if not 2 <= args.batch_size <= n:
        raise SystemExit(f"--batch-size {args.batch_size}: must lie between 2 (BN wants it) and"
                         f" {n}, the number of training images")
    if not 0 <= args.warmup_epochs < args.epochs:
        raise SystemExit(f"--warmup-epochs {args.warmup_epochs}: must be at least 0 and below the"
                         f" {args.epochs} epochs")
    if not (0 < args.crop_min <= 1 and 0 <= args.blur <= 1 and 0 <= args.lr < math.inf
            and 0 <= args.weight_decay < math.inf):
        raise SystemExit("--crop-min must lie in (0, 1], --blur in [0, 1], --lr and --weight-decay"
                         " in [0, infinity)")
    if args.compile and args.device == "cpu" and not shutil.which(CXX):
        raise SystemExit(f"--compile: on a CPU it wants a C++ compiler, and there is no {CXX};"
                         " install it, let the variable CXX name another, or leave --compile away")
    if args.method != "simsiam" and (args.predictor == "fixed" or args.symmetry == "asymmetric2x"):
        raise SystemExit("--predictor fixed and --symmetry asymmetric2x are for --method simsiam")
    if not 0 <= (args.encoder_momentum or 0) < 1:
        raise SystemExit("--encoder-momentum must lie in [0, 1)")


def build(args):
    """The model that the options describe, on its device."""
    switches = {name: getattr(args, name) for name in own(args.method)}
    model = METHODS[args.method](resnet(args.arch, args.stem, bf16=args.bf16), **switches)
    if args.compile:
        model.compile()
    return model.to(args.device, memory_format=torch.channels_last)  # fast, on a CPU too


def describe(run):
    """Print the options in effect."""
    args, images = run.args, run.images
    lr, h = scaled_lr(args.lr, args.batch_size), list(run.model.h.parameters())
    words = {name: f"{name.replace('_', ' ')} {getattr(args, name)}" for name in own(args.method)}
    if "stopgrad" in words:
        words["stopgrad"] = f"{'with' if args.stopgrad else 'without'} stop-gradient"
    heads = [words.pop(name) for name in ("dim", "proj_layers", "pred_dim") if name in words]
    print(f"{args.data}: {len(images.train)} training and {len(images.test)} test images of"
          f" {args.image_size} px in {len(args.classes)} classes, on {args.device}")
    print(f"network: {args.arch}, {args.stem} stem{', bfloat16' * args.bf16}"
          f"{', compiled' * args.compile}; {', '.join(heads)}")
    print(f"{args.method}: {', '.join(words.values())}")
    print(f"{type(run.optimizer).__name__}: lr {args.lr:g} x {args.batch_size} / 256 = {lr:g}"
          + f", the predictor's {args.predictor_lr}" * bool(h)
          + f"; weight decay {args.weight_decay:g}; {args.epochs} epochs of {run.per_epoch} steps"
          + f", {args.warmup_epochs} of warm-up" * bool(args.warmup_epochs))
    print(f"views: {args.crop_min:.0%} to 100% of the area, blur {args.blur:g};"
          f" seed {args.seed}; run folder {run.out}")
