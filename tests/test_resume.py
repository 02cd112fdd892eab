"""A run that stops at any kind of moment ends as if it had not.    pytest tests/test_resume.py

Every number of every file is compared, the seconds and rates included: the clock hardly moves but
for a second per batch.
"""

import contextlib
import io
import json
import os
import signal
import time

import pytest
import torch
from strategies import TINY, shrink_shapes

import options
import simsiam
import train
from experiments import sec52_expectation
from utils import runs

# Three epochs of three steps; saved after the second and the third, kNN likewise.
FLAGS = [*TINY, *"--epochs 3 --checkpoint-every 2 --knn-every 2 --predictor none".split()]
AVERAGE = sec52_expectation.expectation(0.8)  # a study that keeps a memory


def study(run):
    run.state.start_time = run.saved_at = time.monotonic()  # else of the real clock
    return AVERAGE(run)


SAVED_LAST = {"config", "commit", "format", "extra", "losses", "lr", "model", "optimizer", "order",
              "outputs", "records", "rng", "seconds", "step"}


class Killed(BaseException):
    """What nobody catches, as after kill -9."""


class Runner:
    """Trains with a clock that only batches move; `at` maps a step to what happens within it."""

    def __init__(self, home, patch):
        self.home, self.now, self.step, self.at = home, 1000.0, 0, {}
        patch.setattr(time, "monotonic", lambda: self.tick(2**-30))
        # The outputs that η starts with take no time here, whether or not a run stops after them.
        patch.setattr(sec52_expectation, "first_targets",
                      lambda run: torch.ones(len(run.images.train), run.args.dim))
        f = simsiam.SimSiam.f
        patch.setattr(simsiam.SimSiam, "f", lambda model, x: (self.view(), f(model, x))[1])

    def tick(self, seconds):
        self.now += seconds
        return self.now

    def view(self):
        """Half a second for each view, of which a batch has two."""
        self.tick(0.5)
        self.step += 0.5 * torch.is_grad_enabled()
        if self.step in self.at:
            self.at.pop(self.step)()

    def train(self, name, *argv, done=0, at={}):
        """What a run of these options prints, by the stream, its exit code and its record."""
        self.step, self.at, out, err = done, dict(at), io.StringIO(), io.StringIO()
        code = final = None
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                final = train.train(options.parse([*argv, "--out", str(self.home / name)]), study)
            except SystemExit as stop:
                code = stop.code
            except Killed:
                code = "killed"
        self.now += 500  # nobody trains
        return out.getvalue().splitlines(), err.getvalue(), code, final


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        shrink_shapes(patch)
        yield Runner(tmp_path_factory.mktemp("runs"), patch)


@pytest.fixture(scope="module")
def straight(runner):
    """A run that is never stopped: its name and what train() said of it."""
    return "straight", runner.train("straight", *FLAGS)


def interrupt():
    os.kill(os.getpid(), signal.SIGTERM)


def killed():
    raise Killed


MOMENTS = {  # how it stops: options, what happens in which step, the exit code, the steps saved
    "within an epoch": ([], {4: interrupt}, 143, 4),
    "with an epoch": ([], {3: interrupt}, 143, 3),
    "with the first step": ([], {1: interrupt}, 143, 1),
    "killed before the first checkpoint but that of epoch 0": ([], {5: killed}, "killed", 0),
    "killed after a checkpoint": ([], {8: killed}, "killed", 6),
    "at --max-steps within an epoch": (["--max-steps", "5"], {}, None, 5),
    "at --max-steps with an epoch": (["--max-steps", "6"], {}, None, 6),
}


def leaves(value, name=""):
    """{name: number, string or list of numbers} of nested dicts, lists and tensors."""
    if isinstance(value, torch.Tensor):
        return {name: (value.dtype, value.tolist())}
    if isinstance(value, (dict, list, tuple)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for k, v in items for key, leaf in leaves(v, f"{name}.{k}").items()}
    timed = name.endswith(("seconds", "images_per_s"))
    return {name: round(value, 3) if timed else value}


def state(home, name):
    """Every number of a run folder, but for those options that may differ."""
    saved = runs.load_checkpoint(home / name)
    assert saved.keys() == SAVED_LAST
    written = json.loads((home / name / "config.json").read_text())
    assert saved["config"] == written
    assert saved["records"] == runs.read_metrics(home / name)
    for key in "out", "resume", "max_steps":
        del saved["config"][key]
    return leaves(saved)


def epochs(lines):
    return [line for line in lines if line.startswith("epoch ")]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_that_stopped_goes_on_to_the_same_files_records_and_lines(moment, runner, straight):
    argv, at, code, saved = MOMENTS[moment]
    name = moment.replace(" ", "-")
    said, complained, found, _ = runner.train(name, *FLAGS, *argv, at=at)
    checkpoint = runs.load_checkpoint(runner.home / name)
    assert found == code and checkpoint["step"] == saved
    if code == 143:
        assert complained.startswith(f"stopped after step {saved} of 9 and saved; to continue:\n")
    whole, before = straight[1], len(epochs(said))
    rest, complained, found, final = runner.train(name, "--resume", done=saved)
    assert found is None and not complained
    if not argv:
        ours = epochs(said)[: 1 + saved // 3] + epochs(rest)
        assert ours == epochs(whole[0]) and before <= len(ours)
    assert leaves(final) == leaves({**whole[3], "out": final["out"]})
    ours, theirs = (state(runner.home, of) for of in (name, straight[0]))
    assert ours.keys() == theirs.keys()
    assert [key for key in theirs if ours[key] != theirs[key]] == []
    assert {path.name for path in (runner.home / name).iterdir()} == {
        path.name for path in (runner.home / straight[0]).iterdir()}
    # The header of the second part is that of the first.
    assert rest[:7] == said[:7]


def test_the_seconds_are_those_of_the_batches_and_kNN_is_evaluated_at_its_epochs(runner, straight):
    records = runs.read_metrics(runner.home / straight[0])
    assert [r["epoch"] for r in records] == [0, 1, 2, 3]
    # Epoch 0 sees three batches, too; they are not trained on.
    assert [r["seconds"] for r in records] == pytest.approx([3, 6, 9, 12], abs=1e-4)
    assert [r["images_per_s"] for r in records[1:]] == pytest.approx([64, 64, 64], abs=1e-2)
    assert [r["knn"] is None for r in records] == [False, True, False, False]
    assert straight[1][3] == dict(records[-1], out=str(runner.home / straight[0]))


def test_a_finished_run_that_is_resumed_changes_nothing(runner, straight):
    name = straight[0]
    before = {path.name: path.read_bytes() for path in (runner.home / name).iterdir()
              if path.suffix == ".jsonl"}
    _, _, code, final = runner.train(name, "--resume", done=9)
    assert code is None and final == straight[1][3]
    assert before == {file: (runner.home / name / file).read_bytes() for file in before}
