"""Pre-training: Algorithm 1 in a loop, with every ablation of Section 4 as a flag.

    python train.py                                  ten generated shapes, two minutes on a laptop
    python train.py --no-stopgrad                    the same, and it collapses (Sec. 4.1)
    python train.py --method byol                    another method of baselines/ (Sec. 6)
    python train.py --data cifar10                   Appendix D's recipe, for a GPU
    python train.py --data PATH --arch resnet8 --epochs 5     a folder of photographs, on a CPU

Ctrl-C finishes the step and saves; `--resume --out FOLDER` goes on. options.py has the flags,
runs.py says what a run leaves on the disk.
"""

import argparse
import contextlib
import ctypes
import dataclasses
import math
import pathlib
import sys
import time

import torch
from torch import nn
from tqdm import tqdm

import data
import runs
from augment import Augment, save_views, to_device
from lineval import features, knn_accuracy
from optim import SGD, cosine_lr, scaled_lr
from options import build, complete, describe, parse
from simsiam import effective_rank, output_std

# ------------------------------------------------------------------------------------------------
# What a run consists of.


@dataclasses.dataclass
class Run:
    """The parts of a run; an experiment's make_step() may exchange some before the first step."""

    args: argparse.Namespace  # the options in effect
    out: pathlib.Path  # its folder
    images: data.Data
    augment: Augment
    model: nn.Module  # of simsiam.py or baselines/
    optimizer: SGD  # of two groups of parameters: everything else, and the predictor h
    state: dict  # what else a checkpoint holds: step, order, losses, outputs, records ...

    @property
    def per_epoch(self):
        """Steps an epoch: full batches only, as BN wants them; the rest of an order is left out."""
        return len(self.images.train) // self.args.batch_size

    @property
    def last(self):
        """The step with which it ends."""
        steps = self.args.epochs * self.per_epoch
        return min(steps, self.args.max_steps or steps)

    def views(self, indices):
        """Fresh views of images by their numbers: (N,) -> two or four of (N, 3, S, S).

        All are drawn together, which is faster; each row still has draws of its own.
        """
        x, n = self.images.train, self.model.views
        x = x.index_select(0, to_device(indices, x.device).repeat(n))
        return self.augment(x).chunk(n)


def two_views(run):
    """A step of Algorithm 1, as a function: indices of images (N,) -> loss (), z1 (N, d).

    This is the default of train(); experiments/ have steps of their own, for the same loop.
    """
    return lambda indices: run.model(*run.views(indices))


def groups(model):
    """Lists of the parameters of the predictor h, last, and of all else that is trained."""
    named = model.named_parameters()
    f = [w for name, w in named if w.requires_grad and not name.startswith("h.")]
    return [f, list(model.h.parameters())]


# ------------------------------------------------------------------------------------------------
# An epoch's measures, and the checkpoint.


class Diverged(SystemExit):
    """A loss or a weight is not finite."""


def check_finite(run):
    """Stop the run if a loss of the epoch or a weight is not finite, before that is saved."""
    step, losses = run.state["step"], torch.stack(run.state["losses"]).tolist()
    bad = [i for i, L in enumerate(losses) if not math.isfinite(L)]
    if bad or not all(w.isfinite().all() for w in run.model.parameters()):
        what = f"loss is {losses[bad[0]]}" if bad else "network has weights that are not finite"
        step -= len(losses) - 1 - bad[0] if bad else 0
        raise Diverged(f"the {what} at epoch {(step - 1) // run.per_epoch + 1}, step {step},"
                       f" lr {run.state['lr']:.3g}: lower --lr, or try --warmup-epochs; what was"
                       " saved before is kept")


def remember(state, L, z1):
    """Keep what the measures of an epoch need: its losses, and the last 2048 or so outputs z1."""
    state["losses"].append(L.detach())
    state["outputs"].append(z1.detach())
    if sum(map(len, state["outputs"][1:])) >= 2048:
        del state["outputs"][0]


