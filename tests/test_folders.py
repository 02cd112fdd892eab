"""The laws of utils/folders.py, and its messages.    pytest tests/test_folders.py"""

import concurrent.futures.process
import errno
import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import zlib
from types import SimpleNamespace

import numpy
import pytest
import torch
from PIL import Image, ImageOps

from strategies import ODD, decode_in_a_thread, forked, make_folder, wait_for
from utils import console, folders
from utils.data import Data

HOME = pathlib.Path(folders.__file__).parents[1]


def read(path, **options):
    """The folder as Data, whose parts have names."""
    return Data(*folders.read_folder(path, **options))


# ------------------------------------------------------------------------------------------------
# Which images, in which order


def test_images_are_sorted_by_class_and_file_name(tmp_path):
    images = read(make_folder(tmp_path))
    assert images.classes == ["cat", "dog"]
    assert images.train.shape == (6, 3, 8, 8)
    assert images.train_labels.tolist() == images.test_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.train[:, :, 0, 0].tolist() == [
        [0, 50 * c, 10 * i] for c in range(2) for i in range(3)
    ]
    assert images.test[0, :, 0, 0].tolist() == [100, 0, 0]


def test_a_folder_without_test_may_have_val_instead(tmp_path):
    assert len(read(make_folder(tmp_path, splits=("train", "val"))).test) == 6


def test_a_folder_with_test_and_val_is_tested_on_test(tmp_path):
    make_folder(tmp_path, splits=("train", "test", "val"))
    assert read(tmp_path).test[0, 0, 0, 0] == 100  # val has 200


@pytest.mark.parametrize("name", ["unlabelled", "unlabeled"])
def test_images_without_labels_come_after_the_labelled_ones_from_any_depth_sorted_by_path(
        name, tmp_path, capsys):
    folder = tmp_path / name
    for i, path in enumerate(["b.png", "a/z.png", "a/c/y.PNG", ".hidden/x.png", "a/.w.png"]):
        (folder / path).parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (10, 8), (0, 0, 200 + i)).save(folder / path)
    (folder / "a/notes.txt").touch()
    (folder / "again").symlink_to(folder)
    (folder / "loop.png").symlink_to("loop.png")
    alone = read(tmp_path, skip_bad=True)
    assert "left out 1 file with" in capsys.readouterr().out
    assert alone.train[:, 2, 0, 0].tolist() == [202, 201, 200]
    assert [len(part) for part in alone[1:5]] == [0, 0, 0, 0]  # no labels, tests or classes
    assert alone.names == ([f"{name}/a/c/y.PNG", f"{name}/a/z.png", f"{name}/b.png"], [])
    images = read(make_folder(tmp_path), skip_bad=True)
    assert images.train[:, 2, 0, 0].tolist() == [0, 10, 20, 0, 10, 20, 202, 201, 200]
    assert images.train_labels.tolist() == images.test_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(images.test) == 6 and images.classes == ["cat", "dog"]
    assert len(images.labelled) == 6


# ------------------------------------------------------------------------------------------------
# Decoding


def test_rows_and_columns_are_not_exchanged(tmp_path):
    make_folder(tmp_path)
    image = Image.new("RGB", (8, 8))
    image.paste((255, 0, 0), (0, 0, 8, 2))  # the two upper rows
    image.save(tmp_path / "train" / "cat" / "0.png")
    red = read(tmp_path).train[0, 0]
    assert (red[:2] == 255).all() and (red[2:] == 0).all()


def test_the_shorter_side_sets_the_scale_and_the_middle_is_cut_out(tmp_path):
    image = Image.new("RGB", (40, 20))
    image.paste((255, 0, 0), (10, 0, 30, 20))
    image.save(tmp_path / "x.png")
    got = folders.decode(tmp_path / "x.png", 10)
    assert (got[:, 1:-1, 0] == 255).all() and (got[:, :, 1:] == 0).all()


def test_a_photograph_taken_with_the_camera_on_its_side_is_turned_upright(tmp_path):
    image = Image.new("RGB", (8, 8))
    image.paste((255, 0, 0), (0, 0, 4, 8))  # the left half as stored
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: what is stored on the left belongs at the top
    image.save(tmp_path / "x.png", exif=exif)
    red = folders.decode(tmp_path / "x.png", 8)[:, :, 0]
    assert (red[:4] == 255).all() and (red[4:] == 0).all()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_images_in_other_modes_become_RGB(tmp_path, mode):
    file = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    colour = (255, 255, 255) if mode in ("L", "1") else (255, 0, 102)
    Image.new("RGB", (8, 8), colour).convert(mode).save(file, quality=100)
    found = folders.decode(file, 8).astype(int)
    assert found.shape == (8, 8, 3) and abs(found - colour).max() <= 3  # of a JPEG, or a palette


