"""The checkpoint of a run: when it is due, what it holds, and how a run is restored from it.

A run resumed from its checkpoint ends, on a CPU, in the same bits as one that was never stopped.
"""

import time

import torch

from utils import runs


def is_due(run):
    """Whether to save now: at the end of the run, and as --checkpoint-every says."""
    every = run.args.checkpoint_every
    if run.state.step == run.last_step:
        return True
    if every.endswith("m"):
        return time.time() - run.saved_at >= 60 * int(every[:-1])
    return run.state.step % (int(every) * run.steps_per_epoch) == 0


def save(run):
    """Write everything that the rest of the run depends on."""
    state = dict(vars(run.state))
    state["seconds"] = time.time() - state.pop("start_time")
    runs.write_checkpoint(run.out / "checkpoint.pt", dict(
        state, config=vars(run.args), model=run.model.state_dict(),
        optimizer=run.optimizer.state_dict(), rng=torch.get_rng_state()))
    run.saved_at = time.time()


def restore(run):
    """Put everything back as it was; refuse the checkpoint of another study or of other data."""
    saved = runs.load_checkpoint(run.out, run.args.device)
    config = saved.pop("config")
    if config["study"] != run.args.study:
        raise SystemExit(f"--resume: this run belongs to the study {config['study']!r} of"
                         " experiments/; python -m experiments.all continues it")
    for key in ("n_train", "classes", "mean", "std"):
        if config[key] != getattr(run.args, key):
            raise SystemExit(f"--resume: the data have changed: {key.replace('_', ' ')}"
                             f" {config[key]} -> {getattr(run.args, key)}; start a new run in"
                             " another --out")
    run.model.load_state_dict(saved.pop("model"))
    run.optimizer.load_state_dict(saved.pop("optimizer"))
    torch.set_rng_state(saved.pop("rng").cpu())
    saved["start_time"] = time.time() - saved.pop("seconds")
    if saved["order"] is not None:  # the checkpoint of epoch 0 has none yet
        saved["order"] = saved["order"].cpu()  # slices of it are pinned on their way to a GPU
    vars(run.state).update(saved)
    # --max-steps may have left the record of an unfinished epoch, and a kill records of epochs
    # after this checkpoint: those epochs will be run again.
    if run.state.step < run.last_step:
        run.state.records = [r for r in run.state.records if isinstance(r["epoch"], int)]
    runs.write_metrics(run.out, run.state.records)
