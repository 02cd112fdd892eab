"""Pre-training with SimSiam (Algorithm 1), with every ablation of Section 4 as a flag.

    python train.py                                       ten generated shapes, two minutes on a laptop
    python train.py --no-stopgrad                         the same, and it collapses (Sec. 4.1)
    python train.py --data cifar10                        Appendix D's recipe; wants a GPU
    python train.py --data PATH --arch resnet8 --epochs 5 a folder of photographs, on a CPU

A run folder holds config.json, metrics.jsonl (an object an epoch; epoch 0 is the untrained network),
checkpoint.pt, views.png and curves.png (the panels of Fig. 2, and the effective rank).
"""
import argparse
import json
import math
import os
import pathlib
import re
import sys
import time

import torch
from tqdm import tqdm

import data
from augment import Augment, save_views
from lineval import knn_accuracy, load_checkpoint
from optim import SGD, cosine_lr, scaled_lr
from resnet import ARCHS, resnet
from simsiam import BN, SIMILARITIES, SimSiam, effective_rank, output_std

# What each kind of data starts from. Every value has a flag of its name, which overrides it.
RECIPES = {
    # here: found by trial, for two minutes on two cores
    "shapes": dict(arch="resnet8", epochs=12, batch_size=128, lr=1.6, weight_decay=5e-4, dim=256,
                   proj_layers=2, predictor_lr="constant", crop_min=0.4, blur=0.0),
    # App. D: CIFAR-10, and any images up to 64 px; whether the predictor's lr decays it does not say
    "small": dict(arch="resnet18", epochs=800, batch_size=512, lr=0.03, weight_decay=5e-4, dim=2048,
                  proj_layers=2, predictor_lr="cosine", crop_min=0.2, blur=0.0),
    # Sec. 3, with the predictor's lr constant as from Sec. 4.3 on
    "photographs": dict(arch="resnet50", epochs=100, batch_size=512, lr=0.05, weight_decay=1e-4, dim=2048,
                        proj_layers=3, predictor_lr="constant", crop_min=0.2, blur=0.5),
}
MAY_CHANGE = ("out", "resume", "device", "max_steps", "root")  # between a run and its resumption


