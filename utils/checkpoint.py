"""The checkpoint of a run: when it is due, what it holds, and how a run is restored from it.

A run resumed from its checkpoint ends, on a CPU, bit for bit like one that was never stopped.
A checkpoint may come from anywhere: what does not fit the run is refused before it is used.
"""

import argparse
import os
import re
import time

import torch

from utils import parallel, runs

# Increase this whenever content() changes. A checkpoint without a format is older than 1.
FORMAT = 1


def is_due(run):
    """Whether to save now: at the end of the run, and as --checkpoint-every says."""
    every = run.args.checkpoint_every
    if run.state.step == run.last_step:
        return True
    # Not time(): if the system's clock is set back by an hour, nothing would be due for that hour.
    if every.endswith("m"):
        return time.monotonic() - run.saved_at >= 60 * int(every[:-1])
    return run.state.step % (int(every) * run.steps_per_epoch) == 0


def content(run):
    """Everything that the rest of the run depends on, as a dict."""
    state = dict(vars(run.state))
    state["seconds"] = time.monotonic() - state.pop("start_time")
    state["outputs"] = [parallel.gather(z) for z in state["outputs"]]
    if state["losses"]:
        state["losses"] = list(parallel.gather(torch.stack(state["losses"])[None]).mean(dim=0))
    return dict(state, format=FORMAT, commit=runs.commit(), config=vars(run.args),
                model=run.model.state_dict(), optimizer=run.optimizer.state_dict(),
                rng=torch.get_rng_state())


def save(run):
    runs.write_checkpoint(run.out / "checkpoint.pt", content(run))
    run.saved_at = time.monotonic()


def load(path, device="cpu"):
    """A checkpoint of the current format, from which a run can be resumed; SystemExit if not."""
    saved = runs.load_checkpoint(path, device)
    if differs(saved.get("format"), FORMAT, "format") or saved["format"] != FORMAT:
        wrote = (saved.get("format"), saved.get("commit") or "unknown",
                 saved["config"].get("torch"))
        form, commit, version = (" ".join(str(value).split()) for value in wrote)  # on one line
        raise SystemExit(f"{path}: a checkpoint of format {form}, written by commit {commit} with"
                         f" torch {version}; this code resumes format {FORMAT} only: use the code"
                         " that wrote it, or start a new run")
    return saved


def restore(run):
    """Put everything back as it was; refuse the checkpoint of another study or of other data."""
    saved, args = load(run.out, run.args.device), vars(run.args)
    config = saved["config"]
    if config.get("study") != run.args.study:
        raise SystemExit(f"--resume: this run is of the study {str(config.get('study'))!r}, not of"
                         f" {run.args.study!r}; continue it with the command that began it, such as"
                         " python -m experiments.all")
    if not differs(config.get("data_digest"), args["data_digest"], "data digest"):
        facts = lambda of: {"n train": str(of.get("n_train")), "classes": repr(of.get("classes")),
                            **of["data_digest"]}
        for (what, before), now in zip(facts(config).items(), facts(args).values()):
            if before != now:
                raise SystemExit(" ".join(f"--resume: the data have changed: {what} {before} ->"
                                          f" {now}; start a new run in another --out".split()))
    wrong = misfit(run, saved)
    if wrong:
        raise SystemExit(f"{run.out}: not a checkpoint of this run (its {wrong} does not fit);"
                         " start a new run in another --out")
    run.model.load_state_dict(saved["model"])
    run.optimizer.load_state_dict(saved["optimizer"])
    torch.set_rng_state(saved["rng"].cpu())
    saved["start_time"] = time.monotonic() - saved["seconds"]
    if saved["order"] is not None:  # the checkpoint of epoch 0 has none yet
        saved["order"] = saved["order"].cpu()  # slices of it are pinned on their way to a GPU
    saved["outputs"] = [parallel.shard(z) for z in saved["outputs"]]
    vars(run.state).update({name: saved[name] for name in vars(run.state)})
    # --max-steps may have left the record of an unfinished epoch, and a kill left records of epochs
    # after this checkpoint: those epochs will be run again.
    if run.state.step < run.last_step:
        run.state.records = [r for r in run.state.records if isinstance(r["epoch"], int)]
    runs.write_metrics(run.out, run.state.records)
    runs.write_json(run.out / "config.json", args)  # somebody may have edited or deleted it