def judge(run):
    """kNN accuracy of the backbone's features on all test images, in percent."""
    args, images = run.args, run.images
    bank, query = (features(run.model.backbone, x, args.mean, args.std)
                   for x in (images.train, images.test))
    return knn_accuracy(bank, images.train_labels, query, images.test_labels)


def end_epoch(run, images_per_s):
    """Measure the epoch's mean loss, whether z has collapsed, and, where that is due, the kNN."""
    args, state = run.args, run.state
    z, epoch = torch.cat(state["outputs"]), state["step"] / run.per_epoch
    due = epoch % args.knn_every == 0 or state["step"] == run.last
    record = {
        "epoch": int(epoch) if epoch.is_integer() else epoch,
        "loss": torch.stack(state["losses"]).mean().item(),
        "std": output_std(z).item(), "rank": effective_rank(z).item(),
        "knn": judge(run) if due else None,
        "lr": state["lr"], "images_per_s": images_per_s, "seconds": time.time() - state["began"]}
    state["records"].append(record)
    runs.write_metrics(run.out, state["records"])
    knn = f"{record['knn']:5.1f} %" if due else "    -  "
    tqdm.write("epoch {epoch:3g}  loss {loss:6.3f}  std {std:5.3f}  rank {rank:5.1f}  kNN"
               " {0}  lr {lr:6.4f}  {images_per_s:4.0f} images/s  {seconds:5.0f} s"
               .format(knn, **record))


def save(run):
    """Write everything on which the rest of the run depends."""
    runs.write_checkpoint(run.out / "checkpoint.pt", dict(
        run.state, config=vars(run.args), model=run.model.state_dict(),
        optimizer=run.optimizer.state_dict(), rng=torch.get_rng_state(),
        began=time.time() - run.state["began"]))


def load(run):
    """Put everything back as it was when the checkpoint was written."""
    saved = runs.load_checkpoint(run.out, run.args.device)
    begun = saved.pop("config")
    if begun["step"] != run.args.step:
        raise SystemExit(f"--resume: this run's step is {begun['step']}, of experiments/; python -m"
                         " experiments.all goes on with it")
    for key in ("train_images", "classes", "mean", "std"):
        if begun[key] != getattr(run.args, key):
            raise SystemExit(f"--resume: the data have changed: {key.replace('_', ' ')}"
                             f" {begun[key]} -> {getattr(run.args, key)}; start anew in another"
                             " --out")
    run.model.load_state_dict(saved.pop("model"))
    run.optimizer.load_state_dict(saved.pop("optimizer"))
    torch.set_rng_state(saved.pop("rng").cpu())
    run.state.update(saved, order=saved["order"].cpu(), began=time.time() - saved["began"])
    records = run.state["records"]
    if run.state["step"] < run.last:  # --max-steps, in mid-epoch, left a record that is not whole
        run.state["records"] = [r for r in records if isinstance(r["epoch"], int)]
    runs.write_metrics(run.out, run.state["records"])  # later epochs will be run again


# ------------------------------------------------------------------------------------------------
# The training.


