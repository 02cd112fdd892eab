"""The options of train.py: the paper's recipes, and the ablations of Section 4 as flags.

A value comes from the command line; failing that from the method (the defaults of its class);
failing that from the recipe for the data. The values in effect are printed when a run starts and
stored with it. `python train.py --help` lists all options.

This file has, in this order, the recipes (Sec. 3, App. D), the flags, the functions that fill in
missing values and refuse impossible ones (with utils/faults.py), and the model they describe.
"""

import argparse
from inspect import signature

import torch

from augment import Augment
from baselines.barlow import BarlowTwins
from baselines.byol import BYOL
from baselines.lejepa import LeJEPA
from baselines.moco import MoCo
from baselines.simclr import SimCLR
from baselines.swav import SwAV
from baselines.vicreg import VICReg
from optim import scaled_lr
from resnet import ARCHS, resnet
from simsiam import BN, SIMILARITIES, SimSiam
from utils import checkpoint, faults, parallel, sync_bn, weights
from utils.arguments import device, interval, positive, seed
from utils.console import counted, wrapped

METHODS = {"simsiam": SimSiam, "byol": BYOL, "moco": MoCo, "simclr": SimCLR, "swav": SwAV,
           "barlow": BarlowTwins, "vicreg": VICReg, "lejepa": LeJEPA}
# Each method's own options with their defaults: the parameters of its class after the backbone,
# read from the class, so that no default is written twice.
# None: fill_in() decides, by the recipe for the data; pred_dim is d / 4.
OPTIONS = {name: {p.name: None if p.default is p.empty else p.default
                  for p in list(signature(method).parameters.values())[1:]}
           for name, method in METHODS.items()}
# What methods have of their own. They may also ask for these four, which all runs have.
METHOD_OPTIONS = sorted(set().union(*OPTIONS.values()) - {"epochs", "batch_size", "lr",
                                                          "weight_decay"})

# ------------------------------------------------------------------------------------------------
# The recipes: what each kind of data starts from. A flag of the same name overrides a value.

RECIPES = {
    # Sec. 3, ImageNet: images larger than 64 px.
    "imagenet": dict(
        arch="resnet50", dim=2048, proj_layers=3,  # h's hidden layer: d / 4, here 512
        epochs=100, batch_size=512, lr=0.05,  # 100 epochs in every ablation; lr 0.1 at this batch
        weight_decay=1e-4, predictor_lr="constant",  # constant from Sec. 4.3 on: Table 1 (c)
        crop_min=0.2, blur=0.5,  # blur's probability: see augment.py
        # BYOL's m for 100 epochs; MoCo's K and SwAV's ε for ImageNet.
        encoder_momentum=0.99, queue=65536, epsilon=0.05),
    # App. D, CIFAR-10: images up to 64 px.
    "cifar": dict(
        arch="resnet18", dim=2048, proj_layers=2,
        epochs=800, batch_size=512, lr=0.03,  # lr 0.06 at this batch size
        weight_decay=5e-4, predictor_lr="cosine",  # here: App. D does not say whether h's lr decays
        crop_min=0.2, blur=0.0,  # a 32 px image has little detail to blur
        encoder_momentum=0.99, queue=8192, epsilon=0.05),
    # here: the setting of an earlier course project, but at 32 px, with the CIFAR stem; it enlarged
    # the images to 224 px. experiments/opt_*.py repeat its studies with other recipes.
    "cifar100": dict(
        arch="resnet18", dim=2048, proj_layers=3,
        epochs=100, batch_size=256, lr=0.05,
        weight_decay=1e-4, predictor_lr="constant", crop_min=0.2, blur=0.5,
        encoder_momentum=0.99, queue=4096, epsilon=0.05),
    # here: small networks for a CPU, resnet8 and resnet20; images up to 64 px. Not in the paper.
    # A short run needs a high lr: the best of 0.4, 0.8 and 1.6 on held-out images of CIFAR-10.
    "cifar-cpu": dict(
        arch="resnet8", dim=256, proj_layers=2,  # d = 2048: a step half as long again
        epochs=5, batch_size=64, lr=0.8,
        weight_decay=5e-4, predictor_lr="constant", crop_min=0.2, blur=0.0,
        encoder_momentum=0.99, queue=8192, epsilon=0.05),
    # here: the generated shapes. Chosen together with the set itself (experiments/results), on
    # held-out training images, so that a run takes a minute on two cores.
    "shapes": dict(
        arch="resnet8", dim=256, proj_layers=2, epochs=20, batch_size=64, lr=2.0,
        weight_decay=5e-4, predictor_lr="constant",
        crop_min=0.4, blur=0.0,  # a view of 20 % of the area may miss most of a shape
        encoder_momentum=0.95, queue=1024, epsilon=0.03),  # m: a run has only 1280 steps
}
# MoCo has a base lr of its own. At 0.5, two of three runs on shapes collapsed.
MOCO_LR = {"imagenet": 0.03, "cifar": 0.03, "cifar100": 0.03, "cifar-cpu": 0.2, "shapes": 0.25}

