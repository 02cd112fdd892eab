"""What speed.py and cost.py share: fair timing, generated images, and the file of results."""

import statistics
import time

import torch
from torchvision.transforms.functional import to_pil_image

from experiments.logs import HERE

RESULTS = HERE / "results" / "speed.md"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZE, MEAN, STD = 32, (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)  # of the images, as CIFAR's


# ------------------------------------------------------------------------------------------------
# Timing.


def now():
    """The time in seconds, read when the device has finished its work."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def in_turns(functions, repetitions):
    """Seconds of each function, called in turns: {name: function} -> {name: list of seconds}."""
    seconds = {name: [] for name in functions}
    for _ in range(repetitions + 1):  # the first round is a warm-up
        for name, function in functions.items():
            start = now()
            function()
            seconds[name].append(now() - start)
    return {name: values[1:] for name, values in seconds.items()}


def compared(what, unit, ours, name, theirs):
    """A row: both medians, and the median over the turns of how many times as fast ours is."""
    ratios = [t / o if unit == "s" else o / t for o, t in zip(ours, theirs, strict=True)]
    return what, unit, statistics.median(ours), name, *map(statistics.median, (theirs, ratios))


def race(what, ours, name, theirs, repetitions):
    """A list of the one row that compares two functions."""
    seconds = in_turns({"ours": ours, name: theirs}, repetitions)
    return [compared(what, "s", seconds["ours"], name, seconds[name])]


def rate(function, amount, times):
    """How much is done per second, if a call does this amount: a mean, like train.py's images/s."""
    start = now()
    for _ in range(times):
        function()
    return amount * times / (now() - start)


# ------------------------------------------------------------------------------------------------
# Images.


def smooth_images(n):
    """Random images without pixel noise, as in photographs: (n, 3, SIZE, SIZE) uint8."""
    x = torch.nn.functional.interpolate(torch.rand(n, 3, 8, 8), SIZE, mode="bicubic")
    return (255 * x).clamp(0, 255).to(torch.uint8)


def write_folder(path, n):
    """Write a data set of JPEGs: two classes, n training images, and 64 test images for kNN."""
    for i, x in enumerate(smooth_images(n + 64)):
        folder = path / ("train" if i < n else "test") / str(i % 2)
        folder.mkdir(parents=True, exist_ok=True)
        to_pil_image(x).save(folder / f"{i}.jpg")


# ------------------------------------------------------------------------------------------------
# Results.


def report(*lines):
    """Print lines of Markdown, and append them to results/speed.md."""
    with open(RESULTS, "a") as file:
        for line in lines:
            print(line, flush=True)
            print(line, file=file)
