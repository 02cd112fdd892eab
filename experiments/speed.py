"""How fast train.py is on a CPU, what that is made of, and how fast the loops of others are.

    python -m experiments.speed              on two cores; nothing else should run meanwhile
    python -m experiments.speed --peers      with lightly (pip install lightly); seventeen minutes

The sides of a comparison take turns in one process, so that a noisy neighbour disturbs them alike;
medians of the turns are printed, the ratio's too, and added to speed.md. Ratios carry over to other
machines better than times.

The peer's loop: torchvision's transforms on PIL images in a DataLoader of two workers, which are
kept from epoch to epoch, the same network in PyTorch's default memory format, torch.optim's SGD.
Its clock starts when the first batch is there, and by then the workers have loaded up to three
more, which is generous to it. And it, too, gains by what train.tune_cpu() sets.
lightly's loop is the same with lightly's transforms, heads and loss. The network alone: forward and
backward, on views that are ready. The peak: what a product of two 2048 x 2048 matrices reaches.
"""

import argparse
import contextlib
import datetime
import gc
import importlib.metadata
import io
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

import data
import lineval
import options
import train
from augment import Augment
from experiments.table import HERE, machine
from optim import SGD
from resnet import resnet
from simsiam import SimSiam

# Of the loops: network, batch, d, images, and turns.
SIZES = [("resnet8", 64, 256, 4096, 5), ("resnet8", 512, 2048, 4096, 3),
         ("resnet18", 64, 2048, 512, 2)]
SIZE, MEAN, STD = 32, (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
PIL_VIEW = transforms.Compose([
    transforms.RandomResizedCrop(SIZE, scale=(0.2, 1.0)),
    transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
    transforms.RandomGrayscale(p=0.2),
    transforms.RandomHorizontalFlip(),
    transforms.ToTensor(),
    transforms.Normalize(MEAN, STD),
])


def in_turns(functions, repetitions):
    """Seconds of each function, run in turns: {name: function} -> {name: list of seconds}."""
    seconds = {name: [] for name in functions}
    for _ in range(repetitions + 1):  # the first time is for warming up
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in seconds.items()}


def compared(what, unit, ours, name, theirs):
    """A row: two medians, and the median over the turns of how many times as fast ours is."""
    ratios = [t / o if unit == "s" else o / t for o, t in zip(ours, theirs, strict=True)]
    return what, unit, statistics.median(ours), name, *map(statistics.median, (theirs, ratios))


def race(what, ours, name, theirs, repetitions):
    """The one row of two functions that take turns, in a list."""
    seconds = in_turns({"ours": ours, name: theirs}, repetitions)
    return [compared(what, "s", seconds["ours"], name, seconds[name])]


def rate(function, amount, times):
    """How much a second, if a call does that amount: a mean, like train.py's images/s."""
    start = time.perf_counter()
    for _ in range(times):
        function()
    return amount * times / (time.perf_counter() - start)


def smooth_images(n):
    """Random images without pixel noise, for photographs have little: (n, 3, SIZE, SIZE) uint8."""
    x = torch.nn.functional.interpolate(torch.rand(n, 3, 8, 8), SIZE, mode="bicubic")
    return (255 * x).clamp(0, 255).to(torch.uint8)


def write_folder(path, n):
    """A folder of n JPEGs for training, and as many as a kNN needs for testing, of two classes."""
    for i, x in enumerate(smooth_images(n + 64)):
        folder = path / ("train" if i < n else "test") / str(i % 2)
        folder.mkdir(parents=True, exist_ok=True)
        to_pil_image(x).save(folder / f"{i}.jpg")


# ------------------------------------------------------------------------------------------------
# A step of training.


def network(args):
    """The network's forward and backward on ready-made views, and with the optimiser: functions."""
    model = options.build(args)
    sgd = SGD([[w for w in model.parameters() if w.requires_grad]], weight_decay=5e-4)
    shape = args.batch_size, 3, args.image_size, args.image_size
    views = [torch.randn(shape).contiguous(memory_format=torch.channels_last) for _ in range(2)]

    def alone():
        sgd.zero_grad()
        model(*views)[0].backward()

    def step():
        alone()
        sgd.step(0.01)

    return alone, step