def result_name(config, images, name):
    """The file for what lineval.py finds on images called `name`; says so if they are not a run's.

    config: the run's
    """
    digest = config.get("data_digest")  # older runs have none
    if digest == images.digest() or digest is None and name == config["data"]:
        return "lineval.json"
    print(f"{name}: not the data on which the run was trained")
    name = re.sub(r"[^\w.-]+", "-", os.path.basename(os.path.abspath(name)))
    return f"lineval-{name}.json"


# ------------------------------------------------------------------------------------------------
# The schema of a checkpoint. A checkpoint may come from anywhere, with a valid checksum.

# The options that determine a backbone and its images.
NEEDED = "arch", "stem", "data", "root", "image_size", "skip_bad_images"


def check_config(path, config, parser, names=(*NEEDED, "bf16", "stored_size"), required=NEEDED):
    """SystemExit unless these options of a checkpoint could have been given on a command line."""
    wrong = [name for name in required if config.get(name) is None]
    for action in (action for action in parser._actions if action.dest in names):
        value = config.get(action.dest, action.default)
        if value is None and action.default is None:
            continue
        try:  # as text, the value must be one that the option takes, and mean the same
            parsed = value is True if action.nargs == 0 else (action.type or str)(str(value))
        except (ValueError, argparse.ArgumentTypeError):
            parsed = argparse.SUPPRESS
        if type(parsed) is not type(value) or parsed != value or (
                action.choices and value not in action.choices):
            wrong.append(action.dest)
    wrong += [name for name in ("mean", "std") if differs(config.get(name), 3 * [0.0], name)]
    if wrong:
        raise SystemExit(f"{path}: not a checkpoint of train.py (its {wrong[0]} is not valid);"
                         " choose another, or start a new run")


def misfit(run, saved):
    """The part of a checkpoint that does not fit this run, "" if all of it does."""
    like, ids = content(run), torch.arange(len(run.images.train))
    step, order, outputs, records = (saved.get(k) for k in ("step", "order", "outputs", "records"))
    several = lambda of, x: [x] * len(of) if isinstance(of, list) else [x]
    first = outputs[0] if isinstance(outputs, list) and outputs else None
    like.update(extra={}, order=None if order is None else ids, outputs=several(outputs, first),
                losses=several(saved.get("losses"), torch.zeros(())), records=records,
                config=saved["config"])
    if wrong := differs(saved, like, "content"):
        return wrong
    keys, number = {"epoch", "loss", "std", "rank", "knn"}, (int, float, type(None))
    return next(name for name, wrong in {
        "data digest": differs(saved["config"].get("data_digest"), run.args.data_digest, "digest"),
        "step": not 0 <= step <= run.total_steps,
        "order": step and (order is None or not torch.equal(order.cpu().sort().values, ids)),
        "outputs": outputs and not (
            isinstance(first, torch.Tensor) and first.dtype == torch.float32 and first.ndim == 2),
        "records": not isinstance(records, list) or not records or not all(
            isinstance(r, dict) and keys <= r.keys()
            and all(isinstance(v, number) for v in r.values()) for r in records)
            or records[0]["knn"] is None and run.args.classes,
        "": True}.items() if wrong)


def differs(saved, like, name):
    """The name of the first part whose form differs from another checkpoint's, or ""."""
    if isinstance(like, torch.Tensor):
        form = lambda x: isinstance(x, torch.Tensor) and (x.dtype, x.shape, x.layout)
        return name * (form(saved) != form(like) or saved.is_meta)  # meta: no numbers
    if type(saved) is not type(like):
        return name
    if not isinstance(like, (dict, list, tuple)) or not like:  # an empty one is filled by a step
        return ""
    keys = like.keys() if isinstance(like, dict) else range(len(like))
    if len(saved) != len(like) or isinstance(like, dict) and saved.keys() != keys:
        return name
    return next(filter(None, (differs(saved[k], like[k], f"{name}.{k}") for k in keys)), "")
