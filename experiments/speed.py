"""How fast train.py is, where the time goes, and how fast others are.

    python -m experiments.speed          on a GPU if there is one; else on the
                                         CPU, with nothing else running
    python -m experiments.speed --peers  with lightly (pip install lightly);
                                         seventeen minutes on two cores

The two sides of a comparison take turns, most in one process, so that a noisy
machine disturbs both alike. The medians over the turns, of the ratio too, are
printed and appended to results/speed.md. Ratios carry over to other machines
better than times.

A peer's loop is described in peers.py. Its clock starts when the first batch
has arrived; by then each worker may have loaded two. This favours the peer,
which also benefits from the settings of utils/device.py.
"The network alone": forward and backward pass on views that are ready. "The
peak": the arithmetic rate of a product of two 2048 x 2048 matrices, on a GPU of
two 8192 x 8192 matrices in bfloat16.
"""

import argparse
import contextlib
import datetime
import gc
import importlib.metadata
import importlib.util
import io
import os
import pathlib
import subprocess
import sys
import tempfile
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms.functional import to_pil_image

import lineval
import options
import train
from augment import Augment
from experiments.benchmark import (
    DEVICE, MEAN, SIZE, STD, compared, in_turns, race, rate, report, smooth_images, write_folder)
from experiments.logs import HERE, machine
from experiments.peers import PIL_VIEW, lightly_peer, peer_loop, torchvision_peer
from optim import SGD
from utils import data, runs
from utils.console import plain_errors
from utils.device import tune

# Of the loops: backbone, batch, d, number of images, and turns; for a CPU and for a GPU.
CPU_SIZES = [("resnet8", 64, 256, 4096, 5), ("resnet8", 512, 2048, 4096, 3),
             ("resnet18", 64, 2048, 512, 2)]
GPU_SIZES = [("resnet18 --bf16 --compile", 512, 2048, 25600, 2)]

# ------------------------------------------------------------------------------------------------
# A step of training. Each function that measures something returns rows of the table.


def arguments(image_size, *argv):
    """Options as train.py would complete them, for images of this size."""
    return options.fill_in(options.parse([*argv, "--device", DEVICE]), image_size)


def network(args):
    """Two functions on ready-made views: forward and backward pass, and that plus the update."""
    model = options.build(args)
    sgd = SGD([[w for w in model.parameters() if w.requires_grad]], weight_decay=5e-4)
    shape = args.batch_size, 3, args.image_size, args.image_size
    views = [torch.randn(shape).to(DEVICE, memory_format=torch.channels_last) for _ in range(2)]

    def alone():
        sgd.zero_grad()
        model(*views)[0].backward()

    def step():
        alone()
        sgd.step(0.01)

    return alone, step


def our_loop(folder, argv):
    """A function that runs train.py and returns images/s of its last epoch, kNN not counted."""
    epochs = "2" if "--compile" in argv else "1"  # with --compile the first one waits

    def run():
        with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
            rest = ["--data", folder, "--epochs", epochs, "--device", DEVICE, "--out", out]
            return train.train(options.parse([*argv, *rest]))["images_per_s"]

    return run