def arguments(size, *argv):
    """Options as train.py would complete them, for images of that size."""
    args = options.parse([*argv, "--device", "cpu"])
    options.choose(args, size)
    return args


class Pairs(Dataset):
    """Two views of each of a list of PIL images."""

    def __init__(self, images, two_views):
        self.images, self.two_views = images, two_views

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.two_views(self.images[i])


def pil_views(image):
    """Two views of a PIL image, as two tensors (3, SIZE, SIZE)."""
    return PIL_VIEW(image), PIL_VIEW(image)


def torchvision_peer(args):
    """What draws two views of a PIL image, and a network that turns a batch of them into a loss."""
    model = SimSiam(resnet(args.arch, args.stem), args.dim, args.proj_layers)
    return pil_views, model, lambda x1, x2: model(x1, x2)[0]


def lightly_peer(args):
    """The same with lightly's transforms, heads and loss, on our backbone."""
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import SimSiamPredictionHead
    from lightly.models.modules.heads import ProjectionHead
    from lightly.transforms import SimSiamTransform

    backbone, D = resnet(args.arch, args.stem), NegativeCosineSimilarity()
    c, d, BN = backbone.features, args.dim, torch.nn.BatchNorm1d
    f = ProjectionHead([(c, d, BN(d), torch.nn.ReLU()), (d, d, BN(d), None)])  # two layers, as ours
    h = SimSiamPredictionHead(args.dim, args.pred_dim, args.dim)

    def loss_of(x1, x2):
        z1, z2 = f(backbone(x1)), f(backbone(x2))
        return (D(h(z1), z2.detach()) + D(h(z2), z1.detach())) / 2

    return SimSiamTransform(SIZE, gaussian_blur=0.0), torch.nn.ModuleList([backbone, f, h]), loss_of


def peer_loop(args, images, parts):
    """An epoch over PIL images as others write it: a function that returns images/s."""
    two_views, model, loss_of = parts
    loader = DataLoader(Pairs(images, two_views), args.batch_size, shuffle=True, drop_last=True,
                        num_workers=2, persistent_workers=True)
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def epoch():
        start = None
        for x1, x2 in loader:
            start = start or time.perf_counter()
            loss = loss_of(x1, x2)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
        return len(loader) * args.batch_size / (time.perf_counter() - start)

    return epoch


def our_loop(folder, how):
    """A run of one epoch of train.py: a function that returns images/s, kNN left out."""
    def run():
        with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
            argv = [*how, "--data", folder, "--epochs", "1", "--device", "cpu", "--out", out]
            return train.train(options.parse(argv))["images_per_s"]

    return run


