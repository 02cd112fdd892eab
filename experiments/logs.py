"""One run per row and seed: how it is trained, and the log that keeps it from being repeated.

A log, results/SCALE/logs/NAME.jsonl (of smoke: runs/smoke/logs/NAME.jsonl), holds on its first
line the run's config with commit, machine, the file of its study, the linear probe's accuracy and
measures of the outputs, and on the others the run's metrics.jsonl.
NAME lists what differs from the recipe. To repeat a run, use --again, or delete its log.
"""

import contextlib
import functools
import json
import math
import pathlib
import platform
import re
import shlex
import sys
import time
from typing import NamedTuple

import torch

import lineval
import options
import train
from experiments.measures import load_run, measure_outputs
from utils import checkpoint, data, runs

HERE = pathlib.Path(__file__).parent


class Scale(NamedTuple):
    """What all runs of a scale have in common."""

    options: str  # of train.py
    epochs: int
    recipe: dict  # of options.py
    probe: str = ""  # options of lineval.py


SCALES = {
    # Only shows that everything runs.
    "smoke": Scale("--max-steps 2 --image-size 8", 2, options.RECIPES["shapes"],
                   "--epochs 1 --lr 1"),
    # Ten generated shapes: about a minute per run on two cores.
    "shapes": Scale("", options.RECIPES["shapes"]["epochs"], options.RECIPES["shapes"]),
    # CIFAR-10 with a small network: six to twelve minutes per run on one core.
    "photographs": Scale("--data cifar10 --arch resnet8 --knn-every 3",
                         options.RECIPES["cifar-cpu"]["epochs"], options.RECIPES["cifar-cpu"]),
    # here: Appendix D, shortened, with h's lr constant as in Table 1 (c): for a GPU.
    "cifar": Scale("--data cifar10 --predictor-lr constant --compile --knn-every 10"
                   " --checkpoint-every 10m", 100, options.RECIPES["cifar"]),
}


def use_photographs(path):
    """Let the scale `photographs` read its images from a folder instead of from torchvision."""
    scale = SCALES["photographs"]
    # Of two --data argparse takes the last.
    SCALES["photographs"] = scale._replace(options=f"{scale.options} --data {shlex.quote(path)}")
    check_photographs()


def check_photographs():
    """SystemExit: the logs of the scale `photographs` are of other images."""
    path = options.parse(shlex.split(SCALES["photographs"].options)).data
    folder, logged = results_dir("photographs"), None
    for log in folder.glob("logs/*.jsonl"):
        with contextlib.suppress(ValueError):  # empty or cut, as in read_log()
            logged = logged or json.loads(log.read_text().partition("\n")[0]).get("data_digest")
    if logged and logged != digest(path):
        raise SystemExit(f"{path}: the logs in {folder} are of other images, and one table cannot"
                         " have both; move that folder away to start without logs")


@functools.cache
def digest(path):
    """The digest of the images at a path. Cached: each run asks for it."""
    images = data.load(path)
    if len(images.labelled) < len(images.train):
        raise SystemExit(f"{path}: the experiments need a label for every training image")
    return images.digest()


def results_dir(scale):
    """Where tables, figures and logs go. A smoke test has no results to keep."""
    return pathlib.Path("runs/smoke") if scale == "smoke" else HERE / "results" / scale


def flags(row, scale):
    """The options that distinguish a row from the recipe."""
    return row.options + f" --epochs {row.times * SCALES[scale].epochs}" * (row.times != 1)


def argv(row, scale, seed):
    """The options of a run, a list for train.py."""
    common = SCALES[scale]
    return shlex.split(f"{common.options} --epochs {common.epochs} {flags(row, scale)}"
                       f" --seed {seed}")


def log_path(row, scale, seed):
    """The log of a run, whether it exists yet or not."""
    name = f"{row.study_name} {flags(row, scale)} seed {seed}"
    return results_dir(scale) / "logs" / (re.sub(r"[^\w.]+", "-", name).strip("-") + ".jsonl")


def study_file(row):
    """The name of the file with a row's study, as two files may have studies of the same name."""
    return pathlib.Path(row.study.__code__.co_filename).stem if row.study else ""


def matches(config, row, scale, seed):
    """Whether a run with this config had the options that train.py would give it today.

    A flag that is newer than the config is ignored, and a constant inside a script is not compared.
    """
    args = dict(filled_in(tuple(argv(row, scale, seed)), config["image_size"]))
    args["stored_size"] = args["stored_size"] or config.get("stored_size")  # the images decide
    # The same photographs may be somewhere else on another machine; other data are other rows.
    ignored = {*options.MAY_CHANGE} - {"data" if scale != "photographs" else ""}
    return all(config.get(name, value) == value for name, value in args.items()
               if name not in ignored)


