"""An experiment is a table of runs of train.py, and claims about them, most of them the paper's.

A module of this folder lists ROWS and CLAIMS. `python -m experiments.NAME` trains the runs that
have no log yet (logs.py), prints the table with a verdict on each claim (claims.py), and draws the
figure; `python -m experiments.all` does so for all modules and writes results/results.md.
"""

import argparse
from typing import Callable, NamedTuple

from experiments import logs
from experiments.claims import mean_std, values
from utils import plot


class Row(NamedTuple):
    """A row of a table: runs that differ in nothing but the seed."""

    label: str
    options: str = ""  # of train.py
    paper: float | str = ""  # the paper's number, ImageNet linear top-1 % unless stated otherwise
    study: Callable | None = None  # what no option of train.py can say: see train.train()
    times: int = 1  # how many times as many epochs as the other rows
    seeds: int | None = None  # no more than this many

    @property
    def study_name(self):
        return self.study.__name__ if self.study else ""


class Claim(NamedTuple):
    """A statement about the rows; holds: {label: [last record of each seed]} -> True, False, None.

    None: no verdict from a single seed.
    """

    text: str
    holds: Callable
    why: str = ""  # why it does not hold, printed if it does not


def rows(module, scale):
    """The module's rows; where they depend on the scale, ROWS is a function of it."""
    return module.ROWS(scale) if callable(module.ROWS) else module.ROWS


# The columns of a table, and their decimals.
DIGITS = {"top1": 1, "knn": 1, "loss": 3, "std": 2, "rank": 1, "seconds": 0}
HEAD = ["| run | paper | linear (%) | kNN (%) | loss | std·√d | rank | seconds | n |",
        "|---|---|---|---|---|---|---|---|---|"]


def table(module, scale):
    """The module's rows as a table in Markdown, and its claims with a verdict on each."""
    last, lines = {}, list(HEAD)
    for row in rows(module, scale):
        finished = [log for seed in range(100) if (log := logs.read_log(row, scale, seed))]
        last[row.label] = records = [
            {**log[-1], "top1": config["top1"], "outputs": config["outputs"]}
            for config, log in finished]
        cells = [fmt(values(records, key), n) if records else "" for key, n in DIGITS.items()]
        lines.append(f"| {row.label} | {row.paper} | {' | '.join(cells)} | {len(records)} |")
    return "\n".join([*lines, "", *(verdict(claim, last) for claim in module.CLAIMS)])


def fmt(numbers, digits=1):
    """The mean of some numbers, with their standard deviation if there are several."""
    mean, std = mean_std(numbers)
    return f"{mean:.{digits}f}" + (f" ± {std:.{digits}f}" if std is not None else "")


def verdict(claim, last):
    """The claim as an item of a list, and whether it holds."""
    found = claim.holds(last) if last and all(last.values()) else "not run"
    words = {True: "holds", False: "does not hold", None: "one seed: undecided"}.get(found, found)
    why = f". {claim.why}" if claim.why and words == "does not hold" else ""
    return f"* {claim.text}: **{words}**{why}"


def figure(module, scale):
    """Draw the curves of all rows, seed 0, or what the module's own figure() draws; its path."""
    path = logs.results_dir(scale) / "figures" / f"{name(module)}.png"
    runs = {row.label: logs.read_log(row, scale, 0) for row in rows(module, scale)}
    runs = {label: log for label, log in runs.items() if log}
    if runs:
        path.parent.mkdir(parents=True, exist_ok=True)
    if runs and hasattr(module, "figure"):
        module.figure(runs, path)
    elif runs:
        dims = {config["dim"] for config, _ in runs.values()}
        dim = dims.pop() if len(dims) == 1 else 0
        plot.plot_curves(path, {label: records for label, (_, records) in runs.items()}, dim)
    return path


def name(module):
    return module.__spec__.name.rpartition(".")[2]


def main(module, argv=None):
    """`python -m experiments.NAME`: train what is missing, print the table, draw the figure."""
    p = argparse.ArgumentParser(
        prog=f"python -m experiments.{name(module)}",
        description=f"{module.__doc__.splitlines()[0]} Trains the runs that have no log yet,"
        " prints the table with a verdict on each claim, and draws the figure. To repeat a run,"
        " delete its log in experiments/results/logs.")
    p.add_argument("--scale", choices=logs.SCALES, default="shapes",
                   help="data, epochs and linear probe of all runs (default: shapes)")
    p.add_argument("--seeds", type=int, default=1, help="runs of each row (default: 1)")
    p.add_argument("--photographs", metavar="PATH",
                   help="folder with the images of the scale photographs (default: CIFAR-10,"
                   " through torchvision)")
    args = p.parse_args(argv)
    if args.photographs:
        logs.use_photographs(args.photographs)
    # rows() each time, because opt_optimizers gives its best lr further seeds once it is known.
    while todo := logs.missing(rows(module, args.scale), args.scale, args.seeds):
        row, seed = todo[0]
        logs.train_row(row, args.scale, seed)
    print(f"\n{table(module, args.scale)}\n")
    print(figure(module, args.scale))
