"""Pre-training with SimSiam (Algorithm 1), with every ablation of Section 4 as a flag.

    python train.py                                  ten generated shapes, two minutes on a laptop
    python train.py --no-stopgrad                    the same, and it collapses (Sec. 4.1)
    python train.py --data cifar10                   Appendix D's recipe, for a GPU
    python train.py --data PATH --arch resnet8 --epochs 5     a folder of photographs, on a CPU

Ctrl-C finishes the step and saves; `--resume --out FOLDER` goes on. runs.py says what a run leaves
on the disk.
"""

import argparse
import contextlib
import math
import sys
import time

import torch
from tqdm import tqdm

import data
import runs
from augment import Augment, save_views
from lineval import device, features, knn_accuracy, positive
from optim import SGD, cosine_lr, scaled_lr
from resnet import ARCHS, resnet
from simsiam import BN, SIMILARITIES, SimSiam, effective_rank, output_std

# What each kind of data starts from. Every value has a flag of its name, which overrides it.
RECIPES = {
    # here: found by trial, for two minutes on two cores
    "shapes": dict(
        arch="resnet8", dim=256, proj_layers=2, epochs=12, batch_size=128, lr=2.0,
        weight_decay=5e-4, predictor_lr="constant", crop_min=0.4, blur=0.0),
    # App. D, for images up to 64 px; it does not say whether the predictor's lr decays
    "small": dict(
        arch="resnet18", dim=2048, proj_layers=2, epochs=800, batch_size=512, lr=0.03,
        weight_decay=5e-4, predictor_lr="cosine", crop_min=0.2, blur=0.0),
    # here: resnet8 and resnet20 are not the paper's; found by trial, for minutes on two cores
    "small nets": dict(
        arch="resnet8", dim=256, proj_layers=2, epochs=5, batch_size=64, lr=0.8,
        weight_decay=5e-4, predictor_lr="constant", crop_min=0.2, blur=0.0),
    # Sec. 3, with the predictor's lr constant as from Sec. 4.3 on
    "photographs": dict(
        arch="resnet50", dim=2048, proj_layers=3, epochs=100, batch_size=512, lr=0.05,
        weight_decay=1e-4, predictor_lr="constant", crop_min=0.2, blur=0.5),
}
# What may differ when a run is resumed. Not the epochs: they shape the schedule from its beginning.
MAY_CHANGE = ("root", "out", "resume", "max_steps", "device", "checkpoint_every")

# ------------------------------------------------------------------------------------------------
# The options.


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
    g("--max-steps", type=positive, help="stop at this step, counted from the run's beginning; the"
      " schedule stays that of --epochs, and --resume goes on from there")
    g("--skip-bad-images", action="store_true",
      help="leave out the files of a folder that cannot be decoded (default: name them and stop)")
    g("--seed", type=int, default=0, help="of weights, order and views (default: 0)")
    g("--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu",
      help="cpu, cuda, cuda:1, ... (default: cuda where there is one)")
    g = p.add_argument_group("network (Sec. 3, App. D)").add_argument
    g("--arch", choices=ARCHS, help="the backbone; resnet8 and resnet20 are for CPUs")
    g("--stem", choices=("cifar", "imagenet"), help="first layers of the backbone: 3x3 of stride 1,"
      " or 7x7 of stride 2 and a max-pool (default: cifar up to 64 px)")
    g("--dim", type=positive, help="d, the width of projections and predictions (App. B)")
    g("--pred-dim", type=positive, help="width of the predictor's hidden layer (default: d / 4)")
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
    g = p.add_argument_group("ablations (Sec. 4)").add_argument
    g("--no-stopgrad", dest="stopgrad", action="store_false",
      help="Sec. 4.1: let the gradient into the targets z")
    g("--predictor", choices=("mlp", "none", "fixed"), default="mlp",
      help="Sec. 4.2: h is trained, the identity, or fixed as initialised (default: mlp)")
    g("--predictor-lr", choices=("constant", "cosine"),
      help="Sec. 4.2: whether the predictor's learning rate decays with the others")
    g("--bn", choices=BN, default="default", help="Sec. 4.4: BN in the heads, the rows of Table 3;"
      " no-affine: default, but no scale and offset in the last BN of f (default: default)")
    g("--similarity", choices=SIMILARITIES, default="cosine", help="Sec. 4.5: D (default: cosine)")
    g("--symmetry", choices=("symmetric", "asymmetric", "asymmetric2x"), default="symmetric",
      help="Sec. 4.6: both terms of the loss, one, or one on two pairs of views an image"
      " (default: symmetric)")
    return p