@pytest.mark.parametrize("dtype", ["uint16", ">u2"])
def test_sixteen_bits_are_scaled_to_eight_and_not_clipped(tmp_path, dtype):
    gray = numpy.array([[0, 256 * 100 + 7], [256 * 200, 65535]], dtype=dtype)
    Image.fromarray(gray).save(tmp_path / "x.tif")
    assert folders.decode(tmp_path / "x.tif", 2)[:, :, 1].tolist() == [[0, 100], [200, 255]]


@pytest.mark.parametrize("levels", [65535, 4095])
def test_a_pgm_of_16_or_12_bits_is_scaled_to_8(levels, tmp_path):
    gray = numpy.array([[0, levels], [levels // 2, levels // 4]], dtype=">u2")
    (tmp_path / "x.pgm").write_bytes(b"P5 2 2 %d\n" % levels + gray.tobytes())
    assert folders.decode(tmp_path / "x.pgm", 2)[:, :, 1].tolist() == [[0, 255], [127, 63]]


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_a_postscript_file_starts_no_other_program_whatever_its_name(ending, tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("started"))
    path = make_folder(tmp_path) / "train" / "cat" / f"9.{ending}"
    Image.new("RGB", (8, 8)).save(path, "EPS")
    assert "cannot identify" in folders.decode(path, 8)
    assert f"9.{ending}" in message(tmp_path)


def test_every_format_that_a_file_ending_names_is_read(tmp_path):
    from torchvision.datasets.folder import IMG_EXTENSIONS

    for ending in IMG_EXTENSIONS:
        Image.new("RGB", (8, 8), (200, 200, 200)).save(tmp_path / f"x{ending}")
        assert not isinstance(folders.decode(tmp_path / f"x{ending}", 8), str), ending


def test_files_that_are_not_images_are_left_out_and_counted(tmp_path, capsys):
    make_folder(tmp_path)
    for i in range(5):
        Image.new("RGB", (8, 8)).save(tmp_path / "train" / "cat" / f"{i}.gif")
    assert len(read(tmp_path).train) == 6
    said = capsys.readouterr().out
    assert "left out 5 files" in said and "folders" not in said


def test_folders_inside_a_class_folder_are_left_out_and_one_is_named(tmp_path, capsys):
    make_folder(tmp_path)
    for name in ("kittens", "adults"):
        (tmp_path / "train" / "cat" / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / "train" / "cat" / name / "0.png")
    assert len(read(tmp_path).train) == 6
    said = capsys.readouterr().out
    assert f"left out 2 folders inside class folders, such as {tmp_path}/train/cat/adults" in said
    assert "files" not in said


@pytest.mark.parametrize("error", [OSError(30, "Read-only file system"), NotImplementedError])
def test_without_shared_memory_images_are_decoded_one_after_another(error, tmp_path, monkeypatch):
    expected = read(make_folder(tmp_path))
    next(tmp_path.glob(".simsiam*")).unlink()

    def refuse(*_):
        raise error

    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", refuse)
    assert torch.equal(read(tmp_path).train, expected.train)


def run_script(folder, *lines):
    """Run a script that loads a folder of images and has no `if __name__ == "__main__":`."""
    make_folder(folder / "images")
    (folder / "script.py").write_text("\n".join([
        "import multiprocessing, sys, torch", *lines, "from utils import data",
        'print(len(data.load("images").train))']))
    python_path = os.pathsep.join([str(HOME), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run([sys.executable, "script.py"], cwd=folder, capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": python_path})


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a script needs the guard")
def test_a_script_without_a_guard_decodes_a_folder_once(tmp_path):
    """... also if the start method is that of Python 3.14, whose workers run the script first."""
    done = run_script(tmp_path, 'assert __name__ == "__main__", "a worker runs the script"',
                      'multiprocessing.set_start_method("forkserver")')
    assert done.returncode == 0, done.stderr
    assert done.stdout == "decoding 12 images, kept at 8 px\n6\n"


def test_elsewhere_a_script_without_a_guard_is_told_so_and_does_not_wait_for_itself(tmp_path):
    # Cached first: torch 2.11 reads sysconfig's variables later, and only Linux's exist here.
    done = run_script(tmp_path, "import sysconfig; sysconfig.get_config_vars()",
                      'sys.platform = "darwin"',
                      'multiprocessing.set_start_method("spawn", force=True)')
    assert done.returncode == 1 and "__main__" in done.stderr.splitlines()[-1], done.stderr
    assert "Traceback" not in done.stderr


def no_thread(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(concurrent.futures.process._ExecutorManagerThread, "start", start)


def no_second_process(monkeypatch):
    forks, fork = [], os.fork

    def limited():
        forks.append(1)
        if len(forks) > 1:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", limited)


def a_worker_itself(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)


@pytest.mark.skipif(sys.platform != "linux", reason="starts processes in another way")
@pytest.mark.parametrize("limit", [no_thread, no_second_process, a_worker_itself])
def test_if_no_more_processes_can_start_one_decodes_all_and_no_worker_is_left(
        limit, tmp_path, monkeypatch, capfd):
    folder = make_folder(tmp_path / "images", n=20, size=(8, 8))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2))
    limit(monkeypatch)
    images = folders.read_folder(str(folder))[0]
    assert len(images) == 40 and images.any()
    wait_for(lambda: not multiprocessing.active_children())
    assert "no cache" not in capfd.readouterr().out


@pytest.mark.parametrize("cores, n, workers", [(2, 1000, 2), (2, 16, 1), (64, 17, 2), (64, 1, 1)])
def test_no_more_processes_decode_than_the_cores_in_use_or_the_files_keep_busy(
        cores, n, workers, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    assert folders.start_workers(n)._max_workers == workers


def decode_slowly(path):
    """What a run does with a folder: each worker prints its number before each image."""
    for number in (signal.SIGINT, signal.SIGHUP):  # a background job may ignore both
        signal.signal(number, signal.SIG_DFL)
    folders.decode = slow
    console.plain_errors(folders.read_folder)(path)


def slow(path, size):
    os.write(1, b"%d\n" % os.getpid())
    time.sleep(0.03)
    return "slow"


@pytest.mark.parametrize("number, code", [
    (signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_the_processes_that_decode_end_with_their_parent(number, code, tmp_path):
    images, log = make_folder(tmp_path / "images"), tmp_path / "log"
    for i in range(400):
        (images / "train" / "cat" / f"{i}.png").touch()
    parent = forked(decode_slowly, images, log=log)
    wait_for(lambda: log.exists() and log.read_text().count("\n") >= 8)
    workers = set(map(int, re.findall(r"^\d+$", log.read_text(), re.M)))
    os.kill(parent.pid, number)
    parent.join()
    assert parent.exitcode == code and "Traceback" not in log.read_text()
    assert number == signal.SIGKILL or f"{number.name}: interrupted" in log.read_text()
    wait_for(lambda: not any(map(is_alive, workers)), seconds=20)


def is_alive(process):
    try:
        os.kill(process, 0)
        stat = pathlib.Path(f"/proc/{process}/stat")  # Linux: one that has ended may be a zombie
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


# ------------------------------------------------------------------------------------------------
# Sizes


@pytest.mark.parametrize("side, given, sizes", [
    (32, (None, None), (32, 32)),  # small images are kept as they are
    (500, (64, None), (64, 64)),
    (500, (65, None), (65, 74)),
    (500, (None, None), (224, 256)),  # the usual sizes for ImageNet
    (240, (None, None), (224, 240)),  # nothing is enlarged without need
    (100, (224, None), (224, 224)),
    (500, (128, None), (128, 146)),
    (500, (64, 100), (64, 100))])
def test_photographs_larger_than_views_are_kept_larger(side, given, sizes, tmp_path):
    for i in range(3):
        Image.new("RGB", (side + 9, side)).save(tmp_path / f"{i}.png")
    files = [(entry, 0) for entry in os.scandir(tmp_path)]
    assert folders.default_sizes(files, *given) == sizes


def test_a_folder_is_kept_at_the_stored_size_and_a_smaller_one_than_that_of_views_is_refused(
        tmp_path):
    images = read(make_folder(tmp_path), image_size=8, stored_size=16)
    assert images.train.shape == (6, 3, 16, 16) and images.view_size == 8
    assert "--stored-size 7: must be at least" in message(tmp_path, image_size=8, stored_size=7)


# ------------------------------------------------------------------------------------------------
# Folders that are refused


def message(path, **options):
    """The one plain line with which read_folder() gives up."""
    with pytest.raises(SystemExit) as stop:
        folders.read_folder(path, **options)
    assert "\n" not in stop.value.code
    return stop.value.code


def test_what_is_missing_from_a_folder_is_named(tmp_path):
    assert "train: no such folder" in message(tmp_path)
    (tmp_path / "train").mkdir()
    assert "no class folders" in message(tmp_path)
    (tmp_path / "train" / "cat").mkdir()
    assert "cat: no images" in message(tmp_path)
    (tmp_path / "unlabelled" / "a").mkdir(parents=True)
    assert "unlabelled: no images in it" in message(tmp_path)


def test_links_to_folders_of_images_without_labels_are_followed_once(tmp_path):
    elsewhere = make_folder(tmp_path / "elsewhere", splits=("disk",))
    (tmp_path / "set").mkdir()
    for name, target in ("unlabelled", "disk"), ("unlabeled", "disk"):
        (tmp_path / "set" / name).symlink_to(elsewhere / target)
    assert "both unlabelled/ and unlabeled/" in message(tmp_path / "set")
    (tmp_path / "set" / "unlabeled").unlink()
    (elsewhere / "disk" / "a link").symlink_to(elsewhere / "disk" / "cat")
    names = read(tmp_path / "set").names[0]
    assert names == [f"unlabelled/{of}/{i}.png" for of in ("a link", "dog") for i in range(3)]


@pytest.mark.parametrize("make", [lambda path: path.touch(), lambda path: path.symlink_to("gone")])
def test_what_is_called_unlabelled_and_is_no_folder_is_refused(make, tmp_path):
    make(make_folder(tmp_path) / "unlabelled")
    with pytest.raises(OSError, match="unlabelled"):  # one line, by plain_errors()
        read(tmp_path)


@pytest.mark.parametrize("split", ["train", "test", "val"])
def test_images_without_labels_do_not_make_up_for_a_missing_split(split, tmp_path):
    make_folder(tmp_path, splits=("unlabelled", split))
    assert "no such folder" in message(tmp_path)


def test_a_single_class_is_refused(tmp_path):
    assert "only one class, 'cat'" in message(make_folder(tmp_path, classes=["cat"]))


def test_classes_that_differ_between_the_splits_are_refused(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "test" / "dog").rename(tmp_path / "test" / "cow")
    assert "'cow' is in only one" in message(tmp_path)


def truncated(path):
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:-200])


def bomb(path):
    """A PNG of a few bytes that claims to be 60,000 pixels wide and high."""
    Image.new("L", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (60000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


HOSTILE = {  # what a folder of images may contain under the name of one
    "a truncated image": truncated,
    "an empty file": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello"),
    "a decompression bomb": bomb,
    "a link to itself": lambda path: path.symlink_to(path),
    "a broken link": lambda path: path.symlink_to(path.with_name("nowhere")),
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "bits of unknown range": lambda path: Image.new("F", (8, 8)).save(path, "TIFF"),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_a_file_that_cannot_be_decoded_is_named_or_on_request_left_out(make, tmp_path, capsys):
    make(make_folder(tmp_path) / "train" / "dog" / f"1 \n{ODD}.png")
    said = message(tmp_path)
    assert "1 of 13 files cannot be decoded" in said
    assert repr(f"dog/1 \n{ODD}.png")[1:-1] in said
    for _ in range(2):  # the second time from the cache
        images = read(tmp_path, skip_bad=True)
        assert "left out 1 file that cannot be decoded" in capsys.readouterr().out
        assert images.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert images.train[:, 2, 0, 0].tolist() == [0, 10, 20, 0, 10, 20]
        assert "1 of 13" in message(tmp_path)


def test_a_bad_file_without_label_is_left_out_like_others(tmp_path):
    make_folder(tmp_path, splits=("train", "test", "unlabelled"))
    (tmp_path / "unlabelled" / "cat" / "1.png").write_bytes(b"no image")
    images = read(tmp_path, skip_bad=True)
    assert images.train[:, 2, 0, 0].tolist() == 2 * [0, 10, 20] + [0, 20, 0, 10, 20]
    assert images.train_labels.tolist() == images.test_labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_folder_without_any_good_training_image_is_refused(tmp_path):
    (make_folder(tmp_path, splits=("unlabelled",), n=1) / "unlabelled/cat/0.png").write_bytes(b"")
    (tmp_path / "unlabelled/dog/0.png").write_bytes(b"")
    assert "no training image can be decoded" in message(tmp_path, skip_bad=True)


def test_a_class_without_any_good_image_is_refused(tmp_path):
    make_folder(tmp_path)
    for i in range(3):
        (tmp_path / "test" / "dog" / f"{i}.png").write_bytes(b"")
    assert "no image of one of the classes" in message(tmp_path, skip_bad=True)


def test_a_decoder_that_is_killed_ends_the_run_in_one_line_and_the_next_start_decodes(
        tmp_path, monkeypatch):
    class Pool:
        def __init__(self, *_):
            self.shutdown = self.submit = lambda *_, **__: None

        def map(self, *_, **__):
            raise concurrent.futures.process.BrokenProcessPool

    make_folder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(concurrent.futures, "ProcessPoolExecutor", Pool)
        assert "decoding was killed" in message(tmp_path)
    assert len(read(tmp_path).train) == 6


def test_a_link_to_the_folder_itself_is_an_empty_class_and_is_not_followed_further(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "train" / "all").symlink_to(tmp_path / "train")
    assert "all: no images" in message(tmp_path)
    (tmp_path / "train" / "all").unlink()
    (tmp_path / "train" / "all").symlink_to("all")
    assert len(read(tmp_path).train) == 6


# ------------------------------------------------------------------------------------------------
# Names, splits, sizes and pixels


def test_endings_may_be_in_capitals_and_what_is_hidden_is_no_image_and_no_class(tmp_path, capsys):
    make_folder(tmp_path)
    for file in (tmp_path / "train" / "cat").iterdir():
        file.rename(file.with_suffix(".PNG"))  # as cameras write them
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "train" / "dog" / "._0.png").write_bytes(b"of macOS")
    assert read(tmp_path).train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert capsys.readouterr().out == "decoding 12 images, kept at 8 px\n"  # none was left out


def test_a_bad_file_of_one_split_moves_no_image_into_the_other(tmp_path):
    (make_folder(tmp_path) / "test" / "cat" / "1.png").write_bytes(b"")
    images = read(tmp_path, skip_bad=True)
    assert images.train[:, 0, 0, 0].tolist() == [0] * 6  # red tells the split
    assert images.test[:, 0, 0, 0].tolist() == [100] * 5
    assert images.test_labels.tolist() == [0, 0, 1, 1, 1]


def test_the_size_of_a_folder_s_images_is_the_median_of_a_sample_of_all(tmp_path):
    for side in (8, 32):
        Image.new("RGB", (side, side + 5)).save(tmp_path / f"{side}.png")
    several = lambda side, n: [(SimpleNamespace(path=tmp_path / f"{side}.png"), 0)] * n
    # Thumbnails come first, and again in the middle.
    files = several(8, 60) + several(32, 80) + several(8, 20) + several(32, 140)
    assert folders.native_size(files) == 32


def test_a_reduced_photograph_is_nearly_the_whole_JPEG_averaged(tmp_path):
    noise = numpy.random.default_rng(0).integers(256, size=(512, 512, 3), dtype=numpy.uint8)
    Image.fromarray(noise).save(tmp_path / "x.jpg", quality=95)
    whole = ImageOps.fit(Image.open(tmp_path / "x.jpg"), (64, 64), Image.Resampling.BILINEAR)
    got = folders.decode(tmp_path / "x.jpg", 64).astype(int)
    # 1.5; 4.1 if draft() reads the JPEG at 64 px, 13.5 if pixels are picked instead of averaged.
    assert abs(got - numpy.array(whole)).mean() < 2.5


def test_an_image_is_resized_by_averaging_with_triangles_as_torchvision_does(tmp_path):
    noise = numpy.random.default_rng(0).integers(256, size=(60, 60, 3), dtype=numpy.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    for size in (20, 60, 90):
        expected = Image.fromarray(noise).resize((size, size), Image.Resampling.BILINEAR)
        got = folders.decode(tmp_path / "x.png", size).astype(int)
        assert abs(got - numpy.array(expected)).max() <= 1


def test_of_several_files_that_cannot_be_decoded_the_first_is_named(tmp_path, monkeypatch):
    decode_in_a_thread(monkeypatch)
    make_folder(tmp_path)
    for name in "cat/1.png", "dog/0.png":
        (tmp_path / "train" / name).write_bytes(b"")
    with pytest.raises(SystemExit, match="^2 of 12 files .* the first is .*cat/1.png'"):
        folders.read_folder(tmp_path)


def test_the_bar_of_resumed_decoding_goes_on_where_it_was(tmp_path, monkeypatch):
    decode_in_a_thread(monkeypatch)
    bars = []
    monkeypatch.setattr(folders, "tqdm", lambda results, what, total, initial=0, **_: (
        bars.append((what, total, initial)), results)[1])
    make_folder(tmp_path)
    files = sorted(map(str, tmp_path.glob("*/*/*.png")))
    assert len([*folders.decode_all(files, 8, 5)]) == 7
    assert bars == [("decoding", 12, 5)]
