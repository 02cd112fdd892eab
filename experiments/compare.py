"""Runs side by side: a table, their curves, and nearest neighbours.

    python -m experiments.compare runs/a runs/b          table, compare.png
    python -m experiments.compare runs/a runs/b --neighbours

The table has the final measures of each run, the linear accuracy if lineval.py
has been run, and the options in which the runs differ. compare.png shows their
curves in the same axes. --neighbours writes neighbours.png instead: for a test
image of each of six classes, the training images with the nearest features, by
cosine as in kNN. A healthy run finds the same shape again, turned and moved; a
collapsed one finds other shapes. Without labels, training images take the
place of test images.
"""

import argparse
import json
import pathlib
import textwrap
from functools import partial

import torch
import torch.nn.functional as F

import lineval
from options import MAY_CHANGE
from simsiam import COLLAPSED_RANK, COLLAPSED_STD, collapsed
from utils import plot, runs, weights
from utils.arguments import ending
from utils.console import plain_errors

# Entries of a config that the user did not choose, or that make no difference to the result.
IGNORED = {*MAY_CHANGE, "classes", "data_digest", "mean", "n_train", "std", "torch"}
IGNORED -= {"data", "max_steps"}


def read_run(folder):
    """Config and records of a run folder; the last record also has lineval.py's "top1", or None."""
    out = pathlib.Path(folder)
    try:
        config, records = json.loads(runs.read_regular(out / "config.json")), runs.read_metrics(out)
        linear = out / "lineval.json"
        probe = json.loads(runs.read_regular(linear)) if linear.exists() else {"top1": None}
        top1 = probe["top1"]
        # A probe fitted to a share of the labels cannot be compared with the others. (Older code
        # wrote its result here, too.)
        records[-1]["top1"] = top1 if probe.get("labels", 1) == 1 else None
        # What is read below must be there, and be numbers; without labels there is no accuracy.
        config["dim"] + 0.0, len(config["classes"])
        [record[key] + 0.0 for record in records for key in ("epoch", "loss", "std", "rank")]
        accuracies = [*(record["knn"] for record in records), records[0].get("pixels_knn"), top1]
        [(percent or 0) + 0.0 for percent in accuracies]
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        raise SystemExit(f"{folder}: not a run of train.py (config.json or metrics.jsonl is missing"
                         " or damaged); name a run folder")
    return config, records


def short(folder, width=22):
    """The name of a folder, or its end if it is long; without characters that no font has."""
    name = folder.encode("utf-8", "replace").decode()
    return name if len(name) <= width else "…" + name[1 - width:]


def differing(configs):
    """The names of the options that are not the same in all configs, sorted."""
    names = sorted(set().union(*configs) - IGNORED)
    return [name for name in names if any(c.get(name) != configs[0].get(name) for c in configs)]


def table(compared):
    """The table as lines of at most 80 columns.   compared: {folder: (config, records)}"""
    names = differing([config for config, _ in compared.values()])
    wide = max(len(short(folder)) for folder in compared)
    lines = [f"{'run':{wide}}  epoch    loss    std    rank     kNN  linear  collapsed"]
    for folder, (config, records) in compared.items():
        last = records[-1]
        percent = [f"{last[key]:6.1f}" if last[key] is not None else f"{'-':>6}"
                   for key in ("knn", "top1")]
        lines.append("  ".join((
            f"{short(folder):{wide}}", f"{last['epoch']:5.4g}", f"{last['loss']:6.3f}",
            f"{last['std']:5.3f}", f"{last['rank']:6.1f}", *percent,
            f"{'yes' if collapsed(last['std'], last['rank']) else 'no':>9}")))
        options = ", ".join(f"{name} {config.get(name)}" for name in names)
        lines += textwrap.wrap(options, 80, initial_indent="  ", subsequent_indent="  ")
    return lines


