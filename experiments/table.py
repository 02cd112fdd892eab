"""What the experiments share: each run is made once, remembered in a log, and set beside the paper.

A module of this folder lists its ROWS and its CLAIMS; `python -m experiments.NAME` does what is
missing and prints the table, `python -m experiments.all` does so for all and writes results.md.

A log, logs/OPTIONS.jsonl, is the run's config (with commit, machine, the linear probe's accuracy
and more measures of the outputs) on the first line and its metrics.jsonl on the others.
"""

import argparse
import json
import math
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time
from typing import Callable, NamedTuple

import torch

import data
import lineval
import options
import runs
import train
from augment import Augment
from simsiam import alignment, centre, uniformity

HERE = pathlib.Path(__file__).parent

SCALES = {  # the options of every run, its epochs, and those of the linear probe
    "smoke": ("--max-steps 2 --image-size 8", 2, "--epochs 1 --lr 1"),  # that it runs at all
    "shapes": ("", 12, ""),  # the recipe for shapes, on a CPU
    "cifar": ("--data cifar10 --predictor-lr constant", 100, ""),  # App. D, shortened, on a GPU
}


class Row(NamedTuple):
    """A row of a table: the runs of one setting, one for each seed."""

    label: str
    options: str = ""  # of train.py
    paper: float | str = ""  # the paper's number, ImageNet linear top-1 % unless said otherwise
    make_step: Callable = train.two_views
    times: int = 1  # as many epochs as the other rows
    seeds: int | None = None  # at most so many

    @property
    def variant(self):
        """The name of what no option of train.py says."""
        return "" if self.make_step is train.two_views else self.make_step.__name__


class Claim(NamedTuple):
    """What the paper says of the rows; holds: {label: [last record of each seed]} -> bool."""

    text: str
    holds: Callable
    why: str = ""  # a sentence for the case that it does not hold


# ------------------------------------------------------------------------------------------------
# Runs and their logs.


def home(scale):
    """Where tables, figures and logs go: into this folder, but for smoke, which proves nothing."""
    path = {"smoke": pathlib.Path("runs/smoke"), "shapes": HERE, "cifar": HERE / "cifar"}[scale]
    path.mkdir(parents=True, exist_ok=True)
    return path


def flags(row, scale):
    """The options by which a row differs from the others."""
    return row.options + f" --epochs {row.times * SCALES[scale][1]}" * (row.times != 1)


def log_path(row, scale, seed):
    name = f"{row.variant} {flags(row, scale)} seed {seed}"
    return home(scale) / "logs" / (re.sub(r"[^\w.]+", "-", name).strip("-") + ".jsonl")


def argv(row, scale, seed):
    """The command line of a run."""
    common, epochs, _ = SCALES[scale]
    return f"{common} --epochs {epochs} {flags(row, scale)} --seed {seed}".split()


def is_of(config, row, scale, seed):
    """Whether a run with this config has the options that train.py would give it today.

    A flag that is younger than the config does not count, nor a constant inside a script.
    """
    args = options.parse(argv(row, scale, seed))
    options.choose(args, config["image_size"])
    return all(config.get(name, value) == value for name, value in vars(args).items()
               if name not in options.MAY_CHANGE)


def read_log(row, scale, seed):
    """Config and records of a finished run, or None."""
    path = log_path(row, scale, seed)
    if not path.exists():
        return None
    config, *records = map(json.loads, path.read_text().splitlines())
    return (config, records) if is_of(config, row, scale, seed) else None


def machine():
    """Processor or GPU, and threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = re.findall(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text()
                       if sys.platform == "linux" else "")
    return f"{(model or [platform.processor()])[0]}, {torch.get_num_threads()} threads"


def do(row, scale, seed):
    """Train, or go on with what was interrupted, and write the log.

    A run that diverges is a result too: its last record and its accuracy are NaN.
    """
    path = log_path(row, scale, seed)
    out = pathlib.Path("runs", "experiments", scale, path.stem)
    begun = (out / "checkpoint.pt").exists()
    if begun and not is_of(runs.load_checkpoint(out)["config"], row, scale, seed):
        old = out.rename(out.with_name(f"{out.name}-{int(time.time())}"))
        print(f"the run that was begun here has another recipe, and is {old} now")
        begun = False
    folder = ["--out", str(out), *["--resume"] * begun]
    try:
        train.train(options.parse([*argv(row, scale, seed), *folder]), row.make_step)
        records = runs.read_metrics(out)
        top1 = lineval.main([str(out), *SCALES[scale][2].split()])["top1"]
        measured = {"top1": top1, "outputs": outputs(out)}
    except train.Diverged as error:
        print(error)
        records = runs.read_metrics(out)
        records.append(dict.fromkeys(records[-1], math.nan))
        measured = {"top1": math.nan, "outputs": {"centre": math.nan}}
    git = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    config = runs.load_checkpoint(out)["config"]
    config.update(measured, variant=row.variant, commit=commit, machine=machine())
    path.parent.mkdir(parents=True, exist_ok=True)
    runs.write_whole(path, "".join(json.dumps(line) + "\n" for line in (config, *records)))
    assert read_log(row, scale, seed), f"{path} is not of its row, which would be done for ever"


@torch.no_grad()
def outputs(out):
    """What theory_spectrum.py shows of a run: measures of z for two views of 2048 images."""
    saved = runs.load_checkpoint(out)
    args = argparse.Namespace(**{**vars(options.parse([])), **saved["config"], "device": "cpu"})
    model = options.build(args)
    encoder = {name: w for name, w in saved["model"].items() if not name.startswith("h.")}
    model.load_state_dict(encoder, strict=False)
    images = data.load(args.data, args.root, args.image_size, args.skip_bad_images)
    augment = Augment(args.image_size, args.mean, args.std, args.crop_min, blur_p=args.blur)
    torch.manual_seed(0)
    size = args.batch_size  # BN's statistics are a batch's, as in training
    x = images.train[torch.randperm(len(images.train))[: max(1, 2048 // size) * size]]
    z1, z2 = (torch.cat([model.f(augment(b)) for b in x.split(size)]) for _ in range(2))
    s = torch.linalg.svdvals(z1)
    share = (s / s.sum())[:256].tolist()
    return {"singular values": [float(f"{v:.4g}") for v in share],
            "centre": centre(z1).item(), "alignment": alignment(z1, z2).item(),
            "uniformity": uniformity(z1).item()}


# ------------------------------------------------------------------------------------------------
# Numbers and claims.

# The columns of a table, and their decimals.
DIGITS = {"top1": 1, "knn": 1, "loss": 3, "std": 2, "rank": 1, "seconds": 0}


def values(records, key):
    return [record[key] for record in records]


def spread(numbers):
    """Mean and std over seeds; a single seed has no std."""
    return statistics.mean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None


def collapsed(record):
    """Whether the outputs have collapsed, to a point or to few dimensions."""
    return record["std"] < 0.3 or record["rank"] < 4


def none_collapsed(last):
    """A claim's test: no run of any row has collapsed."""
    return not any(collapsed(record) for records in last.values() for record in records)


