"""Runs that survive: kills, signals, full disks, damaged files.    pytest tests/test_runs.py

One test kills a run twice, and twenty times with `-m slow`.
"""

import hashlib
import copy
import errno
import fcntl
import json
import math
import os
import pathlib
import pickle
import random
import resource
import shutil
import signal
import stat
import subprocess
import time
import zipfile
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import lineval
import options
import train
from strategies import TINY, Elsewhere, decode_in_a_thread, forked, make_folder, message, wait_for
from utils import checkpoint, console, data, plot, runs, weights


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run of six epochs of two steps that nothing disturbs: its options, and its folder."""
    path = tmp_path_factory.mktemp("reference")
    options = ["--data", make_folder(path / "images", n=8), "--batch-size", 8, "--epochs", 6,
               "--arch", "resnet8", "--dim", 8, "--device", "cpu", "--checkpoint-every", 1]
    options = [str(option) for option in options]
    train.main([*options, "--out", str(path / "run")])
    return options, path / "run"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No test of this file looks at curves.png, which takes longer than a run."""
    monkeypatch.setattr(plot, "plot_curves", lambda *_: None)
    decode_in_a_thread(monkeypatch)


def timeless(out):
    """The records without the times, which differ from run to run."""
    return [{k: v for k, v in r.items() if k not in ("seconds", "images_per_s")}
            for r in runs.read_metrics(out)]


def assert_same_end(a, b):
    """Two run folders end in the same bits: weights, momentum, random state, records."""
    assert timeless(a) == timeless(b)
    a, b = runs.load_checkpoint(a), runs.load_checkpoint(b)
    assert a["step"] == b["step"] and torch.equal(a["rng"], b["rng"])
    assert all(torch.equal(a["model"][name], w) for name, w in b["model"].items())
    for x, y in zip(a["optimizer"]["velocity"], b["optimizer"]["velocity"], strict=True):
        assert all(torch.equal(v, w) for v, w in zip(x, y, strict=True))


def stops(*argv):
    """The exit code, or the one plain line, with which a command stops."""
    with pytest.raises(SystemExit) as stop:
        train.main([str(a) for a in argv])
    assert isinstance(stop.value.code, int) or "\n" not in stop.value.code
    return stop.value.code


# ------------------------------------------------------------------------------------------------
# Kills and signals


def start_or_resume(options, out):
    """What a user's script would do."""
    started = (out / "checkpoint.pt").exists()
    train.main([*options, *["--resume"] * started, "--out", str(out)])


def die_at(call, options, out):
    """Train, and die of SIGKILL just before renaming a file for the `call`-th time."""
    replace, calls = os.replace, []

    def dying(*paths):
        calls.append(paths)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)

    os.replace = dying
    start_or_resume(options, out)


@pytest.mark.parametrize(
    "kills, epochs", [(2, 24), pytest.param(20, 150, marks=pytest.mark.slow)])