def save_curves(compared, path):
    """Draw the curves of all runs in the same axes."""
    configs = [config for config, _ in compared.values()]
    dims, classes = ({json.dumps(c[key]) for c in configs} for key in ("dim", "classes"))
    references = plot.references(configs[0]["classes"], COLLAPSED_STD, COLLAPSED_RANK)
    if len(classes) > 1:
        del references["knn"]  # chance is not the same for all
    names = {short(folder, 60) for folder in compared}
    label = partial(short, width=60) if len(names) == len(compared) else str  # else some are alike
    plot.plot_curves(path, {label(folder): records for folder, (_, records) in compared.items()},
                     configs[0]["dim"] if len(dims) == 1 else 0, references)


def nearest(bank, query, k, but=None):
    """Indices (N, k) of the rows of bank (M, c) with the largest cosine to each of query (N, c).

    but: for each query, the index of the one row of the bank to leave out (N,)
    """
    cosine = F.normalize(query, dim=1) @ F.normalize(bank, dim=1).T  # (N, M)
    if but is not None:
        cosine[torch.arange(len(query)), but] = -torch.inf
    return cosine.topk(k, dim=1).indices


def save_neighbours(compared, path, classes=6, k=8):
    """Draw the k nearest training images of one test image per class, in one block per run."""
    blocks, first = [], None
    for folder, (_, records) in compared.items():
        args = lineval.parse([folder])
        backbone, config = lineval.load_backbone(folder, args.device)
        images, _ = weights.load_images(args, config)
        first = first or images.digest()
        if images.digest() != first:
            raise SystemExit(f"{folder}: trained on different images from {next(iter(compared))};"
                             " --neighbours compares runs on the same images")
        queries, found, right = look_up(
            images, *lineval.features(images, backbone, config), classes, k)
        last = records[-1]
        title = (f"{short(folder)}: loss {last['loss']:.2f}, std {last['std']:.2f}, rank"
                 f" {last['rank']:.1f}")
        if images.classes:
            title += f": {int(right.sum())} of {right.numel()} of the right class"
        blocks.append((title, images.train[found.to(images.train.device)].cpu(), right.cpu()))
    plot.save_neighbours(path, queries.cpu(), blocks, bool(images.classes))


def look_up(images, bank, query, n, k):
    """n images (n, 3, C, C), indices of their k nearest (n, k), and which have their class (n, k).

    The first test image of each of n classes; without labels, n training images, evenly spaced.
    """
    if images.classes:
        labels = images.test_labels.tolist()
        chosen = [labels.index(c) for c in sorted(set(labels))[:n]]
        found = nearest(bank, query[chosen], min(k, len(bank)))
        return (images.test[chosen], found,
                images.train_labels[found] == images.test_labels[chosen][:, None])
    n, k = min(n, len(bank)), min(k, len(bank) - 1)
    chosen = torch.arange(n) * len(bank) // n
    found = nearest(bank, bank[chosen], k, chosen)  # not the image itself
    return images.train[chosen], found, torch.zeros_like(found, dtype=torch.bool)


@plain_errors
def main(argv=None):
    p = argparse.ArgumentParser(
        prog="python -m experiments.compare", usage="%(prog)s RUN [RUN ...] [option ...]",
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("runs", nargs="+", metavar="RUN", help="run folders of train.py")
    p.add_argument("--neighbours", action="store_true",
                   help="draw nearest neighbours instead of curves; those of the test image's"
                   " class are framed")
    p.add_argument("--out", type=ending(".png"),
                   help="file name of the picture (default: compare.png or neighbours.png)")
    args = p.parse_args(argv)
    compared = {folder: read_run(folder) for folder in args.runs}
    print("\n".join(table(compared)))
    path = args.out or pathlib.Path("neighbours.png" if args.neighbours else "compare.png")
    (save_neighbours if args.neighbours else save_curves)(compared, path)
    print(path)


if __name__ == "__main__":
    main()