@functools.cache
def filled_in(argv, image_size):
    """The options of a run as a dict. Cached: building the parser takes most of a dry run."""
    return vars(options.fill_in(options.parse(list(argv)), image_size))


def read_log(row, scale, seed):
    """Config and records of a finished run; None if there is none with today's options.

    SystemExit: it is a run of another file's study, which has the same name
    """
    path = log_path(row, scale, seed)
    try:
        config, *records = map(json.loads, runs.read_regular(path).splitlines())
    except (OSError, ValueError):  # there is none, or it is empty or cut
        return None
    if not records or not matches(config, row, scale, seed):
        return None
    if config.get("study_file", study_file(row)) != study_file(row):
        raise SystemExit(f"{path}: this log is of the study {row.study_name!r} in"
                         f" {config['study_file']}.py; give yours another __name__, or if it has"
                         " only moved, correct study_file in the log")
    return config, records


def missing(rows, scale, seeds, again=False, done=()):
    """[(row, seed)] of the runs without a log, each once, seed by seed.

    again: those with a log, too   done: paths of logs that are not to be written again
    In this order every row has a number soon, and its standard deviation later.
    """
    todo = {}  # by the log: a run can be a row of several tables
    for seed in range(seeds):
        for row in rows:
            log = read_log(row, scale, seed)  # even if again: it may be of another study
            if seed < (row.seeds or seeds) and (again or not log):
                todo[log_path(row, scale, seed)] = row, seed
    return [run for path, run in todo.items() if path not in done]


def on_held_out(study):
    """The same study, but tested on a tenth of the training images, which it is not trained on.

    Settings are chosen by the kNN of such runs: the best of several accuracies on the real test
    images would no longer be a fair estimate.
    """
    def smaller(run):
        run.images = run.images.held_out()
        run.args.n_train = len(run.images.train)
        return study(run) if study else run.model

    smaller.__name__ = f"{study.__name__ if study else ''} held out".strip()
    return smaller


def train_row(row, scale, seed, again=False):
    """Train one run of a row, or resume an interrupted one, evaluate it, and write its log.

    again: from the start; an older log is replaced at the end   returns: the path of the log
    SystemExit: other logs of the scale are of other images, or a training image has no label
    A run that diverges is a result too: its last record and its accuracy are NaN.
    """
    if scale == "photographs":
        check_photographs()
        digest(options.parse(argv(row, scale, seed)).data)  # refuses images without labels
    path = log_path(row, scale, seed)
    # Under its study's file: another file may have a study of the same name.
    out = pathlib.Path("runs", "experiments", scale, study_file(row), path.stem)
    resume = can_resume(out, row, scale, seed, again)
    folder = ["--out", str(out), *["--resume"] * resume]
    torch.compiler.reset()  # otherwise the ninth kind of network in a process runs uncompiled
    try:
        train.train(options.parse([*argv(row, scale, seed), *folder]), row.whole_study)
        records, measured = runs.read_metrics(out), {}
        if not row.held_out:  # lineval.py would use all training images, and the real test images
            probe = lineval.main([str(out), *SCALES[scale].probe.split()])
            measured = {"top1": probe["top1"], "probe_lr": probe["probe_lr"],
                        "outputs": measure_outputs(*load_run(out))}
    except train.Diverged as error:
        print(error)
        # Nothing of the last epoch was saved: its record has NaN, and the seconds up to there.
        records = runs.read_metrics(out)
        records.append({**dict.fromkeys(records[-1], math.nan), "seconds": records[-1]["seconds"]})
        measured = {"top1": math.nan, "outputs": {"centre": math.nan}}  # for theory_spectrum
    config = runs.load_checkpoint(out)["config"]
    config.update(measured, study_file=study_file(row), commit=runs.commit(), machine=machine())
    path.parent.mkdir(parents=True, exist_ok=True)
    runs.atomic_write(path, "".join(json.dumps(line) + "\n" for line in (config, *records)))
    assert read_log(row, scale, seed), f"{path} does not match its row, so the row is never done"
    return path


def can_resume(out, row, scale, seed, again):
    """Whether to continue the run in this folder. One that is of no more use is moved aside."""
    if not (out / "checkpoint.pt").exists():
        return False
    saved = runs.load_checkpoint(out)
    if not again and saved.get("format") == checkpoint.FORMAT and matches(
            saved["config"], row, scale, seed):
        return True
    old = out.rename(out.with_name(f"{out.name}-{time.time_ns()}"))
    what = "an earlier run" if again else "a run with other options, or of older code"
    print(f"{out} held {what}; it is now {old}")
    return False


def machine():
    """The GPU's name, or the processor's and the number of threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = re.findall(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text()
                       if sys.platform == "linux" else "")
    name = (model or [platform.processor() or platform.machine()])[0]
    return f"{name}, {torch.get_num_threads()} threads"