def loops(peers, arch, batch_size, dim, n, turns):
    """Rows: images/s of train.py, against the peers' loops, the network alone, and the peak."""
    gc.collect()  # ends the workers of an earlier loop, which a child process would complain of
    how = f"--arch {arch} --batch-size {batch_size} --dim {dim}".split()
    args = arguments(SIZE, "--data", "cifar10", *how)
    alone, _ = network(args)
    with FlopCounterMode(display=False) as counter:
        alone()
    flops, matrix = counter.get_total_flops() / batch_size, torch.randn(2048, 2048)
    images = [to_pil_image(x) for x in smooth_images(n)]
    with tempfile.TemporaryDirectory() as folder:
        write_folder(pathlib.Path(folder), n)
        rates = {
            "train.py": our_loop(folder, how),
            "the network alone": lambda: rate(alone, batch_size, n // batch_size),
            **{name: peer_loop(args, images, parts(args)) for name, parts in peers.items()},
            "the peak": lambda: rate(lambda: matrix @ matrix, 2 * 2048**3 / flops, 20),
        }
        found = {name: [] for name in rates}
        for _ in range(turns + 1):  # the first is for warming up
            for name, measure in rates.items():
                found[name].append(measure())
    what = f"train.py, {arch}, batch {batch_size}, d = {dim}"
    ours = found.pop("train.py")[1:]
    return [compared(what, "images/s", ours, name, theirs[1:]) for name, theirs in found.items()]


def variants():
    """Rows: seconds a step of other kinds of arithmetic, and of the other methods."""
    kinds = {"float32": [], "--bf16": ["--bf16"], "--bf16 --compile": ["--bf16", "--compile"]}
    steps = {kind: network(arguments(SIZE, "--data", "cifar10", "--arch", "resnet8", *flags))[1]
             for kind, flags in kinds.items()}
    seconds = in_turns(steps, 15)
    plain = seconds.pop("float32")
    rows = [compared(f"a step of resnet8, batch 64, d = 256, {kind}", "s", values, "float32", plain)
            for kind, values in seconds.items()]
    steps = {method: network(arguments(24, "--method", method))[1] for method in options.METHODS}
    seconds = in_turns(steps, 9)
    plain = seconds.pop("simsiam")
    return rows + [compared(f"a step of {method}, the recipe for shapes", "s", values, "simsiam",
                            plain) for method, values in seconds.items()]


# ------------------------------------------------------------------------------------------------
# The rest of a run.


def views():
    """Rows: seconds for a view of 512 images, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    x, augment = smooth_images(512), Augment(SIZE, MEAN, STD, blur_p=0.0)
    pil = [to_pil_image(image) for image in x]
    rows = race("512 views, one thread", lambda: augment(x), "torchvision, PIL",
                lambda: list(map(PIL_VIEW, pil)), 7)
    torch.set_num_threads(threads)
    return rows


def knn():
    """Rows: seconds for the kNN of 10,000 features in a bank of 50,000, both (., 512)."""
    bank, labels, query = torch.randn(50000, 512), torch.arange(50000) % 10, torch.randn(10000, 512)
    normalised = [torch.nn.functional.normalize(v, dim=1) for v in (query, bank)]
    product = lambda: [q @ normalised[1].T for q in normalised[0].split(500)]
    return race("kNN of 10,000 in 50,000, 512 features",
                lambda: lineval.knn_predict(bank, labels, query, 10), "its matrix product",
                product, 3)


def start():
    """Rows: seconds until a fresh process has done next to nothing."""
    call = lambda *argv: lambda: subprocess.run(
        [sys.executable, *argv], cwd=HERE.parent, stdout=subprocess.DEVNULL, check=True)
    return race("python train.py --help", call("train.py", "--help"), "import torch",
                call("-c", "import torch"), 5)


def decoding(n=60000):
    """Rows: seconds to read a folder of JPEGs for the first time, and again, from the cache."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_folder(folder, n)

        def anew():
            for cache in folder.glob(".simsiam-*"):
                cache.unlink()
            data.folder(folder)

        return race(f"reading {n:,} JPEGs of {SIZE} px", anew, "from the cache",
                    lambda: data.folder(folder), 2)


def write(*lines):
    """Print lines, and add them to speed.md."""
    with open(HERE / "speed.md", "a") as file:
        for line in lines:
            print(line, flush=True)
            print(line, file=file)


def main():
    p = argparse.ArgumentParser(prog="python -m experiments.speed", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--peers", action="store_true", help="measure lightly, too")
    args = p.parse_args()
    train.tune_cpu()
    peers = {"torchvision on PIL": torchvision_peer}
    if args.peers:
        peers["lightly"] = lightly_peer
    packages = ["torch", "torchvision", *["lightly"] * args.peers]
    versions = (f"{name} {importlib.metadata.version(name)}" for name in packages)
    write(f"\n## {datetime.date.today()}, {machine()}, {', '.join(versions)}\n",
          "| what | unit | ours | against | theirs | times as fast |", "|---|---|---|---|---|---|")
    sizes = [partial(loops, peers, *size) for size in SIZES]
    for rows in (*sizes, variants, views, knn, decoding, start):
        write(*(f"| {what} | {unit} | {ours:.3g} | {name} | {theirs:.3g} | {ratio:.2f} |"
                for what, unit, ours, name, theirs, ratio in rows()))


if __name__ == "__main__":
    main()
