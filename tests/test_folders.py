"""The laws of utils/folders.py, and its messages.    pytest tests/test_folders.py"""

import os
import zlib

import numpy
import pytest
import torch
from PIL import Image

from strategies import make_folder
from utils import folders
from utils.data import Data


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
    Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(file)
    assert folders.decode(file, 8).tolist() == torch.full((8, 8, 3), 255).tolist()


@pytest.mark.parametrize("dtype", ["uint16", ">u2"])
def test_sixteen_bits_are_scaled_to_eight_and_not_clipped(tmp_path, dtype):
    gray = numpy.array([[0, 256 * 100 + 7], [256 * 200, 65535]], dtype=dtype)
    Image.fromarray(gray).save(tmp_path / "x.tif")
    assert folders.decode(tmp_path / "x.tif", 2)[:, :, 1].tolist() == [[0, 100], [200, 255]]


# ------------------------------------------------------------------------------------------------
# The cache


def test_the_second_start_reads_the_cache(tmp_path, monkeypatch):
    first = read(make_folder(tmp_path))
    monkeypatch.setattr(folders, "decode_all", lambda *_: pytest.fail("decoded again"))
    assert torch.equal(read(tmp_path).train, first.train)


def test_a_folder_that_has_changed_is_decoded_again(tmp_path):
    path = make_folder(tmp_path)
    assert len(read(path).train) == 6
    Image.new("RGB", (10, 8), (1, 2, 3)).save(tmp_path / "train" / "cat" / "9.png")
    assert len(read(path).train) == 7
    os.remove(tmp_path / "train" / "cat" / "0.png")
    assert len(read(path).train) == 6
    Image.new("RGB", (10, 8), (9, 9, 9)).save(tmp_path / "train" / "cat" / "1.png")
    assert read(path).train[0, :, 0, 0].tolist() == [9, 9, 9]


def test_a_damaged_cache_is_replaced(tmp_path):
    path = make_folder(tmp_path)
    first = read(path)
    (cache,) = tmp_path.glob(".simsiam*")
    cache.write_bytes(cache.read_bytes()[:100])
    assert torch.equal(read(path).train, first.train)


def test_a_cache_with_code_in_it_is_replaced_and_the_code_does_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "boom"),)

    first = read(make_folder(tmp_path))
    (cache,) = tmp_path.glob(".simsiam*")
    torch.save(Bomb(), cache)
    assert torch.equal(read(tmp_path).train, first.train)
    assert not (tmp_path / "boom").exists()
    torch.save(Bomb(), cache)
    torch.load(cache, weights_only=False)
    assert (tmp_path / "boom").exists()  # the bomb was live


def test_a_folder_in_which_no_cache_can_be_written_is_read_all_the_same(tmp_path, capsys):
    (make_folder(tmp_path) / ".simsiam-8px.pt").mkdir()  # where the cache would be
    assert len(read(tmp_path).train) == 6
    assert "no cache" in capsys.readouterr().out
    assert len(list(tmp_path.glob(".simsiam*"))) == 1  # and no temporary file is left


# ------------------------------------------------------------------------------------------------
# Folders that are refused


def message(path, **options):
    """The one plain line with which read_folder() gives up."""
    with pytest.raises(SystemExit) as stop:
        folders.read_folder(path, **options)
    assert "\n" not in stop.value.code
    return stop.value.code


def test_every_fault_of_a_folder_is_named(tmp_path):
    assert "train: no such folder" in message(tmp_path)
    (tmp_path / "train").mkdir()
    assert "no class folders" in message(tmp_path)
    (tmp_path / "train" / "cat").mkdir()
    assert "cat: no images" in message(tmp_path)


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
def test_a_file_that_cannot_be_decoded_is_named_or_on_request_left_out(make, tmp_path):
    make(make_folder(tmp_path) / "train" / "dog" / "1 \n\udcff.png")
    said = message(tmp_path)
    assert "1 of 13 files cannot be decoded" in said and r"dog/1 \n\udcff.png" in said
    for _ in range(2):  # the second time from the cache
        images = read(tmp_path, skip_bad=True)
        assert images.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert images.train[:, 2, 0, 0].tolist() == [0, 10, 20, 0, 10, 20]
        assert "1 of 13" in message(tmp_path)


def test_a_class_without_any_good_image_is_refused(tmp_path):
    make_folder(tmp_path)
    for i in range(3):
        (tmp_path / "test" / "dog" / f"{i}.png").write_bytes(b"")
    assert "no image of one of the classes" in message(tmp_path, skip_bad=True)


def test_a_link_to_the_folder_itself_is_an_empty_class_and_is_not_followed_further(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "train" / "all").symlink_to(tmp_path / "train")
    assert "all: no images" in message(tmp_path)
    (tmp_path / "train" / "all").unlink()
    (tmp_path / "train" / "all").symlink_to("all")
    assert len(read(tmp_path).train) == 6
