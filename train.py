"""Pre-training (Sec. 3): Algorithm 1 in a loop. The ablations of Section 4 are flags.

    python train.py                            generated shapes, 10 classes; a minute on two cores
    python train.py --no-stopgrad              the same, and it collapses (Sec. 4.1)
    python train.py --method byol              another method, from baselines/ (Sec. 6)
    python train.py --data cifar10 --bf16 --compile                Appendix D's recipe, for a GPU
    python train.py --data PATH --arch resnet8 --image-size 64     photographs, on a CPU
    torchrun --nproc-per-node 8 train.py --data PATH               the same steps on eight GPUs

Ctrl-C finishes the current step and saves; `--resume --out FOLDER` continues. The loop is in
pretrain(). options.py has the flags, utils/runs.py describes the files of a run.

From its output (AMD EPYC, two cores, nothing else running, seed 0; raw pixels are from a later run,
as this one is older than that line):

    epoch   0  loss -0.008  std 0.994  rank 133.8  kNN  15.8 %  lr 0.0000     2 s
    raw pixels                                     kNN  41.0 %
    epoch   1  loss -0.244  std 0.974  rank  65.1  kNN  45.1 %  lr 0.4970     4 s
    epoch  20  loss -0.912  std 0.994  rank  21.2  kNN  88.1 %  lr 0.0000    49 s
    not collapsed: std 0.994, rank 21.2 of 256, kNN 88.1 % (untrained 15.8 %, raw
      pixels 41.0 %)
"""

import argparse
import math
import os
import pathlib
import shlex
import signal
import sys
import time
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from tqdm import tqdm

from augment import Augment, center_crop, to_device
from lineval import extract_features, knn_accuracy
from optim import SGD, cosine_lr, scaled_lr
from options import augmentation, build, complete, describe, parse
from simsiam import COLLAPSED_RANK, COLLAPSED_STD, collapsed, effective_rank, output_std
from utils import checkpoint, data, parallel, plot, runs
from utils.console import interruptions, plain_errors, print_eta, progress_bar, wrapped
from utils.device import tune

# ------------------------------------------------------------------------------------------------
# What a run consists of.


@dataclass
class State:
    """What changes from step to step, besides weights, momentum and random state."""

    step: int = 0  # number of steps done
    order: torch.Tensor | None = None  # of the images in this epoch (n,)
    losses: list = field(default_factory=list)  # of this epoch's steps, each ()
    outputs: list = field(default_factory=list)  # the last z1 of this epoch, 2048 rows or so
    lr: float = 0.0  # of the last step
    records: list = field(default_factory=list)  # the lines of metrics.jsonl
    start_time: float = field(default_factory=time.monotonic)
    extra: dict = field(default_factory=dict)  # a study's own tensors and numbers, e.g. all η_x


@dataclass
class Run:
    """The parts of a run. A study of experiments/ may replace some before the first step."""

    args: argparse.Namespace  # the options in effect
    out: pathlib.Path  # the run folder
    images: data.Data
    augment: Augment
    model: nn.Module  # of simsiam.py or baselines/
    optimizer: SGD  # two parameter groups: all but the predictor, then the predictor
    state: State = field(default_factory=State)
    indices: torch.Tensor | None = None  # of the current step's images (N,)
    clock: tuple = (0.0, 0)  # time and step at which this epoch, or the resumed rest of it, started
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def steps_per_epoch(self):
        """Full batches only: a small last batch would have noisier BN statistics than the rest."""
        return len(self.images.train) // self.args.batch_size

    @property
    def total_steps(self):
        """The length of the schedule in steps, warm-up included."""
        return self.args.epochs * self.steps_per_epoch

    @property
    def last_step(self):
        """The step with which the run ends: total_steps, or --max-steps if that is less."""
        return min(self.total_steps, self.args.max_steps or self.total_steps)

    def two_views(self, indices):
        """Fresh views x1, x2 of the images with these numbers: (N,) -> twice (N, 3, H, W).

        Under torchrun, those of this process's slice of the batch.
        """
        # Both are drawn in one call, which is faster; every row has random numbers of its own, so
        # the two views of an image are independent.
        x, K = self.images.train, self.args.accumulate
        draws = self.augment.draw(2 * len(indices), x.shape[2])  # in all processes alike
        # This process's slice of each of the K pieces, which are the same for any number of
        # processes.
        indices = parallel.shard(indices, K)
        x = x.index_select(0, to_device(indices, x.device))  # (N, 3, C, C)
        if x.device.type == "cpu":  # also if the set does not fit into the GPU's memory
            x = to_device(x, self.args.device)
        x = x.repeat(2, 1, 1, 1)  # (2N, 3, C, C)
        return self.augment(x, [parallel.shard(v, 2 * K) for v in draws]).chunk(2)