# What may change when a run is resumed. The epochs may not: the cosine decay depends on them from
# the first step on.
MAY_CHANGE = ("data", "root", "out", "resume", "max_steps", "device", "compile",
              "checkpoint_every", "knn_every")  # of data the path only: see checkpoint.restore()

# ------------------------------------------------------------------------------------------------
# The flags.


def parser():
    """All options, in groups; None: fill_in() decides."""
    p = argparse.ArgumentParser(
        prog="python train.py", usage="%(prog)s [option ...]",
        description="Pre-train with SimSiam. An option without a default below takes its value"
        " from the recipe for the data; a run prints the values in effect when it starts.")
    group = lambda *words: p.add_argument_group(*words).add_argument
    data_options(group("images"))
    run_options(group("the run"))
    machine_options(group("the machine"))
    network_options(group("network (Sec. 3, App. D)"))
    training_options(group("optimisation and views (Sec. 3, App. A)"))
    ablation_options(group("ablations (Sec. 4) and other methods (Sec. 6)", "Defaults are"
                           " SimSiam's. A flag that the method does not have is refused."))
    return p


def data_options(g):
    """The images. In these functions g is a group's add_argument()."""
    g("--data", default="shapes", help="shapes, shapes-tinted (where colour is a shortcut for"
      " SimSiam), cifar10, cifar100, stl10, or a folder that has train/CLASS/ and test/CLASS/, or"
      " unlabelled/, or all three (default: shapes)")
    g("--root", default="datasets",
      help="the folder of cifar10, cifar100 and stl10 (default: datasets)")
    g("--image-size", type=positive, help="side of a view in pixels (default: 24 for shapes; for a"
      " folder the size of its images, at most 224)")
    g("--stored-size", type=positive, metavar="C", help="side in pixels at which a folder's"
      " images are kept, C x C x 3 bytes each; views are cropped from these (default: 8/7 of"
      " the views' side, such as 256 for 224, but not above the images' own; up to 64 px the same"
      " as for views)")
    g("--skip-bad-images", action="store_true",
      help="leave out files of a folder that cannot be decoded (default: stop and name the first)")


def run_options(g):
    """The run folder, and when to save, evaluate and stop."""
    g("--out", help="run folder (default: runs/DATA, runs/DATA-METHOD or the like, with -2, -3, ..."
      " if there is one already)")
    g("--resume", action="store_true", help="continue the run in --out with its own options")
    g("--checkpoint-every", type=interval, default="1m", metavar="N[m]",
      help="save after every N-th epoch or, with the suffix m, every N minutes (default: 1m)")
    g("--knn-every", type=positive, default=1, metavar="N",
      help="evaluate by kNN after every N-th epoch, and at the end of the run (default: 1)")
    g("--max-steps", type=positive, help="stop at this step, counted from the start of the run;"
      " the schedule remains that of --epochs, and --resume continues from there")
    g("--seed", type=seed, default=0, help="seed of weights, order and views (default: 0)")