def parse(argv=None):
    """The options of a command line. A resumed run keeps those that it was begun with."""
    p = parser()
    args = p.parse_args(argv)
    if args.resume:
        if not args.out:
            raise SystemExit("--resume: --out must name the run folder to go on with")
        begun = runs.load_checkpoint(args.out)["config"]
        kept = [key for key in vars(args) if key in begun and key not in MAY_CHANGE]
        p.set_defaults(**{key: begun[key] for key in [*kept, "root", "checkpoint_every"]})
        args = p.parse_args(argv)
        changed = [f"{key} {begun[key]} -> {getattr(args, key)}"
                   for key in kept if getattr(args, key) != begun[key]]
        if changed:
            raise SystemExit(f"--resume: a run keeps its options, but {', '.join(changed)};"
                             " leave them away, or start anew in another --out")
    return args


def complete(args, images):
    """Fill in, from the recipe and the data, the options that were not given."""
    size, n = images.train.shape[-1], len(images.train)
    if args.data in ("shapes", "shapes-tinted"):
        kind = "shapes"
    elif size <= 64:
        kind = "small nets" if args.arch in ("resnet8", "resnet20") else "small"
    else:
        kind = "photographs"
    for name, value in RECIPES[kind].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.pred_dim = args.pred_dim or max(1, args.dim // 4)  # App. B: always d / 4
    args.stem = args.stem or ("cifar" if size <= 64 else "imagenet")
    args.image_size, args.classes = size, images.classes
    args.mean, args.std = images.mean_std()
    args.train_images, args.torch = n, str(torch.__version__)
    if not 2 <= args.batch_size <= n:
        raise SystemExit(f"--batch-size {args.batch_size}: must lie between 2 (BN wants it) and"
                         f" {n}, the number of training images")
    if not 0 <= args.warmup_epochs < args.epochs:
        raise SystemExit(f"--warmup-epochs {args.warmup_epochs}: must be at least 0 and below the"
                         f" {args.epochs} epochs")
    if not (0 < args.crop_min <= 1 and 0 <= args.blur <= 1 and 0 <= args.lr < math.inf):
        raise SystemExit("--crop-min must lie in (0, 1], --blur in [0, 1], --lr in [0, infinity)")


def describe(args, images, out):
    """Print the options in effect."""
    lr, per_epoch = scaled_lr(args.lr, args.batch_size), len(images.train) // args.batch_size
    h = {"none": "none", "mlp": "", "fixed": " (fixed)"}[args.predictor]
    h = h if h == "none" else f"{args.dim}-{args.pred_dim}-{args.dim}{h}"
    print(f"{args.data}: {len(images.train)} training and {len(images.test)} test images of"
          f" {args.image_size} px in {len(args.classes)} classes, on {args.device}")
    print(f"network: {args.arch}, {args.stem} stem; projector of {args.proj_layers} layers to"
          f" d = {args.dim}; predictor {h}; BN {args.bn}")
    print(f"loss: {args.similarity}, {args.symmetry},"
          f" {'with' if args.stopgrad else 'WITHOUT'} stop-gradient")
    print(f"SGD: lr {args.lr:g} x {args.batch_size} / 256 = {lr:g}, the predictor's"
          f" {args.predictor_lr}; weight decay {args.weight_decay:g}; {args.epochs} epochs of"
          f" {per_epoch} steps" + f", {args.warmup_epochs} of warm-up" * bool(args.warmup_epochs))
    print(f"views: {args.crop_min:.0%} to 100% of the area, blur {args.blur:g};"
          f" seed {args.seed}; run folder {out}")


# ------------------------------------------------------------------------------------------------
# The training.


def build(args):
    """The model, and the optimiser with its two groups, the encoder f and the predictor h."""
    model = SimSiam(resnet(args.arch, args.stem), args.dim, args.pred_dim, args.proj_layers,
                    args.bn, args.predictor, args.stopgrad, args.similarity, args.symmetry)
    model.to(args.device, memory_format=torch.channels_last)  # twice as fast, on a CPU too
    f = [*model.backbone.parameters(), *model.projector.parameters()]
    return model, SGD([f, model.h.parameters()], weight_decay=args.weight_decay)


def check_finite(model, state, per_epoch):
    """Stop the run if a loss of the epoch or a weight is not finite, before that is saved."""
    step, losses = state["step"], torch.stack(state["losses"]).tolist()
    bad = [i for i, L in enumerate(losses) if not math.isfinite(L)]
    if bad or not all(w.isfinite().all() for w in model.parameters()):
        what = f"loss is {losses[bad[0]]}" if bad else "network has weights that are not finite"
        step -= len(losses) - 1 - bad[0] if bad else 0
        raise SystemExit(f"the {what} at epoch {(step - 1) // per_epoch + 1}, step {step},"
                         f" lr {state['lr']:.3g}: lower --lr, or try --warmup-epochs; what was"
                         " saved before is kept")


def remember(state, L, z1):
    """Keep what the measures of an epoch need: its losses, and the last 2048 or so outputs z1."""
    state["losses"].append(L.detach())
    state["outputs"].append(z1.detach())
    if sum(map(len, state["outputs"][1:])) >= 2048:
        del state["outputs"][0]


def end_epoch(model, images, args, state, out, per_epoch, images_per_s):
    """Measure the epoch's mean loss, whether z has collapsed, and the kNN of the backbone."""
    z, epoch = torch.cat(state["outputs"]), state["step"] / per_epoch
    bank, query = (features(model.backbone, x, args.mean, args.std)
                   for x in (images.train, images.test))
    record = {
        "epoch": int(epoch) if epoch.is_integer() else epoch,
        "loss": torch.stack(state["losses"]).mean().item(),
        "std": output_std(z).item(), "rank": effective_rank(z).item(),
        "knn": knn_accuracy(bank, images.train_labels, query, images.test_labels),
        "lr": state["lr"], "images_per_s": images_per_s, "seconds": time.time() - state["began"]}
    state["records"].append(record)
    runs.write_metrics(out, state["records"])
    tqdm.write("epoch {epoch:3g}  loss {loss:6.3f}  std {std:5.3f}  rank {rank:5.1f}  kNN"
               " {knn:5.1f} %  lr {lr:6.4f}  {images_per_s:4.0f} images/s  {seconds:5.0f} s"
               .format(**record))


def save(model, optimizer, args, state, out):
    """Write everything on which the rest of the run depends."""
    runs.write_checkpoint(out / "checkpoint.pt", dict(
        state, config=vars(args), model=model.state_dict(), optimizer=optimizer.state_dict(),
        rng=torch.get_rng_state(), began=time.time() - state["began"]))


def load(model, optimizer, args, state, out, last):
    """Put everything back as it was when the checkpoint was written; last: where this run ends."""
    saved = runs.load_checkpoint(out, args.device)
    begun = saved.pop("config")
    if begun["step"] != args.step:
        raise SystemExit(f"--resume: this run's step is {begun['step']}, of experiments/; python -m"
                         " experiments.all goes on with it")
    for key in ("train_images", "classes", "mean", "std"):
        if begun[key] != getattr(args, key):
            raise SystemExit(f"--resume: the data have changed: {key.replace('_', ' ')}"
                             f" {begun[key]} -> {getattr(args, key)}; start anew in another --out")
    model.load_state_dict(saved.pop("model"))
    optimizer.load_state_dict(saved.pop("optimizer"))
    torch.set_rng_state(saved.pop("rng").cpu())
    state.update(saved, began=time.time() - saved["began"])
    if state["step"] < last:  # --max-steps, in mid-epoch, left a record that the full run has not
        state["records"] = [r for r in state["records"] if isinstance(r["epoch"], int)]
    runs.write_metrics(out, state["records"])  # epochs after the checkpoint will be run again


def announce(seconds, args, images, steps):
    """Print how long the run will take, by the time of a first batch without gradients."""
    n, size = len(images.train), args.batch_size
    views = size * (4 if args.symmetry == "asymmetric2x" else 2)
    evaluations = steps / (n // size) + 1  # of all images by kNN
    # backward costs as much as two forward
    whole = seconds * (3 * steps + evaluations * (n + len(images.test)) / views)
    print(f"this will take about {tqdm.format_interval(whole)}, judging by a first batch")


def progress(last, state, check):
    """The numbers of the steps to do; shows a bar, and calls check() now and then."""
    first, shown = state["step"], time.time()
    with tqdm(total=last, initial=first, unit=" steps", disable=None) as bar:
        for step in range(first, last):
            yield step
            bar.update()
            if time.time() - shown > 1:  # not at every step: reading the loss waits for the device
                check()
                bar.set_postfix_str(f"loss {state['losses'][-1]:.3f}", refresh=False)
                shown = time.time()


def two_views(model, augment, images, state):
    """A step of Algorithm 1, as a function: indices of images (N,) -> loss (), z1 (N, d).

    The experiments on Sec. 5.2 train by the same loop with other steps in its place.
    """
    def loss_of(indices):
        x = images.train[indices.to(images.train.device)]
        return model(*(augment(x) for _ in range(model.views)))

    return loss_of


def train(args, make_step=two_views):
    """Run Algorithm 1 as `args` say: the last record of metrics.jsonl, and the folder as "out"."""
    torch.set_flush_denormal(True)  # a collapsed network is full of denormals, slow on a CPU
    images = data.load(args.data, args.root, args.image_size, args.skip_bad_images)
    complete(args, images)
    args.step = make_step.__name__
    with runs.claimed(args) as out, runs.interruptions() as signals:
        return pretrain(args, images.to(args.device), out, signals, make_step)


def pretrain(args, images, out, signals, make_step):
    """The training loop; signals: a list in which a signal to stop may appear at any time."""
    torch.manual_seed(args.seed)
    model, optimizer = build(args)
    augment = Augment(args.image_size, args.mean, args.std, args.crop_min, blur_p=args.blur)
    describe(args, images, out)

    n, size = len(images.train), args.batch_size
    per_epoch = n // size  # full batches only, as BN wants them; the rest of an order is left out
    steps, warmup = args.epochs * per_epoch, args.warmup_epochs * per_epoch
    last = min(steps, args.max_steps or steps)
    peak = scaled_lr(args.lr, size)
    state = {"step": 0, "order": None, "losses": [], "outputs": [], "records": [], "lr": 0.0,
             "began": time.time()}
    loss_of = make_step(model, augment, images, state)

    if args.resume:
        load(model, optimizer, args, state, out, last)
    else:
        runs.write_json(out / "config.json", vars(args))
        save_views(augment, images.train[:: n // 16 + 1][:16], out / "views.png")
        state["order"] = torch.randperm(n)
        clock = time.time()
        views_of = two_views(model, augment, images, state)  # whichever steps the training takes
        batches = state["order"].split(size)[: min(math.ceil(2048 / size), per_epoch)]
        with torch.no_grad():  # epoch 0: no learning; BN's running statistics meet the data
            for indices in batches:
                remember(state, *views_of(indices))
                if indices is batches[0]:
                    announce(time.time() - clock, args, images, last)
        end_epoch(model, images, args, state, out, per_epoch, 0.0)
        save(model, optimizer, args, state, out)

    saved_at = clock = time.time()
    check, start = lambda: check_finite(model, state, per_epoch), state["step"]
    with contextlib.closing(progress(last, state, check)) as todo:
        for step in todo:
            if step % per_epoch == 0:
                state.update(order=torch.randperm(n), losses=[], outputs=[])
                clock, start = time.time(), step
            state["lr"] = lr = cosine_lr(peak, step, steps, warmup)
            L, z1 = loss_of(state["order"][step % per_epoch * size :][:size])
            remember(state, L, z1)
            optimizer.zero_grad()
            L.backward()
            optimizer.step(lr, peak if args.predictor_lr == "constant" else lr)
            state["step"] = step + 1
            epoch, rest = divmod(step + 1, per_epoch)
            if rest == 0 or step + 1 == last:
                check()  # waits for the device
                speed = (step + 1 - start) * size / (time.time() - clock)
                end_epoch(model, images, args, state, out, per_epoch, speed)
            due = runs.is_due(args.checkpoint_every, None if rest else epoch, saved_at)
            if due or signals or step + 1 == last:
                check()
                save(model, optimizer, args, state, out)
                saved_at = time.time()
            if signals:
                break
    if state["step"] < last:
        print(f"stopped after step {state['step']} of {last} and saved; to go on:\n"
              f"python train.py --resume --out {out}", file=sys.stderr)
        sys.exit(128 + signals[0])
    runs.plot_curves(out / "curves.png", {out.name: state["records"]}, args.dim)
    print(f"{out}: metrics.jsonl, checkpoint.pt, views.png, curves.png")
    print(f"next: python lineval.py {out}")
    return dict(state["records"][-1], out=str(out))


def main(argv=None):
    """Parse a command line and train."""
    args = parse(argv)
    sys.stdout.reconfigure(line_buffering=True)  # `python train.py | tee log` shows each epoch
    try:
        return train(args)
    except KeyboardInterrupt:  # while the images are read, or a second time
        print("\ninterrupted; --resume goes on from the last checkpoint, if one was written",
              file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
