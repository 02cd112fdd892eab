"""The laws of utils/cache.py: sets larger than memory.    pytest tests/test_cache.py"""

import errno
import fcntl
import json
import os
import pathlib
import pickle
import re
import resource
import sys
import threading
from types import SimpleNamespace

import numpy
import pytest
import torch
from PIL import Image

import train
from strategies import decode_in_a_thread, forked, make_folder
from utils import cache, data, folders, plot
from utils.data import Data


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch):
    monkeypatch.setattr(cache, "CHUNK", 5)
    decode_in_a_thread(monkeypatch)
    monkeypatch.setattr(plot, "plot_curves", lambda *_: None)


def read(path, **options):
    """The folder as Data, whose parts have names."""
    return Data(*folders.read_folder(path, **options))


def copy(images):
    """Tensors that do not change with the file."""
    return [t.clone() for t in images[:4]]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first[:4], second[:4], strict=True))


def files(path):
    """The cache of a folder of 8 px: the images, and the record."""
    return path / ".simsiam-8px.u8", path / ".simsiam-8px.json"


@pytest.fixture
def decoded(monkeypatch):
    """The number of the first file, for each time that something is decoded."""
    calls, decode_all = [], folders.decode_all

    def noted(paths, size, first):
        calls.append(first)
        return decode_all(paths, size, first)

    monkeypatch.setattr(folders, "decode_all", noted)
    return calls


# ------------------------------------------------------------------------------------------------
# When it is used, and when it is made anew


def test_the_second_start_reads_the_cache(tmp_path, decoded):
    assert same(read(make_folder(tmp_path)), read(tmp_path)) and decoded == [0]


def test_of_the_processes_of_a_machine_only_the_first_checks_the_checksums(tmp_path, monkeypatch):
    path = make_folder(tmp_path)
    read(path)
    checked, check = [], cache.Cache.is_intact
    monkeypatch.setattr(cache.Cache, "is_intact", lambda c: [checked.append(c), check(c)][1])
    for first in (True, False):
        checked.clear()
        monkeypatch.setattr(cache.parallel, "is_first", lambda: first)
        assert len(read(path).train) == 6 and len(checked) == first