def machine_options(g):
    """Where the arithmetic is done, how fast, and in how much memory."""
    g("--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu",
      help="cpu, cuda, cuda:1, ...; under torchrun, cuda is each process's own GPU; GPUs compute"
      " float32 matrix products in TF32 (default: cuda if there is one, else cpu)")
    g("--bf16", action="store_true", help="compute the backbone in bfloat16: faster on"
      " GPUs from Ampere on, and on CPUs with instructions for it (AVX512-BF16, AMX)")
    g("--compile", action="store_true", help="compile the network with torch.compile: faster steps"
      " after up to two minutes; on one GPU with CUDA graphs, except with --accumulate; it needs a"
      " C++ compiler on a CPU, a C compiler on a GPU")
    g("--accumulate", type=positive, default=1, metavar="K", help="simsiam only: compute a batch in"
      " K pieces (gradient accumulation), which takes about a K-th of the memory; BN normalises"
      " each piece by itself (default: 1)")
    g("--local-bn", action="store_true", help="under torchrun: let BN normalise each process's"
      " slice of a batch by itself (default: the whole batch, as in Sec. 3)")


def network_options(g):
    """The backbone and the heads (Sec. 3, App. D)."""
    g("--arch", choices=ARCHS, help="the backbone; resnet8 and resnet20 are for CPUs")
    g("--init", metavar="WEIGHTS", help="start the backbone from the weights of another run, or"
      " from any others that lineval.py takes (default: random)")
    g("--stem", choices=("cifar", "imagenet"), help="first layers of the backbone: 3x3 with stride"
      " 1, or 7x7 with stride 2 and a max-pool (default: cifar up to 64 px)")
    g("--dim", type=positive, help="d, the width of projections and predictions (App. B)")
    g("--pred-dim", type=positive, help="width of the predictor's hidden layer; for byol, of"
      " both heads' hidden layers (default: d / 4; byol: 512)")
    g("--proj-layers", type=int, choices=(2, 3), help="number of layers of the projector")


def training_options(g):
    """The optimiser, its schedule, and the views (Sec. 3, App. A)."""
    g("--epochs", type=positive, help="length of the run and of the cosine decay")
    g("--batch-size", type=positive, help="images per step (Table 2)")
    g("--lr", type=float, help="base learning rate; the actual one is lr x batch size / 256")
    g("--weight-decay", type=float, help="on all parameters, BN's and biases included")
    g("--warmup-epochs", type=int, default=0, help="epochs of linear warm-up, which a"
      " constant predictor lr does without; 10 in Table 2 for batches of 1024 or more, and in"
      " Table 3 (a) (default: 0)")
    g("--crop-min", type=float, help="smallest share of an image's area that a view shows")
    g("--blur", type=float, help="probability of Gaussian blur")


def ablation_options(g):
    """What Sec. 4 takes away or exchanges, and the methods that Sec. 6 compares."""
    g("--stopgrad", action=argparse.BooleanOptionalAction,
      help="Sec. 4.1: treat the targets z as constants (default); --no-stopgrad is Eq. 2")
    g("--predictor", choices=("mlp", "none", "fixed"),
      help="Sec. 4.2: h is a trained MLP, the identity, or an MLP fixed at its initial weights"
      " (default: mlp)")
    g("--predictor-lr", choices=("constant", "cosine"),
      help="Sec. 4.2: whether the predictor's learning rate decays with the encoder's (App. D's"
      " recipe: cosine; all others: constant)")
    g("--bn", choices=BN, help="Sec. 4.4: BN in the heads, a row of Table 3; no-affine is like"
      " default, but the last BN of f has no scale and offset (default: default)")
    g("--similarity", choices=SIMILARITIES, help="Sec. 4.5: the D of the loss (default: cosine)")
    g("--symmetry", choices=("symmetric", "asymmetric"),
      help="Sec. 4.6: both terms of the loss or one (default: symmetric); asymmetric 2x is in"
      " experiments/sec46_symmetry.py")
    g("--method", choices=METHODS, default="simsiam",
      help="Sec. 6: the methods of Table 4 and three later ones, in baselines/ (default: simsiam)")
    g("--encoder-momentum", type=float, metavar="M",
      help="Sec. 6: m of byol's and moco's momentum encoder, 0 for none")
    g("--queue", type=positive, metavar="K", help="Sec. 6: how many keys moco keeps")
    g("--epsilon", type=float, metavar="ε",
      help="Sec. 6: ε of swav's codes, 0.025 to 1; the larger, the softer they are")
    g("--sigreg", type=float, metavar="λ",
      help="weight of lejepa's regulariser, 0 for none (default: 0.02)")