def test_a_run_killed_again_and_again_ends_like_one_never_killed(
        kills, epochs, reference, tmp_path):
    options = [*reference[0], "--epochs", str(epochs)]
    start_or_resume(options, tmp_path / "undisturbed")
    moments, metrics = random.Random(0), tmp_path / "run" / "metrics.jsonl"
    for epoch in sorted(moments.sample(range(epochs // 2), kills)):
        child = forked(start_or_resume, options, tmp_path / "run")
        wait_for(lambda: metrics.exists() and len(runs.read_metrics(metrics.parent)) > epoch)
        time.sleep(moments.uniform(0, 0.1))
        assert child.is_alive(), "it ended before the last kill: give it more epochs"
        child.kill()
        child.join()
    start_or_resume(options, tmp_path / "run")
    assert_same_end(tmp_path / "run", tmp_path / "undisturbed")


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5, 6])
def test_a_run_killed_just_before_renaming_a_file_loses_nothing(call, reference, tmp_path):
    options, undisturbed = reference
    child = forked(die_at, call, options, tmp_path / "run")
    child.join()
    assert child.exitcode == -signal.SIGKILL
    start_or_resume(options, tmp_path / "run")
    assert_same_end(tmp_path / "run", undisturbed)


@pytest.fixture
def foreground():
    """The signal handlers of a program in the foreground, however the tests were started."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield handlers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_after_a_signal_a_run_finishes_its_step_saves_and_says_how_to_continue(
        number, code, reference, tmp_path, monkeypatch, capsys, foreground):
    options, undisturbed = reference
    out, step, steps = tmp_path / "run", train.SGD.step, []

    def signalled(self, *lrs):
        steps.append(lrs)
        if len(steps) == 7:  # in the middle of an epoch
            os.kill(os.getpid(), number)
        step(self, *lrs)

    monkeypatch.setattr(train.SGD, "step", signalled)
    assert stops(*options, "--out", out) == code
    assert runs.load_checkpoint(out)["step"] == len(steps) == 7
    assert f"train.py --resume --out {out}" in capsys.readouterr().err
    assert all(signal.getsignal(n) is handler for n, handler in foreground.items())
    start_or_resume(options, out)
    assert_same_end(out, undisturbed)


def test_a_signal_that_was_ignored_stays_ignored(foreground):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with console.interruptions() as signals:
        os.kill(os.getpid(), signal.SIGINT)
    assert not signals and signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_second_signal_stops_at_once(foreground):
    with pytest.raises(KeyboardInterrupt), console.interruptions() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("continued after the second signal")


# ------------------------------------------------------------------------------------------------
# The disk


def test_a_full_disk_leaves_the_last_checkpoint_intact_and_the_run_resumes(reference, tmp_path):
    options, undisturbed = reference
    out = tmp_path / "run"
    train.main([*options, "--out", str(out), "--max-steps", "3"])
    before = (out / "checkpoint.pt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        line = stops("--resume", "--out", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "checkpoint.pt: cannot be written" in line
    assert (out / "checkpoint.pt").read_bytes() == before
    assert not list(out.glob("*.part"))
    start_or_resume(options, out)
    assert_same_end(out, undisturbed)


def test_a_second_run_in_a_folder_is_refused_during_the_first_and_after_it(reference, tmp_path):
    options, _ = reference
    options = [*options, "--out", str(tmp_path), "--max-steps", "1"]
    with runs.lock_run_dir(train.parse(options)):
        assert "another run is training there" in stops(*options)
    train.main(options)
    assert "holds a run" in stops(*options)


@pytest.mark.parametrize(
    "every, expected", [("1", [0, 1, 2, 3, 4]), ("2", [0, 2, 4]), ("3", [0, 3, 4])])
def test_checkpoints_are_written_every_n_epochs_and_at_the_end(
        every, expected, reference, tmp_path, monkeypatch):
    options, _ = reference
    steps = []
    monkeypatch.setattr(runs, "write_checkpoint", lambda path, state: steps.append(state["step"]))
    train.main([*options, "--out", str(tmp_path / "run"), "--max-steps", "8",
                "--checkpoint-every", every])
    assert steps == [2 * epoch for epoch in expected]


def is_due(every, step, seconds_ago=0):
    """checkpoint.is_due() for a run of ten epochs of two steps that was saved so long ago."""
    return checkpoint.is_due(SimpleNamespace(
        args=SimpleNamespace(checkpoint_every=every), state=SimpleNamespace(step=step),
        steps_per_epoch=2, last_step=20, saved_at=time.monotonic() - seconds_ago))


def test_checkpoints_are_due_every_n_minutes_even_within_an_epoch():
    assert is_due("10m", 5, 601) and not is_due("10m", 6, 590)
    assert is_due("3", 12) and not is_due("3", 14)
    assert not is_due("1", 5, 1e6)
    assert is_due("10m", 20, 0)  # the end of the run
    default = train.parse([]).checkpoint_every
    assert is_due(default, 5, 61) and not is_due(default, 6, 50)  # a kill costs a minute at most


def test_the_minutes_to_the_next_checkpoint_count_from_the_last_one(monkeypatch):
    monkeypatch.setattr(checkpoint, "content", lambda run: {})
    monkeypatch.setattr(runs, "write_checkpoint", lambda *_: None)
    run = SimpleNamespace(args=SimpleNamespace(checkpoint_every="10m"),
                          saved_at=time.monotonic() - 601, state=SimpleNamespace(step=5),
                          last_step=20, out=pathlib.Path("run"))
    assert checkpoint.is_due(run)
    checkpoint.save(run)
    assert not checkpoint.is_due(run)


def test_records_of_which_the_checkpoint_knows_nothing_are_gone_at_once_after_a_resume(
        reference, tmp_path):
    options, undisturbed = reference
    shutil.copytree(undisturbed, tmp_path / "run")
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 13}\n')  # as a kill between the two files may leave it
    train.main([*options, "--resume", "--out", str(tmp_path / "run")])
    assert runs.read_metrics(tmp_path / "run") == runs.read_metrics(undisturbed)


def test_a_checkpoint_due_within_an_epoch_is_written_there(reference, tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(runs, "write_checkpoint", lambda path, state: steps.append(state["step"]))
    due = lambda run: run.state.step % 2 == 1 or run.state.step == run.last_step
    monkeypatch.setattr(checkpoint, "is_due", due)
    train.main([*reference[0], "--out", str(tmp_path / "run"), "--max-steps", "4"])
    assert steps == [0, 1, 3, 4]  # an epoch has two steps


def test_a_disk_that_is_full_before_the_first_checkpoint_promises_no_resuming(
        reference, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    line = stops(*reference[0], "--out", tmp_path / "run")
    assert "No space left" in line and "start again" in line and "--resume" not in line
    monkeypatch.undo()
    start_or_resume(reference[0], tmp_path / "run")  # what was left is no obstacle
    assert_same_end(tmp_path / "run", reference[1])


def test_a_folder_is_locked_by_a_file_that_is_open_for_writing_as_NFS_requires(tmp_path):
    lock = runs.open_lock(tmp_path)
    assert stat.S_ISREG(os.fstat(lock).st_mode)
    assert fcntl.fcntl(lock, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
    os.close(lock)


def test_a_folder_that_another_user_has_locked_before_can_be_locked(tmp_path, monkeypatch):
    os.close(runs.open_lock(tmp_path))
    really_open = os.open

    def open_for_reading_only(path, flags, *mode):
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError(errno.EACCES, "Permission denied")
        return really_open(path, flags, *mode)

    def busy():
        raise BrokenPipeError

    monkeypatch.setattr(os, "open", open_for_reading_only)
    with runs.locked(tmp_path, busy):
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError), runs.locked(tmp_path, busy):
            pass


def test_where_the_file_system_has_no_locks_a_run_trains_unprotected(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    args = SimpleNamespace(out=str(tmp_path / "run"), resume=False)
    with runs.lock_run_dir(args) as out:
        runs.write_json(out / "config.json", {})
    assert (tmp_path / "run" / "config.json").exists()


def test_without_git_a_run_has_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert runs.commit.__wrapped__() == ""


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_the_old_one(tmp_path, monkeypatch):
    """After a power cut there is the old content or the new one, not an empty file."""
    calls, sync, replace = [], os.fsync, os.replace
    path = tmp_path / "config.json"
    size = lambda file: os.fstat(file).st_size  # 0 if the text is still in Python's buffer
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append(size(file)), sync(file)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), replace(*names)))
    runs.atomic_write(path, "old")
    runs.atomic_write(path, "new")
    assert calls == [3, "replace"] * 2 and path.read_text() == "new"


# ------------------------------------------------------------------------------------------------
# Folders of other people


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "views.png", "curves.png",
                                  "thesis.tex", "config.json.d"])
@pytest.mark.parametrize("content", ["[1, 2]", '{"data": "mine"}', "7", "\0"])
def test_a_folder_that_holds_other_files_is_refused_and_left_as_it_is(
        name, content, reference, tmp_path):
    (tmp_path / name).write_text(content)
    assert "holds files that are not those of a run" in stops(*reference[0], "--out", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("other")])
def test_no_pipe_or_link_is_read_or_followed_out_of_the_folder(make, reference, tmp_path):
    options, out = reference[0], tmp_path / "run"
    train.main([*options, "--out", str(out), "--max-steps", "1"])
    checkpoint = (out / "checkpoint.pt").read_bytes()
    (out / "checkpoint.pt").rename(out / "other")
    make(out / "checkpoint.pt")
    assert "not a checkpoint" in stops("--resume", "--out", out)
    (out / "checkpoint.pt").rmdir() if make is os.mkdir else (out / "checkpoint.pt").unlink()
    (out / "other").rename(out / "checkpoint.pt")
    (tmp_path / "outside").write_text("precious")
    for file in ("checkpoint.pt", "metrics.jsonl"):
        (out / f"{file}.part").symlink_to(tmp_path / "outside")
    start_or_resume(options, out)
    assert (out / "checkpoint.pt").read_bytes() != checkpoint
    assert (tmp_path / "outside").read_text() == "precious"
    empty = tmp_path / "config"
    empty.mkdir()
    make(empty / "config.json")
    assert "not those of a run" in stops(*options, "--out", empty)


@pytest.mark.parametrize("other", [True, False])
def test_a_run_whose_folder_was_moved_writes_nothing_into_another_one(
        other, reference, tmp_path, monkeypatch):
    out, step, steps = tmp_path / "run", train.SGD.step, []

    def moved(self, *lrs):
        steps.append(lrs)
        if len(steps) == 3:
            out.rename(tmp_path / "moved")
            if other:
                out.mkdir()
        step(self, *lrs)

    monkeypatch.setattr(train.SGD, "step", moved)
    assert "was moved" in stops(*reference[0], "--out", out)
    assert runs.load_checkpoint(tmp_path / "moved")["step"] == 2
    assert not (out.exists() and list(out.iterdir()))
    start_or_resume(reference[0], tmp_path / "moved")
    assert_same_end(tmp_path / "moved", reference[1])


def test_after_a_run_its_name_may_belong_to_another_folder(tmp_path, small_shapes):
    out = tmp_path / "run"
    train.main([*TINY, "--max-steps", "1", "--out", str(out)])
    out.rename(tmp_path / "moved")
    out.mkdir()
    runs.atomic_write(out / "mine", "text")
    assert (out / "mine").read_text() == "text"


# ------------------------------------------------------------------------------------------------
# Other data


def pictures(path):
    return sorted(path.rglob("[!.]*.png"))


def replace_one(path):
    Image.new("RGB", (10, 8), (9, 9, 9)).save(path / "test" / "dog" / "0.png")


def swap(a, b):
    a.rename(a.with_name("x"))
    b.rename(a)
    a.with_name("x").rename(b)


def swap_labels(path):
    for split in ("train", "test"):
        swap(path / split / "cat", path / split / "dog")


def rotate_all(path):
    for file in pictures(path):
        Image.open(file).rotate(180).save(file)


CHANGES = {  # what may happen to data: the function, and what the message names
    "a test image is replaced": (replace_one, "test images"),
    "a test image is deleted": (lambda path: (path / "test/dog/0.png").unlink(), "test images"),
    "test images are swapped between classes": (
        lambda path: swap(path / "test/dog/0.png", path / "test/cat/0.png"), "test images"),
    "a training image is replaced": (
        lambda path: swap(path / "train/dog/0.png", path / "test/cat/0.png"), "training images"),
    "all labels are swapped": (swap_labels, "training images"),
    "all images are turned": (rotate_all, "training images"),
    "a training label is another": (
        lambda path: (path / "train/dog/0.png").rename(path / "train/cat/z.png"), "training"),
}


@pytest.fixture(scope="module")
def original(reference, tmp_path_factory):
    """A folder with a run stopped in mid-epoch, and with images that can be told apart if turned.

    The run knows its images by a relative path, and so can be copied with them.
    """
    path = tmp_path_factory.mktemp("stopped")
    shutil.copytree(reference[0][1], path / "images")
    for i, file in enumerate(pictures(path / "images")):
        image = Image.open(file)
        image.putpixel((3, i % 4), (255, i, 0))
        image.save(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        train.main(["--data", "images", *reference[0][2:], "--max-steps", "5", "--out", "run"])
    return path


@pytest.fixture
def stopped(original, tmp_path, monkeypatch):
    """The stopped run and its images, as a copy which a test may change."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run", tmp_path / "images"


@pytest.mark.parametrize("change, named", CHANGES.values(), ids=CHANGES)
def test_a_run_is_not_resumed_on_changed_data_and_lineval_says_so(
        change, named, stopped, capsys):
    out, images = stopped
    before = (out / "checkpoint.pt").read_bytes()
    change(images)
    line = stops("--resume", "--out", out)
    assert f"the data have changed: {named}" in line
    assert (out / "checkpoint.pt").read_bytes() == before
    lineval.main([str(out), "--epochs", "1", "--lr", "1"])
    assert "not the data on which the run was trained" in capsys.readouterr().out


def test_data_that_only_moved_are_the_same_data(stopped, tmp_path, capsys):
    out, images = stopped
    shutil.copytree(out, tmp_path / "other")
    start_or_resume([], out)
    images.rename(tmp_path / "elsewhere")
    moved = ["--data", str(tmp_path / "elsewhere")]
    train.main(["--resume", "--out", str(tmp_path / "other"), *moved])
    assert_same_end(tmp_path / "other", out)
    lineval.main([str(out), "--epochs", "1", "--lr", "1", *moved])
    assert "not the data" not in capsys.readouterr().out and (out / "lineval.json").exists()


def test_a_digest_of_60000_images_costs_little_more_than_hashing_their_bytes_once():
    x, labels = torch.zeros(60000, 3, 32, 32, dtype=torch.uint8), torch.arange(60000) % 10
    images = data.Data(x[:50000], labels[:50000], x[50000:], labels[50000:], list("0123456789"))

    def seconds(work):
        before = time.process_time()
        work()
        return time.process_time() - before

    once = min(seconds(lambda: hashlib.sha256(x.numpy()).hexdigest()) for _ in range(3))
    assert min(seconds(images.digest) for _ in range(3)) < 3 * once
    assert len(set(images.digest().values())) == 4


# ------------------------------------------------------------------------------------------------
# Damaged and hostile files


def refused(path):
    """The one plain line with which a checkpoint is refused."""
    with pytest.raises(SystemExit) as stop:
        runs.load_checkpoint(path)
    assert "checkpoint" in stop.value.code and "\n" not in stop.value.code
    return stop.value.code


def test_none_of_500_random_corruptions_is_accepted(tmp_path, reference):
    intact = (reference[1] / "checkpoint.pt").read_bytes()
    path, choose = tmp_path / "checkpoint.pt", random.Random(0)
    for _ in range(500):
        content, i = bytearray(intact), choose.randrange(len(intact))
        kind = choose.choice(["flip", "cut", "zero", "insert", "swap"])
        if kind == "flip":
            content[i] ^= 1 << choose.randrange(8)
        elif kind == "cut":
            del content[i:]
        elif kind == "zero":
            content[i : i + 4096] = bytes(len(content[i : i + 4096]))
        elif kind == "insert":
            content[i:i] = choose.randbytes(choose.randint(1, 64))
        else:
            content[:i], content[i:] = content[-i:], content[:-i]
        if content != intact:
            path.write_bytes(content)
            refused(path)


class Bomb:
    """Runs code when unpickled without weights_only."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [torch.save, pickle.dump])
def test_a_checkpoint_with_code_in_it_is_refused_and_the_code_does_not_run(save, tmp_path):
    """Its checksum is right: whoever makes a bomb can compute one too."""
    bomb = {"config": {}, "model": Bomb(tmp_path / "boom")}
    path = tmp_path / "checkpoint.pt"
    if save is torch.save:
        runs.write_checkpoint(path, bomb)
    else:
        body = pickle.dumps(bomb, 2)
        path.write_bytes(body + runs.hashlib.sha256(body).digest())
    refused(path)
    with pytest.raises(SystemExit):
        lineval.main([str(path)])
    with pytest.raises(SystemExit):
        train.main(["--resume", "--out", str(tmp_path)])
    assert not (tmp_path / "boom").exists()
    torch.load(path, weights_only=False) if save is torch.save else pickle.loads(path.read_bytes())
    assert (tmp_path / "boom").exists()  # the bomb was live


def doubled(times):
    """A list that a file holds in a few bytes, and that has 2^times parts."""
    found = ["a part"]
    for _ in range(times):
        found = [found, found]
    return found


@pytest.mark.parametrize("part, reason", [
    (torch.zeros(1).expand(10**12), "larger than its numbers"), (10**400, "too large"),
    (doubled(60), "more than a million parts")])
@pytest.mark.parametrize("read", [runs.load_checkpoint, lambda path: weights.read_file(path)])
def test_a_small_file_cannot_take_much_memory_or_time(part, reason, read, tmp_path):
    runs.write_checkpoint(tmp_path / "a.pt", {"config": {}, "model": {"w": part}})
    with pytest.raises(SystemExit, match=reason):
        read(tmp_path / "a.pt")


def test_a_compressed_file_is_refused_before_it_is_expanded(tmp_path, monkeypatch):
    runs.write_checkpoint(tmp_path / "a.pt", {"config": {}, "model": {}})
    with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(
            tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    monkeypatch.setattr(torch, "load", pytest.fail)
    with pytest.raises(ValueError, match="compressed"):
        runs.load((tmp_path / "b.pt").read_bytes())


def test_an_error_without_words_is_one_line_and_lack_of_memory_or_permission_no_fault_of_the_file(
        tmp_path, monkeypatch):
    errors = [EOFError(), MemoryError(), PermissionError(13, "Permission denied", "a")]

    def fail(*_):
        raise errors.pop(0)

    monkeypatch.setattr(runs, "read_regular", fail)
    assert "EOFError" in refused(tmp_path / "checkpoint.pt")
    with pytest.raises(MemoryError):
        runs.load_checkpoint(tmp_path)
    with pytest.raises(SystemExit, match="^a: Permission denied$"):  # it may be a good one
        console.plain_errors(runs.load_checkpoint)(tmp_path)


def test_a_file_that_is_not_a_checkpoint_of_train_py_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    assert "no such checkpoint" in refused(path)
    for content in (b"", b"hello", bytes(1000)):
        path.write_bytes(content)
        assert "checksum" in refused(path)
    torch.save({"config": {}, "model": {}}, path)  # another program's
    assert "checksum" in refused(path)
    for foreign in ([1, 2], {"state_dict": {}}):
        runs.write_checkpoint(path, foreign)
        assert "lacks config and model" in refused(path)
    runs.write_checkpoint(path, {"config": {}, "model": {"w": torch.tensor([1, math.nan])}})
    assert "its w is not finite" in refused(path)


def test_a_checkpoint_is_an_ordinary_file_of_torch_save(tmp_path):
    content = {"config": {"a": 1}, "model": {"w": torch.ones(3)}}
    runs.write_checkpoint(tmp_path / "x.pt", content)
    for read in (torch.load(tmp_path / "x.pt"), runs.load_checkpoint(tmp_path / "x.pt")):
        assert read["config"] == content["config"] and read["model"]["w"].tolist() == [1, 1, 1]


ODD = {"nothing": None, "a number": 7, "a negative number": -1, "a float": 1.5, "text": "text",
       "a list": [1, "x"], "a dict": {"x": 1}, "NaN": math.nan, "true": True,
       "a tensor": torch.tensor(1.0), "whole numbers": torch.arange(3),
       "complex numbers": torch.ones(2, 2, dtype=torch.complex64)}


def places(saved):
    """Every entry of a checkpoint that may be replaced: pairs of a container and a key."""
    for part in (saved, saved["config"], saved["optimizer"], saved["records"][0]):
        yield from ((part, key) for key in part)
    first = list(saved["model"])[:2]
    yield from ((saved["model"], key) for key in first)
    for values in (saved["losses"], saved["outputs"], saved["optimizer"]["velocity"],
                   saved["optimizer"]["velocity"][0], saved["config"]["mean"]):
        yield values, 0


QUICK = "another shape", "other numbers", "nothing", "complex numbers"


@pytest.mark.parametrize("odd", [*QUICK, *(
    pytest.param(odd, marks=pytest.mark.slow) for odd in ("missing", *ODD) if odd not in QUICK)])
def test_a_checkpoint_with_something_odd_in_it_is_refused_or_the_odd_part_means_nothing(
        odd, stopped, tmp_path):
    """Its checksum is right. What is accepted must end in the bits of the undisturbed run."""
    out, _ = stopped
    content, end = (out / "checkpoint.pt").read_bytes(), None
    original = runs.load_checkpoint(out)
    for number in range(len(list(places(original)))):
        saved = copy.deepcopy(original)
        part, key = list(places(saved))[number]
        if odd == "missing":
            del part[key]
        elif odd in ODD:
            part[key] = ODD[odd]
        elif not isinstance(part[key], torch.Tensor):
            continue
        elif odd == "another shape":
            part[key] = part[key].flatten()[:1]
        else:
            part[key] = part[key].to(torch.int8)
        runs.write_checkpoint(out / "checkpoint.pt", saved)
        try:
            train.main(["--resume", "--out", str(out), "--max-steps", "6"])
        except SystemExit as stop:
            assert isinstance(stop.code, str) and "\n" not in stop.code, (key, stop.code)
            continue
        if odd in ODD and type(ODD[odd]) is type(list(places(original))[number][0][key]):
            continue  # not odd there: a lr of 1.5
        if end is None:
            (tmp_path / "end").mkdir()
            (tmp_path / "end" / "checkpoint.pt").write_bytes(content)
            train.main(["--resume", "--out", str(tmp_path / "end"), "--max-steps", "6"])
            end = runs.load_checkpoint(tmp_path / "end")
        after = runs.load_checkpoint(out)
        assert all(torch.equal(after["model"][k], w) for k, w in end["model"].items()), key


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_a_checkpoint_of_another_format_is_refused_and_says_who_wrote_it(version, stopped):
    out, _ = stopped
    saved = runs.load_checkpoint(out)
    saved.update(format=version, commit="abc1234")
    if version is None:
        for key in ("format", "commit", "step"):  # as b44eb47 wrote it
            del saved[key]
    runs.write_checkpoint(out / "checkpoint.pt", saved)
    line = stops("--resume", "--out", out)
    assert f"format {version}" in line and torch.__version__ in line
    assert ("abc1234" if version is not None else "unknown") in line


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_text("{")])
def test_resuming_writes_config_json_anew(change, stopped):
    out, _ = stopped
    change(out / "config.json")
    train.main(["--resume", "--out", str(out), "--max-steps", "6"])
    config = json.loads((out / "config.json").read_text())
    assert config["epochs"] == 6 and config["max_steps"] == 6


@pytest.mark.skipif(not shutil.which("git"), reason="there is no git")
def test_the_commit_is_that_of_the_code_and_not_of_the_current_directory_s_repository(
        tmp_path, monkeypatch):
    def git(line, cwd):
        return subprocess.run(f"git {line}", shell=True, cwd=cwd, text=True,
                              capture_output=True).stdout.strip()

    git("init -q && git -c user.name=a -c user.email=b commit -q --allow-empty -m c", tmp_path)
    head = "rev-parse --short HEAD"
    assert git(head, tmp_path)
    monkeypatch.chdir(tmp_path)
    ask = runs.commit.__wrapped__  # not what an earlier test was told
    assert ask() == git(head, pathlib.Path(runs.__file__).parent) != git(head, tmp_path)
    monkeypatch.setattr(runs, "__file__", str(tmp_path / "copy" / "utils" / "runs.py"))
    (tmp_path / "copy" / "utils").mkdir(parents=True)
    assert ask() == ""  # not that of a repository which holds a copy of this one
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert ask() == ""


@pytest.mark.parametrize("argv, name", [
    ("--data some/images/", "images"), ("--data .", "here"), ("--method byol", "shapes-byol"),
    ("--no-stopgrad", "shapes-no-stopgrad"), ("--method swav --no-stopgrad", "shapes-swav")])
def test_a_run_folder_is_named_after_the_data_and_the_method(argv, name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for expected in (name, f"{name}-2"):
        assert runs.make_run_dir(train.parse(argv.split())) == pathlib.Path("runs", expected)


def test_a_run_is_restored_on_its_device_but_its_order_and_random_state_on_the_cpu(
        tmp_path, monkeypatch, small_shapes):
    train.main([*TINY, "--out", str(tmp_path / "run"), "--max-steps", "1"])
    asked, kept, load = [], [], runs.load_checkpoint

    def load_elsewhere(path, device="cpu"):
        saved = load(path)
        return {**saved, **{key: saved[key].as_subclass(Elsewhere) for key in ("order", "rng")}}

    monkeypatch.setattr(runs, "load_checkpoint", load_elsewhere)
    monkeypatch.setattr(torch, "set_rng_state", kept.append)
    monkeypatch.setattr(train, "pretrain", lambda run, *_: kept.append(run.state.order) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train.train(options.parse(["--resume", "--out", str(tmp_path / "run")]))
    assert [type(v) for v in kept] == [torch.Tensor] * 2
    run = SimpleNamespace(out=tmp_path / "run", args=SimpleNamespace(device="a device"))
    monkeypatch.setattr(checkpoint, "load", lambda *args: asked.append(args) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        checkpoint.restore(run)
    assert asked == [(tmp_path / "run", "a device")]


def test_a_checkpoint_is_read_onto_the_device_that_is_asked_for_and_weights_onto_the_cpu(
        tmp_path, monkeypatch):
    """By default torch.load() puts a tensor on the device of its writer, if there is one."""
    runs.write_checkpoint(tmp_path / "c.pt", {"config": {}, "model": {}})
    torch.save({"w": torch.ones(2)}, tmp_path / "w.pt")
    asked, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda file, map_location=None, **how: (
        asked.append(map_location), load(file, **how))[1])
    for device in "cpu", "meta":
        runs.load_checkpoint(tmp_path / "c.pt", device)
    weights.read_file(tmp_path / "w.pt")
    assert asked == ["cpu", "meta", "cpu"]


def test_only_rank_0_serialises_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(runs.parallel, "rank", lambda: 1)
    monkeypatch.setattr(torch, "save", None)  # would be called in vain
    runs.write_checkpoint(tmp_path / "c.pt", {})
    assert not (tmp_path / "c.pt").exists()


IMPOSSIBLE = {  # part of a checkpoint after one of six steps: what it cannot be
    "step": [7, -1], "order": [torch.zeros(192, dtype=torch.long), torch.arange(192) + 1],
    "records": [[dict(epoch=0, loss=0.0, std=1.0, rank=9.0, knn=None)]]}


@pytest.mark.parametrize("part", IMPOSSIBLE)
def test_a_step_an_order_or_a_first_record_that_no_run_can_have_is_refused(
        part, tmp_path, small_shapes):
    train.main([*TINY, "--max-steps", "1", "--out", str(tmp_path)])
    saved = runs.load_checkpoint(tmp_path)
    for value in IMPOSSIBLE[part]:
        runs.write_checkpoint(tmp_path / "checkpoint.pt", {**saved, part: value})
        assert f"its {part} does not fit" in message("--resume", "--out", tmp_path)