def positive(text):
    """An argparse type: an integer above 0."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return int(text)


def parser():
    """The options, by the paper's sections. Those without a default take the recipe's value."""
    p = argparse.ArgumentParser(description="Pre-train with SimSiam. An option without a default here takes"
                                " that of the recipe for the data, printed at the start of a run.")
    g = p.add_argument_group("the run").add_argument
    g("--data", default="shapes", help="shapes, shapes-tinted (the colour shortcut), cifar10, cifar100, or a"
      " folder holding train/CLASS/ and test/CLASS/ (default: %(default)s)")
    g("--root", default="datasets", help="where cifar10 and cifar100 are kept (default: %(default)s)")
    g("--image-size", type=positive, help="side in pixels to which images are brought (default: 24 for shapes,"
      " their own size for a folder of images, 224 at most)")
    g("--out", help="run folder (default: the first free one of runs/DATA, runs/DATA-2, ...)")
    g("--resume", action="store_true", help="go on with the run in --out, under the options it was begun with")
    g("--max-steps", type=positive, help="stop at this step, however long the schedule; --resume goes on")
    g("--seed", type=int, default=0, help="seed of the weights, the order and the views (default: %(default)s)")
    g("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda, cuda:1, ..."
      " (default: cuda where there is one)")
    g = p.add_argument_group("Sec. 3 and App. D: network").add_argument
    g("--arch", choices=ARCHS, help="backbone; resnet8 and resnet20 are small enough for a CPU")
    g("--stem", choices=("cifar", "imagenet"), help="first layers: 3x3 at stride 1, or 7x7 at stride 2 and a"
      " max-pool (default: cifar up to 64 px)")
    g("--dim", type=positive, help="d, the width of projections and predictions (App. B)")
    g("--pred-dim", type=positive, help="width of the predictor's hidden layer (default: d / 4)")
    g("--proj-layers", type=int, choices=(2, 3), help="layers of the projector: 3 in Sec. 3, 2 in App. D")
    g = p.add_argument_group("Sec. 3 and App. A: optimisation and views").add_argument
    g("--epochs", type=positive, help="length of the run and of the cosine decay")
    g("--batch-size", type=positive, help="images a step (Table 2)")
    g("--lr", type=float, help="base learning rate: the rate used is lr x batch size / 256")
    g("--weight-decay", type=float, help="on all parameters, those of BN and the biases included")
    g("--warmup-epochs", type=int, default=0, help="epochs of linear warm-up; 10 in Table 2 from a batch of 1024"
      " on, and in Table 3 (a) (default: %(default)s)")
    g("--crop-min", type=float, help="smallest share of an image's area that a view shows")
    g("--blur", type=float, help="probability of the Gaussian blur")
    g = p.add_argument_group("Sec. 4: ablations").add_argument
    g("--no-stopgrad", dest="stopgrad", action="store_false", help="4.1: let gradients flow into the targets z")
    g("--predictor", choices=("mlp", "none", "fixed"), default="mlp", help="4.2: h is trained, the identity, or"
      " fixed at its random initialisation (default: %(default)s)")
    g("--predictor-lr", choices=("constant", "cosine"), help="4.2: whether the predictor's lr decays too")
    g("--bn", choices=BN, default="default", help="4.4: BN in the heads as in a row of Table 3, or without scale"
      " and offset in the projector's output BN (default: %(default)s)")
    g("--similarity", choices=SIMILARITIES, default="cosine", help="4.5: D (default: %(default)s)")
    g("--symmetry", choices=("symmetric", "asymmetric", "asymmetric2x"), default="symmetric", help="4.6: both"
      " terms of the loss, one, or one on two pairs of views an image (default: %(default)s)")
    return p


def parse(argv=None):
    """The options of a command line. With --resume, those of the run in --out, which may not change."""
    p = parser()
    args = p.parse_args(argv)
    if args.resume:
        if not args.out or not (pathlib.Path(args.out) / "checkpoint.pt").is_file():
            raise SystemExit(f"--resume: no checkpoint.pt in --out {args.out}; leave --resume away to start a run")
        begun = json.loads((pathlib.Path(args.out) / "config.json").read_text())
        p.set_defaults(**{key: begun[key] for key in vars(args) if key not in MAY_CHANGE})
        args = p.parse_args(argv)
        changed = [f"{key} {begun[key]} -> {value}" for key, value in vars(args).items()
                   if key not in MAY_CHANGE and begun[key] != value]
        if changed:
            raise SystemExit(f"--resume: a run keeps its options: {', '.join(changed)}; use another --out")
    return args


def complete(args, images):
    """Fill in what the options leave to the recipe; fails where they contradict the data."""
    size = images.train.shape[-1]
    kind = "shapes" if args.data.startswith("shapes") else "small" if size <= 64 else "photographs"
    for name, value in RECIPES[kind].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.pred_dim = args.pred_dim or args.dim // 4
    args.stem = args.stem or ("cifar" if size <= 64 else "imagenet")
    args.image_size, args.classes = size, images.classes
    args.mean, args.std = images.mean_std()
    if args.batch_size > len(images.train):
        raise SystemExit(f"--batch-size {args.batch_size}: the set has only {len(images.train)} training images")
    if args.warmup_epochs >= args.epochs:
        raise SystemExit(f"--warmup-epochs {args.warmup_epochs}: must be fewer than the {args.epochs} --epochs")


def run_folder(args):
    """Make the run's folder: --out, or the first free one. One that holds a run is only ever resumed."""
    words = [os.path.basename(os.path.abspath(args.data))] + ["no-stopgrad"] * (not args.stopgrad)
    name = "runs/" + re.sub(r"[^\w.-]+", "-", "-".join(words))
    choices = [args.out] if args.out else [name] + [f"{name}-{i}" for i in range(2, 1000)]
    taken = lambda out: not args.resume and os.path.exists(os.path.join(out, "checkpoint.pt"))
    out = next((out for out in choices if not taken(out)), None)
    if out is None:
        raise SystemExit(f"--out {args.out}: holds a run; --resume goes on with it, another --out starts anew")
    try:
        os.makedirs(out, exist_ok=True)
        pathlib.Path(out, "config.json").write_text(json.dumps(vars(args), indent=1))
    except OSError as error:
        raise SystemExit(f"--out {out}: cannot be written to ({error.strerror}); name another folder")
    return pathlib.Path(out)