def below(*labels, key="knn"):
    """A claim's test: the means of the rows rise, by two standard errors of each step or more.

    With one seed there is no such error, and no verdict: None.
    """
    def holds(last):
        rows = [values(last[label], key) for label in labels]
        if min(map(len, rows)) < 2:
            return None
        for a, b in zip(rows, rows[1:]):
            (mean_a, std_a), (mean_b, std_b) = spread(a), spread(b)
            error = (std_a**2 / len(a) + std_b**2 / len(b)) ** 0.5
            if not mean_b - mean_a >= 2 * error:
                return False
        return True

    return holds


def none_above(plain, *others, key="knn"):
    """A claim's test: not one of the other rows is above the plain one, as below() judges it."""
    def holds(last):
        gains = [below(plain, other, key=key)(last) for other in others]
        return None if None in gains else not any(gains)

    return holds


def fmt(numbers, digits=1):
    mean, std = spread(numbers)
    return f"{mean:.{digits}f}" + (f" ± {std:.{digits}f}" if std is not None else "")


def table(module, scale):
    """The module's rows as a table in Markdown, and its claims with a verdict on each."""
    last = {}
    lines = ["| run | paper | linear (%) | kNN (%) | loss | std·√d | rank | seconds | n |",
             "|---|---|---|---|---|---|---|---|---|"]
    for row in rows(module, scale):
        logs = [log for seed in range(100) if (log := read_log(row, scale, seed))]
        last[row.label] = records = [
            {**log[1][-1], "top1": log[0]["top1"], "outputs": log[0]["outputs"]} for log in logs]
        numbers = [fmt(values(records, key), n) if records else "" for key, n in DIGITS.items()]
        lines.append(f"| {row.label} | {row.paper} | {' | '.join(numbers)} | {len(records)} |")
    lines.append("")
    for claim in module.CLAIMS:
        verdict = claim.holds(last) if last and all(last.values()) else "not run"
        verdict = {True: "holds", False: "does not hold", None: "one seed: undecided"}.get(
            verdict, verdict)
        why = f". {claim.why}" if claim.why and verdict == "does not hold" else ""
        lines.append(f"* {claim.text}: **{verdict}**{why}")
    return "\n".join(lines)


def rows(module, scale):
    """The module's rows; one that differs between scales has a function ROWS(scale)."""
    return module.ROWS(scale) if callable(module.ROWS) else module.ROWS


def missing(modules, scale, seeds):
    """[(row, seed)] without a log, each once, seed by seed: an early end leaves whole tables."""
    todo = {}
    for seed in range(seeds):
        for row in (row for module in modules for row in rows(module, scale)):
            if seed < (row.seeds or seeds) and not read_log(row, scale, seed):
                todo[log_path(row, scale, seed)] = row, seed
    return list(todo.values())


def figure(module, scale, path):
    """The curves of all rows, of seed 0, unless the module has a figure(logs, path) of its own."""
    logs = {row.label: read_log(row, scale, 0) for row in rows(module, scale)}
    logs = {label: log for label, log in logs.items() if log}
    if logs and hasattr(module, "figure"):
        module.figure(logs, path)
    elif logs:
        dims = {config["dim"] for config, _ in logs.values()}
        dim = dims.pop() if len(dims) == 1 else 0
        runs.plot_curves(path, {label: records for label, (_, records) in logs.items()}, dim)


def main(module, argv=None):
    """`python -m experiments.NAME`: do what is missing, print the table, draw the figure."""
    name = module.__spec__.name.rpartition(".")[2]
    p = argparse.ArgumentParser(prog=f"python -m experiments.{name}")
    p.add_argument("--scale", choices=SCALES, default="shapes", help="(default: shapes)")
    p.add_argument("--seeds", type=int, default=1, help="runs of each row (default: 1)")
    args = p.parse_args(argv)
    while todo := missing([module], args.scale, args.seeds):
        do(todo[0][0], args.scale, todo[0][1])
    print(f"\n{table(module, args.scale)}\n")
    path = home(args.scale) / f"{name}.png"
    figure(module, args.scale, path)
    print(path)