def begin(run):
    """Epoch 0, the untrained network: no learning; BN's running statistics meet the data."""
    args, state, n = run.args, run.state, len(run.images.train)
    runs.write_json(run.out / "config.json", vars(args))
    save_views(run.augment, run.images.train[:: n // 16 + 1][:16], run.out / "views.png")
    state["order"] = torch.randperm(n)
    loss_of = two_views(run)  # whichever steps the training takes
    few = min(math.ceil(2048 / args.batch_size), run.per_epoch)
    for i, indices in enumerate(state["order"].split(args.batch_size)[:few], start=1):
        clock = time.time()
        with torch.no_grad():
            remember(state, *loss_of(indices))
        if i == min(2, few):  # the first may have had to wait for a compiler
            state["losses"][-1].item()  # waits for the device
            announce(run, time.time() - clock)
    end_epoch(run, 0.0)
    save(run)


def announce(run, seconds):
    """Print how long the run will take, by the time of a batch without gradients."""
    views = run.args.batch_size * run.model.views
    judged = len(run.images.train) + len(run.images.test)  # whenever kNN is due
    evaluations = run.last / run.per_epoch / run.args.knn_every + 1
    whole = seconds * (3 * run.last + evaluations * judged / views)  # backward costs two forward
    print(f"this will take about {tqdm.format_interval(whole)}, judging by one batch")


def progress(run):
    """The numbers of the steps to do; shows a bar, and looks at the loss now and then."""
    first, shown = run.state["step"], time.time()
    with tqdm(total=run.last, initial=first, unit=" steps", disable=None) as bar:
        for step in range(first, run.last):
            yield step
            bar.update()
            if time.time() - shown > 1:  # not at every step: reading the loss waits for the device
                check_finite(run)
                bar.set_postfix_str(f"loss {run.state['losses'][-1]:.3f}", refresh=False)
                shown = time.time()


def pretrain(run, loss_of, signals):
    """The loop; loss_of: see two_views(); signals: grows when the run is asked to stop."""
    args, state, per_epoch, size = run.args, run.state, run.per_epoch, run.args.batch_size
    steps, warmup = args.epochs * per_epoch, args.warmup_epochs * per_epoch
    peak = scaled_lr(args.lr, size)
    saved_at = clock = time.time()
    first = state["step"]
    with contextlib.closing(progress(run)) as todo:
        for step in todo:
            if step % per_epoch == 0:
                state.update(order=torch.randperm(len(run.images.train)), losses=[], outputs=[])
                clock, first = time.time(), step
            state["lr"] = lr = cosine_lr(peak, step, steps, warmup)
            L, z1 = loss_of(state["order"][step % per_epoch * size :][:size])
            remember(state, L, z1)
            run.optimizer.zero_grad()
            L.backward()
            run.optimizer.step(lr, peak if args.predictor_lr == "constant" else lr)
            state["step"] = step + 1
            epoch, rest = divmod(step + 1, per_epoch)
            if rest == 0 or step + 1 == run.last:
                check_finite(run)  # waits for the device
                end_epoch(run, (step + 1 - first) * size / (time.time() - clock))
            due = runs.is_due(args.checkpoint_every, None if rest else epoch, saved_at)
            if due or signals or step + 1 == run.last:
                check_finite(run)
                save(run)
                saved_at = time.time()
            if signals:
                break


def tune_cpu():
    """Make the rest of this process faster on a CPU, at the price of some memory.

    A collapsed network is full of denormals, numbers below 1e-38, which are slow: they become 0.
    And glibc hands large blocks back to the system as soon as they are free, so that every step
    pays for its pages anew (an eighth of a step of resnet8): it is told to keep them.
    """
    torch.set_flush_denormal(True)
    with contextlib.suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: no block is outside the heap
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap never shrinks


def train(args, make_step=two_views):
    """Pre-train as `args` say: the last record of metrics.jsonl, and the folder as "out"."""
    if args.device == "cpu":
        tune_cpu()
    images = data.load(args.data, args.root, args.image_size, args.skip_bad_images)
    complete(args, images)
    args.step = make_step.__name__
    with runs.claimed(args) as out, runs.interruptions() as signals:
        torch.manual_seed(args.seed)
        model = build(args)
        augment = Augment(args.image_size, args.mean, args.std, args.crop_min, blur_p=args.blur)
        state = {"step": 0, "order": None, "losses": [], "outputs": [], "records": [], "lr": 0.0,
                 "began": time.time()}
        run = Run(args, out, images.to(args.device), augment, model,
                  SGD(groups(model), weight_decay=args.weight_decay), state)
        loss_of = make_step(run)
        describe(run)
        if args.resume:
            load(run)
        else:
            begin(run)
        pretrain(run, loss_of, signals)
    if state["step"] < run.last:
        print(f"stopped after step {state['step']} of {run.last} and saved; to go on:\n"
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