def describe(args, images, model, out):
    """Print the effective options."""
    weights = sum(w.numel() for w in model.backbone.parameters())
    steps = len(images.train) // args.batch_size
    head = "none" if args.predictor == "none" else f"{args.dim}-{args.pred_dim}-{args.dim} ({args.predictor})"
    print(f"{args.data}: {len(images.train)} training and {len(images.test)} test images of {args.image_size}"
          f" px in {len(images.classes)} classes, on {args.device}")
    print(f"{args.arch} with {args.stem} stem ({weights / 1e6:.2f} M parameters), projector of"
          f" {args.proj_layers} layers to d = {args.dim}, predictor {head}, BN {args.bn}")
    print(f"{args.similarity} similarity, {args.symmetry}, {'with' if args.stopgrad else 'WITHOUT'} stop-gradient")
    print(f"SGD: lr {args.lr:g} x {args.batch_size} / 256 = {scaled_lr(args.lr, args.batch_size):g}, the"
          f" predictor's {args.predictor_lr}; weight decay {args.weight_decay:g}; {args.epochs} epochs of {steps}"
          f" steps, {args.warmup_epochs} of warm-up")
    print(f"run folder {out}, seed {args.seed}")


# ------------------------------------------------------------------------------------------------
# A run's files.


def save_checkpoint(out, **state):
    """Write checkpoint.pt at once or not at all: a run killed meanwhile keeps the one before."""
    torch.save(state, out / "checkpoint.tmp")
    os.replace(out / "checkpoint.tmp", out / "checkpoint.pt")


