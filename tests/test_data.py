"""The laws of data.py, and its messages.    pytest tests/test_data.py"""

import hashlib
import os
import zlib

import numpy
import pytest
import torch
from PIL import Image

import data


def make_folder(path, classes=("cat", "dog"), splits=("train", "test"), n=3, size=(10, 8)):
    """A small set of PNG images, each of one colour of its own."""
    for s, split in enumerate(splits):
        for c, name in enumerate(classes):
            (path / split / name).mkdir(parents=True)
            for i in range(n):
                Image.new("RGB", size, (100 * s, 50 * c, 10 * i)).save(
                    path / split / name / f"{i}.png"
                )
    return path


# ------------------------------------------------------------------------------------------------
# Shapes


def test_the_shapes_are_the_same_on_every_machine():
    images, labels = data.draw_shapes(200, 24, 0.02, seed=0)
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16] == "d18ac4cc86a4a9cf"
    assert labels.bincount().tolist() == [20] * 10


def test_training_and_test_shapes_are_different_images():
    images = data.load("shapes")
    assert images.train.shape == (4096, 3, 24, 24) and images.test.shape == (1000, 3, 24, 24)
    assert images.train.dtype == torch.uint8
    test = {image.numpy().tobytes() for image in images.test}
    assert len(test) == 1000 and not test & {image.numpy().tobytes() for image in images.train}


def test_the_tint_of_shapes_tinted_is_the_images_own():
    plain, tinted = (
        data.load(name).train[:500].double().mean(dim=(2, 3))
        for name in ("shapes", "shapes-tinted")
    )
    spread = lambda x: (
        x - x.mean(dim=1, keepdim=True)
    ).std()  # of the colour, not of the brightness
    assert spread(tinted) > 5 * spread(plain)


def test_all_shapes_have_the_same_area_and_so_brightness_does_not_tell_them_apart():
    x = torch.linspace(-2, 2, 801, dtype=torch.float64)
    x, y = x.expand(801, 801), x[:, None].expand(801, 801)
    for name, shape in data.SHAPES.items():
        assert (shape(x, y) < 0).sum() * (4 / 800) ** 2 == pytest.approx(1.35, rel=0.01), name


# ------------------------------------------------------------------------------------------------
# Folders


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    images = data.load(str(make_folder(tmp_path)))
    assert images.classes == ["cat", "dog"]
    assert images.train.shape == (6, 3, 8, 8)
    assert images.train_labels.tolist() == images.test_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.train[:, :, 0, 0].tolist() == [
        [0, 50 * c, 10 * i] for c in range(2) for i in range(3)
    ]
    assert images.test[0, :, 0, 0].tolist() == [100, 0, 0]


def test_val_serves_where_there_is_no_test(tmp_path):
    assert len(data.load(str(make_folder(tmp_path, splits=("train", "val")))).test) == 6


def test_the_second_start_reads_the_cache_and_a_changed_folder_is_read_anew(tmp_path, monkeypatch):
    path = str(make_folder(tmp_path))
    first = data.load(path)
    with monkeypatch.context() as m:
        m.setattr(data, "decode_all", lambda *_: pytest.fail("decoded again"))
        assert torch.equal(data.load(path).train, first.train)
    Image.new("RGB", (10, 8), (1, 2, 3)).save(tmp_path / "train" / "cat" / "9.png")
    assert len(data.load(path).train) == 7
    os.remove(tmp_path / "train" / "cat" / "0.png")
    assert len(data.load(path).train) == 6
    Image.new("RGB", (10, 8), (9, 9, 9)).save(tmp_path / "train" / "cat" / "1.png")
    assert data.load(path).train[0, :, 0, 0].tolist() == [9, 9, 9]


def test_an_image_keeps_its_orientation(tmp_path):
    make_folder(tmp_path)
    image = Image.new("RGB", (8, 8))
    image.paste((255, 0, 0), (0, 0, 8, 2))  # the two upper rows
    image.save(tmp_path / "train" / "cat" / "0.png")
    red = data.load(str(tmp_path)).train[0, 0]
    assert (red[:2] == 255).all() and (red[2:] == 0).all()