def param_groups(model):
    """All trained parameters but h's, and all of h's, whose learning rate may differ (Sec. 4.2)."""
    rest = [w for name, w in model.named_parameters()
            if w.requires_grad and not name.startswith("h.")]
    return [rest, list(model.h.parameters())]


# ------------------------------------------------------------------------------------------------
# The training.


def pretrain(run, loss_fn, signals):
    """Algorithm 1, epoch by epoch, until the last step or a signal.

    loss_fn: x1, x2 (N, 3, H, W) -> loss (), z1 (N, d)   signals: empty until one arrives
    Under torchrun loss_fn gets a slice of the batch: see utils/parallel.py.
    """
    args, state, N, S = run.args, run.state, run.args.batch_size, run.steps_per_epoch
    peak_lr = scaled_lr(args.lr, N)
    with progress_bar(run.last_step, state.step, partial(status, run)) as advance:
        for epoch in range(state.step // S, math.ceil(run.last_step / S)):
            if state.step == epoch * S:  # otherwise resumed in mid-epoch: keep its order
                state.order = torch.randperm(len(run.images.train))
                state.losses, state.outputs = [], []
            run.clock = time.monotonic(), state.step
            for step in range(state.step, min((epoch + 1) * S, run.last_step)):
                # 1. The learning rate: half a cosine over the whole run, after any warm-up. With
                #    --predictor-lr constant h's stays at its peak, so that h keeps up with the
                #    changing z (Table 1 (c)).
                lr = cosine_lr(peak_lr, step, run.total_steps, args.warmup_epochs * S)
                lr_h = peak_lr if args.predictor_lr == "constant" else lr

                # 2. Two random views of each image of the batch, and the loss. loss_fn is
                #    SimSiam.forward(): z1, z2 = f(x1), f(x2); p1, p2 = h(z1), h(z2); then Eq. 4.
                i = step - epoch * S
                run.indices = state.order[i * N : (i + 1) * N]
                x1, x2 = run.two_views(run.indices)
                if i + 1 < S:  # a set larger than memory: begin to read the next batch from disk
                    following = state.order[(i + 1) * N : (i + 2) * N]
                    run.images.prefetch(parallel.shard(following, args.accumulate))
                run.optimizer.zero_grad()  # first, as --accumulate calls backward() in loss_fn
                L, z1 = loss_fn(x1, x2)

                # 3. Backward: with stop-gradient f learns through p1 and p2, not through targets.
                L.backward()

                # 4. Update f and h together. SimSiam has no momentum encoder (BYOL has): the next
                #    targets come from the weights that this step leaves behind.
                run.optimizer.step(lr, lr_h)

                remember(state, L, z1)
                state.step, state.lr = step + 1, lr
                advance()
                if state.step % S == 0 or state.step == run.last_step:
                    evaluate(run)
                stop, due = parallel.agree(bool(signals), checkpoint.is_due(run))
                if stop or due:
                    check_finite(run)
                    checkpoint.save(run)
                if stop:
                    return


def remember(state, L, z1):
    """Keep a batch's loss for evaluate(), and of the outputs the last 2048 or so."""
    # detach() keeps the numbers without what backward() needs; .item() would wait for the device.
    # clone(): with --compile on a GPU the next step writes its results into the same memory.
    state.losses.append(L.detach().clone())
    state.outputs.append(z1.detach().clone())
    # Enough for std and rank, and cheap to hold and to save. But each batch's outputs come from
    # another network: while the learning rate is high, both look better than they are (shapes, one
    # thread, seed 0, epoch 1: rank 73, of the last network alone 30; without stop-gradient std 0.57
    # and 0.38).
    if sum(map(len, state.outputs[1:])) * parallel.world_size() >= 2048:
        del state.outputs[0]


def status(run):
    """What the progress bar shows: the loss of the last step, which must be finite."""
    check_finite(run)
    return f"loss {run.state.losses[-1]:.3f}"


# ------------------------------------------------------------------------------------------------
# The measures of an epoch.


class Diverged(SystemExit):
    """A loss, a weight or a buffer, such as a running statistic, is not finite."""


def check_finite(run):
    """Stop the run if a loss of this epoch, a weight or a buffer is not finite: Diverged."""
    # Buffers, too: load_checkpoint() would refuse them, and the last checkpoint would be lost.
    state, losses = run.state, torch.stack(run.state.losses).tolist()
    bad = [i for i, L in enumerate(losses) if not math.isfinite(L)]
    finite = torch.stack([w.isfinite().all() for w in run.model.state_dict().values()]).all()
    if bad or not finite:
        what = (f"loss is {losses[bad[0]]}" if bad
                else "network has weights or buffers that are not finite")
        step = max(1, state.step - (len(losses) - 1 - bad[0] if bad else 0))
        raise Diverged(f"the {what} at epoch {(step - 1) // run.steps_per_epoch + 1}, step {step},"
                       f" lr {state.lr:.3g}: lower --lr, or try --warmup-epochs; the last"
                       " checkpoint is kept")


def knn_eval(run, backbone):
    """kNN accuracy on all test images, in percent, of a backbone's features (Fig. 2, right)."""
    args, images = run.args, run.images
    if args.local_bn:
        parallel.share_buffers(run.model)
    images.read_in_order()
    # images.labelled: all training images, but for stl10, of which only a few have labels.
    # .to(): raw pixels are where the images are, which may not fit on the device.
    extract = lambda x: extract_features(
        backbone, x, args.mean, args.std, args.image_size).to(args.device)
    bank, query = (parallel.spread(extract, x) for x in (images.labelled, images.test))
    return knn_accuracy(bank, images.train_labels, query, images.test_labels)


def evaluate(run):
    """Print and append to metrics.jsonl: the mean loss, std and rank of z, and kNN if it is due."""
    check_finite(run)  # this also waits for the device, so that the clock is right
    state, (started, first) = run.state, run.clock
    seconds, images = time.monotonic() - started, (state.step - first) * run.args.batch_size
    epoch, z = state.step / run.steps_per_epoch, parallel.gather(torch.cat(state.outputs))
    due = epoch % run.args.knn_every == 0 or state.step == run.last_step
    due &= bool(run.args.classes)  # without labels there is no kNN accuracy
    record = {
        "epoch": int(epoch) if epoch.is_integer() else epoch,
        "loss": parallel.gather(torch.stack(state.losses)).mean().item(),
        "std": output_std(z).item(), "rank": effective_rank(z).item(),
        "knn": knn_eval(run, run.model.backbone) if due else None,
        "lr": state.lr, "images_per_s": images / seconds,
        "seconds": time.monotonic() - state.start_time}
    state.records.append(record)
    runs.write_metrics(run.out, state.records)
    knn = f"{record['knn']:5.1f} %" if due else "    -  "
    number = f"{epoch:3.0f}" if epoch.is_integer() else f"{epoch:.2f}"
    tqdm.write("epoch {0}  loss {loss:6.3f}  std {std:5.3f}  rank {rank:5.1f}  kNN {1}"
               "  lr {lr:6.4f}  {seconds:4.0f} s".format(number, knn, **record))


def start(run):
    """Epoch 0: measure the starting network, for comparison with every later epoch."""
    args, state, x = run.args, run.state, run.images.train
    runs.write_json(run.out / "config.json", vars(args))
    sample = x[:: len(x) // 16 + 1]  # at most 16
    both = sample.repeat(2, 1, 1, 1)  # in one call, as in two_views(): the first half is view 1
    views = run.augment.view(both, *run.augment.draw(len(both), x.shape[2])).chunk(2)
    plot.save_views(center_crop(sample, args.image_size), views, run.out / "views.png")
    # BN's running statistics start at 0 and 1, which fit no network: let them see some batches.
    # Each update keeps 0.9 of the old ones: 0.1 % are left after the 64 updates that batches of 64
    # make here, but 43 % after the 8 of batches of 512.
    order = torch.randperm(len(x))
    batches = min(math.ceil(2048 / args.batch_size), run.steps_per_epoch)
    for i, indices in enumerate(order.split(args.batch_size)[:batches]):
        clock = time.monotonic()
        with torch.no_grad():
            # forward(), not the compiled call: compiling takes longer than these few batches.
            L, z1 = run.model.forward(*run.two_views(indices))
        remember(state, L, z1)
        L.item()  # waits for the device, so that the next batch is timed by itself
        if i == min(1, batches - 1):  # the first is slower: it also allocates memory
            print_eta(run, time.monotonic() - clock)
    run.clock = time.monotonic(), 0
    evaluate(run)
    measure_pixels(run)
    checkpoint.save(run)


def measure_pixels(run):
    """Print the kNN accuracy of raw pixels, and add it to the record of epoch 0: "pixels_knn".

    If raw pixels do as well as the features, the network has shown nothing.
    """
    # As fast as an evaluation, but float32 copies of the pixels take memory, 1.6 GB for CIFAR-10,
    # and would take terabytes for ImageNet: only up to 200 million numbers.
    images = run.images
    if not run.args.classes or images.labelled.numel() + images.test.numel() > 2e8:
        return
    first = run.state.records[0]
    first["pixels_knn"] = knn_eval(run, nn.Flatten())
    runs.write_metrics(run.out, run.state.records)
    tqdm.write(f"{'raw pixels':47}kNN {first['pixels_knn']:5.1f} %")


# ------------------------------------------------------------------------------------------------
# A whole run.


def train(args, study=None):
    """Pre-train as `args` say; returns the last record of metrics.jsonl, and the folder as "out".

    study: a function of the Run that may replace its parts and returns the loss_fn of pretrain()
    SystemExit: a study with --accumulate or under torchrun
    """
    # run.indices are those of the whole batch, of which loss_fn would get a part.
    if study and args.accumulate * parallel.world_size() > 1:
        raise SystemExit(f"the study {study.__name__} needs its batch as a whole: run it in one"
                         " process, without --accumulate")
    tune(args.device)
    # Under torchrun one process decodes a folder, and the others find the result.
    images = parallel.one_first(
        data.load, args.data, args.root, args.image_size, args.skip_bad_images, args.stored_size)
    args = complete(args, images)
    args.study = study.__name__ if study else ""
    torch.manual_seed(args.seed)
    # Both before there is a run folder: they may not fit into memory.
    model, images = build(args), images.to(args.device)
    with runs.lock_run_dir(args) as out, interruptions() as signals:
        sgd = SGD(param_groups(model), weight_decay=args.weight_decay)
        run = Run(args, out, images, augmentation(args), model, sgd)
        loss_fn = study(run) if study else parallel.averaged(run.model)
        if args.accumulate > 1:
            loss_fn = parallel.in_pieces(loss_fn, args.accumulate)
        describe(run)
        if args.resume:
            checkpoint.restore(run)
        else:
            start(run)
        pretrain(run, loss_fn, signals)
    if run.state.step < run.last_step:
        stopped(run, study, signals)
    return finish(run)


def stopped(run, study, signals):
    """Say how to continue a run that a signal has stopped, and exit."""
    # When the first process ends, torchrun or a scheduler may kill the others: rank 0 saves first.
    parallel.wait_for_all()
    resume, processes = f"--resume --out {shlex.quote(str(run.out))}", parallel.world_size()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # of this machine, under torchrun
    python = ("python" if processes == 1 else f"torchrun --nproc-per-node {processes}"
              if processes == here else "torchrun (as before)")
    again = (f"the same command again; a script of your own needs {resume}" if study
             else f"{python} train.py {resume}")
    print(f"stopped after step {run.state.step} of {run.last_step} and saved; to continue:\n"
          f"{again}" + "\n(torchrun may now print a traceback and end with status 1)"
          * (processes > 1), file=sys.stderr)
    sys.exit(128 + (signals or [signal.SIGTERM])[0])  # none: another process got it


def finish(run):
    """Print the verdict, draw the curves, and say what comes next; returns what train() does."""
    args, out, records = run.args, run.out, run.state.records
    began = "loaded" if args.init else "untrained"
    print(wrapped(verdict(records, args.dim, began)))
    plot.plot_curves(out / "curves.png", {out.name: records}, args.dim,
                     plot.references(args.classes, COLLAPSED_STD, COLLAPSED_RANK), began)
    print(f"{out}: metrics.jsonl, checkpoint.pt, views.png, curves.png")
    print(f"next: python lineval.py {shlex.quote(str(out))}"
          + " --features features.npz" * (not args.classes))
    return dict(records[-1], out=str(out))


def verdict(records, dim, began="untrained"):
    """Whether the outputs have collapsed (simsiam.collapsed), and by which numbers.

    dim: d   began: the network of epoch 0, "untrained" or "loaded"
    """
    last, knns = records[-1], [r["knn"] for r in records if r["knn"] is not None]
    pixels = records[0].get("pixels_knn")  # None: there are no labels, or too many pixels
    beside = "" if pixels is None else f", raw pixels {pixels:.1f} %"
    knn = f"{knns[-1]:.1f} % ({began} {knns[0]:.1f} %{beside})" if knns else ""
    std, rank = f"std {last['std']:.3f}", f"rank {last['rank']:.1f} of {dim}"
    if not collapsed(last["std"], last["rank"]):
        return f"not collapsed: {std}, {rank}" + f", kNN {knn}" * bool(knn)
    std += f" (below {COLLAPSED_STD})" * (last["std"] < COLLAPSED_STD)
    rank += f" (below {COLLAPSED_RANK:g})" * (last["rank"] < COLLAPSED_RANK)
    return f"collapsed: {std}, {rank}" + f"; kNN ends at {knn}" * bool(knn)


@plain_errors
def main(argv=None, study=None):
    """Parse a command line and train, as train() does; for a study's own script, too."""
    with parallel.group():
        return train(parse(argv), study)


if __name__ == "__main__":
    main()