def write_records(out, records):
    """metrics.jsonl: one object an epoch."""
    (out / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def plot_curves(out, records, dim):
    """curves.png: the three panels of Fig. 2 and the effective rank, over epochs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {  # key: title, limits of the y axis
        "loss": ("training loss", (-1.05, 0.05)),
        "std": (r"std of $z/\|z\|_2$, times $\sqrt{d}$", (0, 1.05)),
        "knn": ("kNN accuracy (%)", (0, 100)),
        "rank": (f"effective rank of $z$ (d = {dim})", (0, None)),
    }
    figure, axes = pyplot.subplots(1, 4, figsize=(13, 3), layout="constrained")
    for axis, (key, (title, limits)) in zip(axes, panels.items()):
        axis.plot([r["epoch"] for r in records], [r[key] for r in records], "k.-")
        axis.set(title=title, xlabel="epoch", ylim=limits)
    figure.savefig(out / "curves.png", dpi=120)
    pyplot.close(figure)


# ------------------------------------------------------------------------------------------------
# The training loop.


def check_finite(losses, step, per_epoch, lr):
    """Stop the run if a loss of the epoch, the last of them that of `step`, is infinite or not a number."""
    bad = (~torch.stack(losses).isfinite()).nonzero().flatten().tolist()
    if bad:
        step -= len(losses) - 1 - bad[0]
        raise SystemExit(f"the loss is {float(losses[bad[0]])} at epoch {step // per_epoch + 1}, step {step + 1}, lr"
                         f" {lr:.3g}: lower --lr or try --warmup-epochs; the last epoch's checkpoint.pt is kept")


def train(args):
    """Run Algorithm 1 as `args` say: the last record of metrics.jsonl, and the folder as "out"."""
    torch.set_flush_denormal(True)  # a collapsed network is full of denormals, which slow a CPU down
    images = data.load(args.data, args.root, args.image_size)
    complete(args, images)
    out = run_folder(args)
    images = images.to(args.device)
    torch.manual_seed(args.seed)
    model = SimSiam(resnet(args.arch, args.stem), args.dim, args.pred_dim, args.proj_layers, args.bn,
                    args.predictor, args.stopgrad, args.similarity, args.symmetry)
    model.to(args.device, memory_format=torch.channels_last)
    augment = Augment(args.image_size, args.mean, args.std, args.crop_min, blur_p=args.blur)
    encoder = [*model.backbone.parameters(), *model.projector.parameters()]
    optimizer = SGD([encoder, model.h.parameters()], weight_decay=args.weight_decay)
    describe(args, images, model, out)

    per_epoch = len(images.train) // args.batch_size  # full batches only: the rest of an order is left out
    steps, warmup = args.epochs * per_epoch, args.warmup_epochs * per_epoch
    last = min(steps, args.max_steps or steps)
    peak = scaled_lr(args.lr, args.batch_size)
    keep = math.ceil(2048 / args.batch_size)  # batches whose outputs the measures of collapse look at
    order, losses, outputs, records, done = None, [], [], [], 0

    def loss_of(indices):
        x = images.train[indices.to(args.device)]
        L, z1 = model(*(augment(x) for _ in range(model.views)))
        losses.append(L.detach())
        outputs[:] = [*outputs, z1.detach()][-keep:]
        return L

    def record(step, lr, images_per_s):
        check_finite(losses, step - 1, per_epoch, lr)
        epoch, z = step / per_epoch, torch.cat(outputs)
        records.append({
            "epoch": int(epoch) if epoch.is_integer() else epoch, "loss": float(torch.stack(losses).mean()),
            "std": float(output_std(z)), "rank": float(effective_rank(z)),
            "knn": knn_accuracy(model.backbone, images, args.mean, args.std),
            "lr": lr, "images_per_s": images_per_s, "seconds": time.time() - began})
        save_checkpoint(out, config=vars(args), model=model.state_dict(), optimizer=optimizer.state_dict(),
                        rng=torch.get_rng_state(), order=order, losses=losses, outputs=outputs,
                        records=records, step=step)
        write_records(out, records)
        tqdm.write("epoch {epoch:3g}  loss {loss:6.3f}  std {std:5.3f}  rank {rank:6.1f}  kNN {knn:5.1f} %  "
                   "lr {lr:7.5f}  {images_per_s:5.0f} images/s  {seconds:5.0f} s".format(**records[-1]))

    began = time.time()
    if args.resume:
        saved = load_checkpoint(out / "checkpoint.pt", args.device)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["rng"].cpu())
        order, losses, outputs, done = (saved[key] for key in ("order", "losses", "outputs", "step"))
        records = [r for r in saved["records"] if isinstance(r["epoch"], int)]  # not that of half an epoch
        began -= saved["records"][-1]["seconds"]
    else:
        save_views(augment, images.train[:16], out / "views.png")
        with torch.no_grad():  # epoch 0: the untrained network; BN's running statistics meet the data
            for indices in torch.randperm(len(images.train)).split(args.batch_size)[:keep]:
                loss_of(indices)
        record(0, 0.0, 0.0)

    with tqdm(total=last, initial=done, unit=" steps", mininterval=1, disable=None) as bar:
        for step in range(done, last):
            i = step % per_epoch * args.batch_size
            if i == 0:
                order, losses = torch.randperm(len(images.train)), []
            if i == 0 or step == done:
                clock, first = time.time(), step
            L = loss_of(order[i : i + args.batch_size])
            optimizer.zero_grad()
            L.backward()
            lr = cosine_lr(peak, step, steps, warmup)
            optimizer.step(lr, peak if args.predictor_lr == "constant" else lr)
            if bar.update():  # once a second: reading the loss waits for the device
                check_finite(losses, step, per_epoch, lr)
                bar.set_postfix_str(f"loss {losses[-1]:.3f}", refresh=False)
            if step == done + 5:
                to_go = (time.time() - clock) / 6 * (last - step)
                tqdm.write(f"about {tqdm.format_interval(to_go)} to go, kNN evaluations not counted")
            if (step + 1) % per_epoch == 0 or step + 1 == last:
                losses[-1].item()  # waits for the device
                record(step + 1, lr, (step + 1 - first) * args.batch_size / (time.time() - clock))
    plot_curves(out, records, args.dim)
    print(f"{out}: metrics.jsonl, checkpoint.pt, views.png, curves.png; next: python lineval.py {out}")
    return dict(records[-1], out=str(out))


def main(argv=None):
    """Parse a command line and train."""
    args = parse(argv)
    try:
        return train(args)
    except KeyboardInterrupt:
        print("interrupted; the same command with --out FOLDER --resume goes on from its last epoch", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