def test_a_folder_that_was_moved_keeps_its_cache(tmp_path, decoded):
    before = read(make_folder(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    assert same(read(tmp_path / "there"), before) and decoded == [0]


def test_a_folder_that_has_changed_is_decoded_again(tmp_path):
    path = make_folder(tmp_path)
    assert len(read(path).train) == 6
    Image.new("RGB", (10, 8), (1, 2, 3)).save(tmp_path / "train" / "cat" / "9.png")
    assert len(read(path).train) == 7
    os.remove(tmp_path / "train" / "cat" / "0.png")
    assert len(read(path).train) == 6
    Image.new("RGB", (10, 8), (9, 9, 9)).save(tmp_path / "train" / "cat" / "1.png")
    assert read(path).train[0, :, 0, 0].tolist() == [9, 9, 9]


def test_images_that_a_run_has_mapped_outlive_a_change_of_the_folder(tmp_path):
    before = read(make_folder(tmp_path))
    copies = copy(before)
    Image.new("RGB", (10, 8), (9, 9, 9)).save(tmp_path / "train" / "cat" / "0.png")
    assert not same(read(tmp_path), before) and same(before, copies)


def change(**entries):
    """Damage to the record: entries of another value; None: without the entry."""
    def damage(images, record):
        content = dict(json.loads(record.read_text()), **entries)
        record.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return damage


def flip_a_bit(images, record):
    content = bytearray(images.read_bytes())
    content[1234] ^= 1
    images.write_bytes(content)


DAMAGED = {
    "a bit of the images": flip_a_bit,
    "the images are cut short": lambda images, _: os.truncate(images, 100),
    "no images": lambda images, _: images.unlink(),
    "no record": lambda _, record: record.unlink(),
    "half a record": lambda _, record: os.truncate(record, 40),
    "a record of another kind": lambda _, record: record.write_text("[1, 2]"),
    "endless brackets": lambda _, record: record.write_text(100_000 * "["),
    "other files": change(digest="x"),
    "no digest": change(digest=None),
    "no sums": change(sums=None),
    "sums of another kind": change(sums=[1, 2, 3]),
    "one sum too many": change(sums=4 * ["x"]),
    "no bad files": change(bad=None),
    "a bad file that does not exist": change(bad=[[99, "x"]]),
    "a bad file that is not bad": change(bad=[[0, "x"]]),
    "bad files of another kind": change(bad=7),
    "a bad file that is no number": change(bad=[["0", "x"]]),
    "a reason that is no text": change(bad=[[0, 7]]),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_cache_that_does_not_fit_is_made_anew(damage, tmp_path, decoded):
    first = copy(read(make_folder(tmp_path)))
    intact = [file.read_bytes() for file in files(tmp_path)]
    damage(*files(tmp_path))
    assert same(read(tmp_path), first) and decoded == [0, 0]
    assert [file.read_bytes() for file in files(tmp_path)] == intact


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to(path.parent / "other")])
@pytest.mark.parametrize("name", [".simsiam-8px.u8", ".simsiam-8px.json",
                                  ".simsiam-8px.json.part"])
def test_a_cache_that_is_a_pipe_or_a_link_is_not_followed(make, name, tmp_path):
    first = read(make_folder(tmp_path))
    content = (tmp_path / name.removesuffix(".part")).read_bytes()
    (tmp_path / "other").write_bytes(content)
    for file in files(tmp_path):
        if name != file.name:
            file.unlink()
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    assert same(read(tmp_path), first)
    assert all(file.is_file() and not file.is_symlink() for file in files(tmp_path))
    assert (tmp_path / "other").read_bytes() == content


def test_not_even_a_link_to_the_right_images_is_followed(tmp_path, decoded):
    first, images = read(make_folder(tmp_path)), tmp_path / ".simsiam-8px.u8"
    images.rename(tmp_path / "other")
    images.symlink_to(tmp_path / "other")
    assert same(read(tmp_path), first) and decoded == [0, 0]
    assert images.is_file() and not images.is_symlink()


def test_a_cache_with_code_in_it_is_replaced_and_the_code_does_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    first, bomb = copy(read(make_folder(tmp_path))), pickle.dumps(Bomb())
    for file in files(tmp_path):
        file.write_bytes(bomb)
        assert same(read(tmp_path), first)
    assert not (tmp_path / "boom").exists()
    pickle.loads(bomb)
    assert (tmp_path / "boom").exists()  # the bomb was live


# ------------------------------------------------------------------------------------------------
# Decoding that is interrupted, shared, or has no room


@pytest.mark.parametrize("stop", [3, 5, 9, 11])
@pytest.mark.parametrize("bad", [[], [1, 4, 5, 8, 12]])
def test_interrupted_decoding_goes_on_where_it_stopped(stop, bad, tmp_path, monkeypatch, decoded):
    make_folder(tmp_path, n=4)
    every = [tmp_path / split / name / f"{i}.png" for split in ("train", "test")
             for name in ("cat", "dog") for i in range(4)]  # in the order of decoding
    for number in bad:
        every[number].write_bytes(b"")
    whole = read(tmp_path, skip_bad=True)
    for file in files(tmp_path):
        file.unlink()
    decode_all = folders.decode_all

    def interrupted(*args):
        for i, result in enumerate(decode_all(*args)):
            if i == stop:
                raise KeyboardInterrupt
            yield result

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(folders, "decode_all", interrupted)
        read(tmp_path, skip_bad=True)
    with open(files(tmp_path)[0], "ab") as file:
        file.write(b"half an image")  # as a kill might leave it
    assert same(read(tmp_path, skip_bad=True), whole)
    assert decoded == [0, 0, stop // 5 * 5]


def test_a_record_never_counts_an_image_that_is_not_in_the_file_yet(tmp_path):
    """After a kill the record is believed: what it counts must have left the program's memory."""
    with open(tmp_path / "images", "x+b") as file:
        filled, found = cache.Cache(12, 2, file), []
        cache.fill(filled, lambda k: (numpy.ones((2, 2, 3), numpy.uint8) for _ in range(12)),
                   lambda record: found.append((len(record["sums"]), os.path.getsize(file.name))))
    assert found == [(1, 5 * 12), (2, 10 * 12), (3, 12 * 12)]


def test_of_several_runs_that_start_at_once_one_decodes_and_the_others_wait(
        tmp_path, monkeypatch, decoded):
    make_folder(tmp_path)
    somebody_waits, got, decode_all = threading.Event(), [], folders.decode_all
    monkeypatch.setattr(cache, "print", lambda said: "waiting" in said and somebody_waits.set(),
                        raising=False)
    monkeypatch.setattr(folders, "decode_all",
                        lambda *args: somebody_waits.wait(60) and decode_all(*args))
    threads = [threading.Thread(target=lambda: got.append(read(tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert decoded == [0] and len(got) == 3 and all(same(got[0], other) for other in got)


def test_a_folder_without_any_good_image_is_decoded_once_and_refused_at_every_start(
        tmp_path, decoded):
    for path in make_folder(tmp_path).glob("*/*/*.png"):
        path.write_bytes(b"")
    for _ in range(2):  # the second time by the cache, which holds no image
        with pytest.raises(SystemExit, match="no training image can be decoded"):
            read(tmp_path, skip_bad=True)
    assert decoded == [0]


def test_a_folder_on_a_file_system_without_locks_is_decoded_all_the_same(
        tmp_path, monkeypatch, decoded):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    first = read(make_folder(tmp_path))
    assert same(first, read(tmp_path)) and decoded == [0]


def test_a_folder_in_which_no_cache_can_be_written_is_read_all_the_same(tmp_path, capsys):
    first = read(make_folder(tmp_path))
    images, record = files(tmp_path)
    record.unlink()
    images.unlink()
    images.mkdir()  # where the cache would be
    assert same(read(tmp_path), first)
    assert "no cache" in capsys.readouterr().out
    assert list(tmp_path.glob(".simsiam-8px*")) == [images]  # nothing else is left


def test_of_several_processes_none_makes_a_cache_for_itself_alone(tmp_path, monkeypatch):
    images = files(make_folder(tmp_path))[0]
    images.mkdir()
    monkeypatch.setattr(cache.parallel, "world_size", lambda: 2)
    with pytest.raises(SystemExit, match="cannot be written there.*each process"):
        read(tmp_path)


def test_images_for_which_there_is_no_room_are_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=1, f_frsize=4096))
    make_folder(tmp_path, n=8)  # 6 kB
    with pytest.raises(SystemExit) as stop:
        read(tmp_path)
    assert "32 images of 8 px" in stop.value.code and "\n" not in stop.value.code
    assert "TMPDIR" in stop.value.code


# ------------------------------------------------------------------------------------------------
# Sets larger than memory


def train_in(allowed, argv):
    """Train with this many bytes of memory in addition to what the process has now."""
    import concurrent.futures.process
    import torchvision.datasets.folder  # what a run imports belongs to what it has now

    plot.plot_curves = plot.save_views = lambda *_: None  # Matplotlib takes some memory, too
    cache.CHUNK = 100  # of 11 MB, decoded at once
    threading.stack_size(2**18)  # threads are no images
    status = pathlib.Path("/proc/self/status").read_text()
    limit = 1024 * int(re.search(r"VmData:\s*(\d+)", status)[1]) + allowed
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    train.main(argv)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit means something else")
def test_a_set_of_twice_the_allowed_memory_is_decoded_and_trained_on(tmp_path):
    # The limit is on all memory but files that are only read: what a process must keep for itself.
    for split, n in (("train", 1130), ("test", 20)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(n):
                (tmp_path / split / name / f"{i}.ppm").write_bytes(
                    b"P6 1 1 255 %c%c%c" % (i % 256, i // 256, len(split)))
    allowed, log = 120_000_000, tmp_path / "log"
    argv = ["--data", tmp_path, "--image-size", "16", "--stored-size", "190", "--arch", "resnet8",
            "--dim", "16", "--batch-size", "16", "--max-steps", "2", "--device", "cpu", "--out",
            tmp_path / "run"]
    child = forked(train_in, allowed, list(map(str, argv)), log=log)
    child.join()
    assert child.exitcode == 0, log.read_text()
    assert (tmp_path / ".simsiam-190px.u8").stat().st_size > 2 * allowed


def test_the_next_batch_is_read_from_the_file_while_a_step_computes(tmp_path, monkeypatch):
    """Each step but an epoch's last asks the system for the bytes of the next step's images."""
    asked, used = [], []
    make_folder(tmp_path, n=8)
    monkeypatch.setattr(os, "posix_fadvise", lambda file, *range: asked.append(
        os.pread(file, range[1], range[0])), raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_WILLNEED", 3, raising=False)  # macOS has neither
    at_once = lambda target, args, daemon: SimpleNamespace(start=lambda: target(*args))
    monkeypatch.setattr(data, "threading", SimpleNamespace(Thread=at_once))
    two_views = train.Run.two_views

    def noted(run, indices):
        used.append((run.state.step, list(asked), run.images.train[indices].numpy()))
        asked.clear()
        return two_views(run, indices)

    monkeypatch.setattr(train.Run, "two_views", noted)
    train.main(["--data", str(tmp_path), "--arch", "resnet8", "--dim", "8", "--batch-size", "4",
                "--epochs", "2", "--device", "cpu", "--out", str(tmp_path / "run")])
    steps = used[-8:]  # two epochs of four
    assert [len(asked) for _, asked, _ in steps] == [0, 4, 4, 4, 0, 4, 4, 4]
    assert all(asked == [x.tobytes() for x in images] for _, asked, images in steps if asked)


def expects_random_order(path):
    """Whether the kernel has been told so of the file that is mapped from this folder."""
    blocks = pathlib.Path("/proc/self/smaps").read_text().split("VmFlags:")
    flags = [after.split("\n")[0].split() for block, after in zip(blocks, blocks[1:])
             if str(path) in block]
    assert len(flags) == 1, "one mapping of this folder's file"
    return "rr" in flags[0]


@pytest.mark.skipif(not pathlib.Path("/proc/self/smaps").exists(), reason="Linux only")
def test_training_reads_only_its_own_images_and_an_evaluation_reads_on_beyond_them(
        tmp_path, monkeypatch):
    """The kernel reads around an image unless told that the order is random."""
    found = []
    make_folder(tmp_path, n=8)
    two_views, features = train.Run.two_views, train.extract_features

    def noted(what, function):
        def call(*args):
            found.append((what, expects_random_order(tmp_path)))
            return function(*args)
        return call

    monkeypatch.setattr(train.Run, "two_views", noted("step", two_views))
    monkeypatch.setattr(train, "extract_features", noted("features", features))
    train.main(["--data", str(tmp_path), "--arch", "resnet8", "--dim", "8", "--batch-size", "4",
                "--epochs", "2", "--device", "cpu", "--out", str(tmp_path / "run")])
    epoch = [("step", False), *3 * [("step", True)], *2 * [("features", False)]]
    assert found[-12:] == 2 * epoch  # nothing is read ahead for an epoch's first step


def test_a_set_that_does_not_fit_on_the_device_stays_behind_and_its_views_do_not(monkeypatch):
    images = data.load("shapes")
    bytes_needed = 3 * 24 * 24 * 5096
    for room, where in ((bytes_needed, "meta"), (bytes_needed - 1, "cpu")):
        monkeypatch.setattr(data, "room", lambda _: room)
        moved = images.to("meta")
        assert moved.train.device.type == moved.test.device.type == where
        assert moved.train_labels.device.type == moved.test_labels.device.type == "meta"
        args = train.parse(["--device", "meta"])
        augment = train.Augment(24, (0.5,) * 3, (0.2,) * 3)
        run = train.Run(args, None, moved, augment, None, None)
        assert all(view.device.type == "meta" for view in run.two_views(torch.arange(4)))


def test_room_is_needed_only_for_the_images_that_are_still_to_be_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CHUNK", 5)
    image, asked = numpy.ones((2, 2, 3), numpy.uint8), []
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=2 * 12, f_frsize=1))
    with open(tmp_path / "images", "x+b") as file:
        half = cache.Cache(12, 2, file, sums=["x", "y"])  # of ten images
        file.write(10 * image.tobytes())
        cache.fill(half, lambda k: (asked.append(k) or image for _ in range(k, 12)), asked.append)
        assert half.done == 12 and asked[0] == 10
        with pytest.raises(OSError):
            cache.fill(cache.Cache(12, 2, file, sums=["x"]), lambda k: None, asked.append)


def test_what_does_not_fit_on_the_disk_is_named_in_gigabytes(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=0, f_frsize=1))
    with open(tmp_path / "images", "x+b") as file, pytest.raises(OSError, match="for 1.2 GB"):
        cache.fill(cache.Cache(100_000, 64, file), None, None)


def test_a_complete_cache_is_not_opened_for_writing(tmp_path, monkeypatch):
    """Whoever may only read a folder can use the cache in it."""
    decode_in_a_thread(monkeypatch)
    folders.read_folder(make_folder(tmp_path))
    opened, real = [], os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *mode: (
        opened.append((str(path), flags & os.O_ACCMODE)), real(path, flags, *mode))[1])
    images = folders.read_folder(tmp_path)[6]
    assert (str(tmp_path / ".simsiam-8px.u8"), os.O_RDONLY) in opened
    assert not images.file.writable()