def loops(peers, arch, batch_size, dim, n, turns):
    """images/s of train.py against the network alone, the peers' loops, and the peak."""
    gc.collect()  # ends the workers of an earlier loop; a child process would complain about them
    argv = f"--arch {arch} --batch-size {batch_size} --dim {dim}".split()
    args = arguments(SIZE, "--data", "cifar10", *argv)
    alone, _ = network(args)
    with FlopCounterMode(display=False) as counter:  # it does not see into compiled networks
        network(argparse.Namespace(**{**vars(args), "compile": False}))[0]()
    flops = counter.get_total_flops() / batch_size
    side, kind = (8192, torch.bfloat16) if DEVICE == "cuda" else (2048, torch.float32)
    matrix = torch.randn(side, side, device=DEVICE, dtype=kind)
    images = [to_pil_image(x) for x in smooth_images(n)]
    with tempfile.TemporaryDirectory() as folder:
        write_folder(pathlib.Path(folder), n)
        rates = {
            "train.py": our_loop(folder, argv),
            "the network alone": lambda: rate(alone, batch_size, n // batch_size),
            **{name: peer_loop(args, images, peer(args)) for name, peer in peers.items()},
            # as if the arithmetic of an image were one product of matrices
            "the peak": lambda: rate(lambda: matrix @ matrix, 2 * side**3 / flops, 20),
        }
        found = {name: [] for name in rates}
        for _ in range(turns + 1):  # the first turn is a warm-up
            for name, measure in rates.items():
                found[name].append(measure())
    what = f"train.py, {arch}, batch {batch_size}, d = {dim}"
    ours = found.pop("train.py")[1:]
    return [compared(what, "images/s", ours, name, theirs[1:]) for name, theirs in found.items()]


def variants():
    """Seconds per step with other kinds of arithmetic and, on a CPU, of the other methods."""
    arch = "resnet18" if DEVICE == "cuda" else "resnet8"
    kinds = {"float32": [], "--bf16": ["--bf16"], "--bf16 --compile": ["--bf16", "--compile"]}
    of_kind = {kind: arguments(SIZE, "--data", "cifar10", "--arch", arch, *flags)
               for kind, flags in kinds.items()}
    steps = {kind: network(args)[1] for kind, args in of_kind.items()}
    seconds = in_turns(steps, 15)
    plain = seconds.pop("float32")
    one = of_kind["float32"]
    what = f"a step of {one.arch}, batch {one.batch_size}, d = {one.dim}"
    rows = [compared(f"{what}, {kind}", "s", values, "float32", plain)
            for kind, values in seconds.items()]
    if DEVICE == "cuda":
        return rows
    steps = {method: network(arguments(24, "--method", method))[1] for method in options.METHODS}
    seconds = in_turns(steps, 9)
    plain = seconds.pop("simsiam")
    return rows + [compared(f"a step of {method}, the recipe for shapes", "s", values, "simsiam",
                            plain) for method, values in seconds.items()]


# ------------------------------------------------------------------------------------------------
# The rest of a run.


def views():
    """Seconds for one view each of 512 images, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # PIL does not use more
    x, augment = smooth_images(512), Augment(SIZE, MEAN, STD, blur_p=0.0)
    pil = [to_pil_image(image) for image in x]
    rows = race("512 views, one thread", lambda: augment(x), "torchvision, PIL",
                lambda: list(map(PIL_VIEW, pil)), 7)
    torch.set_num_threads(threads)
    return rows


def knn():
    """Seconds for the kNN of 10,000 features in a bank of 50,000, each of length 512."""
    bank, labels, query = torch.randn(50000, 512), torch.arange(50000) % 10, torch.randn(10000, 512)
    normalised = [torch.nn.functional.normalize(v, dim=1) for v in (query, bank)]
    product = lambda: [q @ normalised[1].T for q in normalised[0].split(500)]
    return race("kNN of 10,000 in 50,000, 512 features",
                lambda: lineval.knn_predict(bank, labels, query, 10), "its matrix product",
                product, 3)


def decoding(n=60000):
    """Seconds to read a folder of JPEGs for the first time, and again, from the cache."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_folder(folder, n)

        def for_the_first_time():
            for cache in folder.glob(".simsiam-*"):
                cache.unlink()
            data.load(str(folder))

        return race(f"reading {n:,} JPEGs of {SIZE} px", for_the_first_time, "from the cache",
                    lambda: data.load(str(folder)), 2)


def two_processes(turns=3):
    """images/s of train.py in two processes of one thread, against one process of two threads."""
    argv = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    rates = {1: [], 2: []}  # by the number of threads
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns + 1):  # the first turn is a warm-up
            for threads, launcher in ((1, argv), (2, [])):
                out = pathlib.Path(folder, f"{turn}-{threads}")
                subprocess.run(
                    [sys.executable, *launcher, "train.py", "--max-steps", "64", "--device", "cpu",
                     "--out", str(out)], cwd=HERE.parent, check=True, capture_output=True,
                    env={**os.environ, "OMP_NUM_THREADS": str(threads)})
                rates[threads].append(runs.read_metrics(out)[-1]["images_per_s"])
    return [compared("train.py, the recipe for shapes, two processes of one thread", "images/s",
                     rates[1][1:], "one process of two threads", rates[2][1:])]


def start():
    """Seconds until a fresh process has done next to nothing."""
    call = lambda *argv: lambda: subprocess.run(
        [sys.executable, *argv], cwd=HERE.parent, stdout=subprocess.DEVNULL, check=True)
    return race("python train.py --help", call("train.py", "--help"), "import torch",
                call("-c", "import torch"), 5)


@plain_errors
def main():
    p = argparse.ArgumentParser(prog="python -m experiments.speed", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--peers", action="store_true", help="measure lightly, too")
    args = p.parse_args()
    if args.peers and not importlib.util.find_spec("lightly"):
        p.error("--peers needs a package: pip install lightly")
    tune(DEVICE)
    peers = {"torchvision on PIL": torchvision_peer}
    if args.peers:
        peers["lightly"] = lightly_peer
    packages = ["torch", "torchvision", *["lightly"] * args.peers]
    versions = (f"{name} {importlib.metadata.version(name)}" for name in packages)
    report(f"\n## {datetime.date.today()}, {machine()}, {', '.join(versions)}\n",
           "| what | unit | ours | against | theirs | times as fast |", "|---|---|---|---|---|---|")
    sizes, rest = ((GPU_SIZES, []) if DEVICE == "cuda" else
                   (CPU_SIZES, [views, knn, two_processes, decoding, start]))
    for rows in (*(partial(loops, peers, *size) for size in sizes), variants, *rest):
        report(*(f"| {what} | {unit} | {ours:.3g} | {name} | {theirs:.3g} | {ratio:.2f} |"
                 for what, unit, ours, name, theirs, ratio in rows()))


if __name__ == "__main__":
    main()
