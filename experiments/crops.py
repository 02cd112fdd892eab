"""The cost of cropping views of large photographs from their central square only (App. A).

    python -m experiments.crops PATH     a folder of square photographs, such as CIFAR-10

utils/folders.py keeps only the central square of a photograph; the paper crops from all of it. Here
the middle three quarters of each image's rows serve as a 4:3 photograph, and two networks are
trained on these:

    square   views are cropped from the central square, as train.py does
    whole    views are cropped from the whole photograph, as in the paper

Both are evaluated on central squares. The claim, its test and its seeds were written before the
runs: "whole" has the higher linear accuracy, by Welch's t over seeds 0, 1 and 2.

Its latest output, for CIFAR-10 as JPEGs:

    square     linear 50.6 ± 0.5 %, kNN 48.2 ± 0.2 %, n = 3
    whole      linear 51.8 ± 0.8 %, kNN 49.4 ± 0.4 %, n = 3
    untrained  linear 36.2 %, kNN 34.1 %, n = 1
    pixels     linear 37.8 %, kNN 40.6 %, n = 1
    whole minus square: +1.2 (-0.4 to 2.7) points, linear: no difference seen

Before 30 November 2026 "whole" was evaluated on the middle of the squares only, by mistake: +0.5
(-0.8 to 1.7) points.
"""

import argparse
import pathlib
import tempfile
from unittest import mock

import torch
from PIL import Image

import augment
import lineval
import options
import train
from experiments.claims import Pair, difference, pair_verdict
from experiments.table import SEEDS, fmt, interval
from utils import weights
from utils.console import plain_errors
from utils.folders import FORMATS, list_splits


def write_squares(source, out):
    """Write both kinds of squares of the photographs that a folder's images stand for.

    source: as train.py reads it, all images square and of one size   out: gets square/ and whole/
    returns: the sides of both, in pixels
    """
    train_files, test_files, classes = list_splits(source)
    if not classes:
        raise SystemExit(f"{source}: has no labels; choose a folder of labelled images")
    side = 0
    for path in (pathlib.Path(entry.path) for entry, _ in train_files + test_files):
        with Image.open(path, formats=FORMATS) as image:
            side = side or image.width
            eighth = side // 8
            if image.size != (side, side) or side % 8:
                raise SystemExit(f"{path}: {image.width} x {image.height} px; crops.py takes only"
                                 " squares of one size, a multiple of 8")
            photograph = image.convert("RGB").crop((0, eighth, side, side - eighth))
        # Also square, since train.py reads nothing else; boxes are stretched likewise, below.
        squares = {"square": photograph.crop((eighth, 0, side - eighth, side - 2 * eighth)),
                   "whole": photograph.resize((side, side), Image.Resampling.BICUBIC)}
        for name, square in squares.items():
            file = out / name / path.relative_to(source).with_name(f"{path.name}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            square.save(file)
    return side - 2 * eighth, side


def accuracy(name, home, sizes, *options_of_run):
    """Train on squares `name`, and return the result of evaluated(); sizes: write_squares'."""
    with tempfile.TemporaryDirectory() as out:
        # Stretching 4:3 to a square makes boxes 4/3 as high, so width / height is 3/4 as large.
        ratio = augment.RATIO if name == "square" else [3 / 4 * r for r in augment.RATIO]
        with mock.patch.object(augment, "RATIO", ratio):
            train.train(options.parse([
                "--data", str(home / name), "--arch", "resnet8", "--image-size", str(sizes[0]),
                "--stored-size", str(sizes[name == "whole"]), "--knn-every", "1000", "--out", out,
                *options_of_run]))
        return evaluated(out, home / "square")


def evaluated(out, squares):
    """kNN and the linear probe of the run in folder `out` on central squares: lineval's dict."""
    args = lineval.parse([out, "--data", str(squares)])
    torch.manual_seed(args.seed)
    backbone, config = lineval.load_backbone(out, args.device)
    # All networks must see the same pixels. lineval.main() would enlarge the squares to the side of
    # the run's own images, and then show `whole` only the middle of them.
    del config["stored_size"]
    images, _ = weights.load_images(args, config)
    return lineval.evaluate(args, images, *lineval.features(images, backbone, config))


@plain_errors
def main():
    p = argparse.ArgumentParser(prog="python -m experiments.crops",
                                description="What cropping from central squares costs.")
    p.add_argument("folder", type=pathlib.Path, help="square photographs, as train.py reads them")
    source = p.parse_args().folder
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        sizes = write_squares(source, home)
        rows = {name: [accuracy(name, home, sizes, "--seed", str(seed)) for seed in range(SEEDS)]
                for name in ("square", "whole")}
        rows["untrained"] = [accuracy("square", home, sizes, "--lr", "0", "--epochs", "1")]
        rows["pixels"] = [lineval.main(["--pixels", "--data", str(home / "square")])]
    for name, results in rows.items():
        numbers = (fmt([result[key] for result in results]) for key in ("top1", "knn"))
        print("{:9}  linear {} %, kNN {} %, n = {}".format(name, *numbers, len(results)))
    pair = Pair("square", "whole")
    found = difference(pair, rows)
    print(f"whole minus square: {interval(pair, found)} points, linear:"
          f" {pair_verdict(pair, found)}")


if __name__ == "__main__":
    main()