def parse(argv=None):
    """The options of a command line. A resumed run keeps the options it was started with.

    SystemExit: --resume without a run to continue, or with options that differ
    """
    p = parser()
    args = p.parse_args(argv)
    if not args.resume:
        return args
    if not args.out:
        raise SystemExit("--resume: --out must name the run folder to continue")
    saved = checkpoint.load(args.out)["config"]
    saved.setdefault("stored_size", saved.get("image_size"))  # in runs older than the option
    started = {**vars(p.parse_args([])), **saved}  # a flag newer than the run had its default
    kept = [key for key in vars(args) if key not in MAY_CHANGE]
    # The last four may change, but stay the same unless the command line changes them.
    names = [*kept, "data", "root", "checkpoint_every", "knn_every"]
    required = RECIPES["cifar"].keys() - METHOD_OPTIONS  # what every method's run has
    checkpoint.check_config(args.out, started, p, names, required)
    p.set_defaults(**{key: started[key] for key in names})
    args = p.parse_args(argv)
    changed = [f"{key} {started[key]} -> {getattr(args, key)}"
               for key in kept if getattr(args, key) != started[key]]
    if changed:
        raise SystemExit(f"--resume: a run keeps its options, but {', '.join(changed)};"
                         " leave them out, or start a new run in another --out")
    return args


# ------------------------------------------------------------------------------------------------
# From the flags that were given to all values.


def recipe(args, image_size):
    """The key of RECIPES for these data and this network."""
    if args.data in ("shapes", "shapes-tinted"):
        return "shapes"
    if image_size > 64:
        return "imagenet"
    if args.arch in ("resnet8", "resnet20"):
        return "cifar-cpu"
    return "cifar100" if args.data == "cifar100" else "cifar"