def test_a_spoilt_cache_is_made_anew(tmp_path):
    path = str(make_folder(tmp_path))
    first = data.load(path)
    (cache,) = tmp_path.glob(".simsiam*")
    cache.write_bytes(cache.read_bytes()[:100])
    assert torch.equal(data.load(path).train, first.train)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_images_of_other_modes_become_RGB(tmp_path, mode):
    file = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode).save(file)
    assert data.decode(file, 8).tolist() == torch.full((8, 8, 3), 255).tolist()


def test_an_image_is_scaled_by_its_shorter_side_and_cut_in_the_middle(tmp_path):
    image = Image.new("RGB", (40, 20))
    image.paste((255, 0, 0), (10, 0, 30, 20))
    image.save(tmp_path / "x.png")
    got = data.decode(tmp_path / "x.png", 10)
    assert (got[:, 1:-1, 0] == 255).all() and (got[:, :, 1:] == 0).all()


def test_mean_and_std_are_those_of_the_pixels(tmp_path):
    images = data.load(str(make_folder(tmp_path)))
    mean, std = images.mean_std()
    assert mean == pytest.approx([0, 25 / 255, 10 / 255])
    assert std == pytest.approx([1 / 255, 25 / 255, (200 / 3) ** 0.5 / 255])  # never 0


# ------------------------------------------------------------------------------------------------
# What a user does wrong


def message(name, **options):
    """The plain line with which load() gives up."""
    with pytest.raises(SystemExit) as stop:
        data.load(str(name), **options)
    assert "\n" not in stop.value.code
    return stop.value.code


def test_every_fault_of_a_folder_is_named(tmp_path):
    assert "neither" in message("imagenette")
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


HOSTILE = {  # what may lie in a folder of images under the name of one
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
def test_what_cannot_be_decoded_is_named_or_on_request_left_out(make, tmp_path):
    make(make_folder(tmp_path) / "train" / "dog" / "1 \n\udcff.png")
    said = message(tmp_path)
    assert "1 of 13 files cannot be decoded" in said and r"dog/1 \n\udcff.png" in said
    for _ in range(2):  # the second time from the cache
        images = data.load(str(tmp_path), skip_bad=True)
        assert images.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert images.train[:, 2, 0, 0].tolist() == [0, 10, 20, 0, 10, 20]
        assert "1 of 13" in message(tmp_path)


def test_a_class_of_bad_images_only_is_refused(tmp_path):
    make_folder(tmp_path)
    for i in range(3):
        (tmp_path / "test" / "dog" / f"{i}.png").write_bytes(b"")
    assert "no image of one of the classes" in message(tmp_path, skip_bad=True)


def test_a_folder_that_links_to_itself_is_one_class_more_and_not_entered_again(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "train" / "all").symlink_to(tmp_path / "train")
    assert "all: no images" in message(tmp_path)
    (tmp_path / "train" / "all").unlink()
    (tmp_path / "train" / "all").symlink_to("all")
    assert len(data.load(str(tmp_path)).train) == 6


@pytest.mark.parametrize("dtype", ["uint16", ">u2"])
def test_sixteen_bits_are_scaled_to_eight_and_not_clipped(tmp_path, dtype):
    gray = numpy.array([[0, 256 * 100 + 7], [256 * 200, 65535]], dtype=dtype)
    Image.fromarray(gray).save(tmp_path / "x.tif")
    assert data.decode(tmp_path / "x.tif", 2)[:, :, 1].tolist() == [[0, 100], [200, 255]]


def test_without_a_network_cifar10_says_what_to_do(tmp_path, monkeypatch):
    import torchvision

    def no_network(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", no_network)
    assert "cifar-10-python.tar.gz" in message("cifar10", root=str(tmp_path))