def fill_in(args, image_size):
    """The options with all missing values filled in, as a new object; args stays as it is."""
    own, key = OPTIONS[args.method], recipe(args, image_size)
    # A new dict: the recipe itself must not change.
    values = {**RECIPES[key], **{k: v for k, v in own.items() if v is not None}}
    if args.method == "moco":
        values["lr"] = MOCO_LR[key]
    values["stem"] = "cifar" if image_size <= 64 else "imagenet"
    args = argparse.Namespace(**vars(args))
    for name, value in values.items():
        foreign = name in METHOD_OPTIONS and name not in own  # it stays None
        if getattr(args, name) is None and not foreign:
            setattr(args, name, value)
    if "pred_dim" in own and args.pred_dim is None:
        args.pred_dim = max(1, args.dim // 4)  # App. B: the bottleneck is d / 4
    args.image_size = image_size
    return args


def sizes(args, images):
    """The sides of a view and of a stored image, in pixels.

    SystemExit: the options ask for others
    """
    stored_size = images.train.shape[-1]
    view_size = images.view_size or stored_size
    for name, size in (("image_size", view_size), ("stored_size", stored_size)):
        given = getattr(args, name)
        if given not in (None, size):
            raise SystemExit(f"--{name.replace('_', '-')} {given}: --data {args.data} has images of"
                             f" {size} px; leave it out")
    return view_size, stored_size


def complete(args, images):
    """All options in effect and facts about the data, as a new object; refuses impossible ones."""
    view_size, stored_size = sizes(args, images)
    args = fill_in(args, view_size)
    args.stored_size = stored_size
    args.classes, args.n_train = images.classes, len(images.train)
    args.mean, args.std = images.mean_std()
    args.data_digest = parallel.from_rank_0(images.digest)  # minutes for ImageNet
    args.torch = str(torch.__version__)  # a TorchVersion would be refused in a checkpoint
    check(args)
    return args


def check(args):
    """Refuse options that contradict each other or the data: SystemExit with one line."""
    has = OPTIONS[args.method]
    foreign = [name for name in METHOD_OPTIONS
               if name not in has and getattr(args, name) is not None]
    if foreign:
        raise SystemExit(f"--{foreign[0].replace('_', '-')}: --method {args.method} has no such"
                         " option; leave it out")
    refuse(faults.of(args))


def refuse(found):
    """SystemExit with the first complaint that applies.   found: as faults.of() returns them"""
    for wrong, complaint in found:
        if wrong:
            raise SystemExit(complaint)


# ------------------------------------------------------------------------------------------------
# What the options describe.


def build(args):
    """The model that the options describe, on its device."""
    own = {name: getattr(args, name) for name in OPTIONS[args.method]}
    backbone = resnet(args.arch, args.stem, bf16=args.bf16)
    if args.init and not args.resume:  # now, because byol and moco copy the backbone
        weights.initialise(backbone, args, ARCHS, parser())
    model = METHODS[args.method](backbone, **own)
    if parallel.world_size() > 1 and not args.local_bn:
        sync_bn.synchronise(model)
    if args.compile:
        # On a GPU also record a pass's kernels and launch them all at once (CUDA graphs): one by
        # one, launching them takes longer than running them. Not with --accumulate: the next piece
        # would overwrite the gradients of the last.
        whole = parallel.world_size() == args.accumulate == 1
        graphs = whole and torch.device(args.device).type == "cuda"
        model.compile(mode="reduce-overhead" if graphs else "default")
    # channels_last keeps the channels of a pixel side by side, as fast convolutions want them
    return model.to(args.device, memory_format=torch.channels_last)


def augmentation(args):
    """The views that the options describe."""
    return Augment(args.image_size, args.mean, args.std, args.crop_min, blur_p=args.blur)


def describe(run):
    """Print the options in effect."""
    args, n_test, processes = run.args, len(run.images.test), parallel.world_size()
    words = {name: f"{name.replace('_', ' ')} {getattr(args, name)}"
             for name in OPTIONS[args.method]}
    if "stopgrad" in words:
        words["stopgrad"] = f"{'with' if args.stopgrad else 'without'} stop-gradient"
    heads = [words.pop(name) for name in ("dim", "proj_layers", "pred_dim") if name in words]
    learned = any(w.requires_grad for w in run.model.h.parameters())
    print(f"{args.data}: {args.n_train} training and {n_test} test images of {args.stored_size} px,"
          f"\n  {f'{len(args.classes)} classes' if args.classes else 'no labels'}, on {args.device}"
          + f", {processes} processes, BN {'local' if args.local_bn else 'synchronised'}"
          * (processes > 1)
          + f", batches in {args.accumulate} pieces" * (args.accumulate > 1))
    print(wrapped(f"network: {args.arch}, {args.stem} stem{', bfloat16' * args.bf16}"
                  f"{', compiled' * args.compile}; {', '.join(heads)}"))
    print(wrapped(f"{args.method}: {', '.join(words.values())}".rstrip(": ")))
    print(wrapped(f"{type(run.optimizer).__name__}: lr {args.lr:g} x {args.batch_size} / 256 ="
                  f" {scaled_lr(args.lr, args.batch_size):g}"
                  + f", {args.predictor_lr} for the predictor" * learned
                  + f"; weight decay {args.weight_decay:g};"))
    print(f"  {counted(args.epochs, 'epoch')} of {run.steps_per_epoch} steps"
          + f", {args.warmup_epochs} of warm-up" * bool(args.warmup_epochs))
    of_size = f" of {args.image_size} px" * (args.image_size != args.stored_size)
    print(f"views{of_size}: {args.crop_min:.0%} to 100% of the area, blur {args.blur:g};"
          f" seed {args.seed}\nrun folder: {run.out}")
