"""The laws of utils/data.py, and its messages.    pytest tests/test_data.py"""

import hashlib

import pytest
import torch

from strategies import make_folder
from utils import data

# ------------------------------------------------------------------------------------------------
# Shapes


def test_the_shapes_are_the_same_on_every_machine():
    images, labels = data.draw_shapes(200, 24, 0.02, seed=0)
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16] == "3492dae3261191ab"
    assert labels.bincount().tolist() == [20] * 10


def test_training_and_test_shapes_are_different_images():
    images = data.load("shapes")
    assert images.train.shape == (4096, 3, 24, 24) and images.test.shape == (1000, 3, 24, 24)
    assert images.train.dtype == torch.uint8
    test = {image.numpy().tobytes() for image in images.test}
    assert len(test) == 1000 and not test & {image.numpy().tobytes() for image in images.train}


def test_each_image_of_shapes_tinted_has_a_tint_of_its_own():
    plain, tinted = (
        data.load(name).train[:500].double().mean(dim=(2, 3))
        for name in ("shapes", "shapes-tinted")
    )

    def spread(x):  # of the colour, not of the brightness
        return (x - x.mean(dim=1, keepdim=True)).std()

    assert spread(tinted) > 5 * spread(plain)


def test_all_shapes_have_the_same_area_so_brightness_cannot_tell_them_apart():
    x = torch.linspace(-2, 2, 801, dtype=torch.float64)
    x, y = x.expand(801, 801), x[:, None].expand(801, 801)
    for name, shape in data.SHAPES.items():
        assert (shape(x, y) < 0).sum() * (4 / 800) ** 2 == pytest.approx(1.35, rel=0.01), name


# ------------------------------------------------------------------------------------------------
# Data and load()


def test_mean_and_std_are_those_of_the_pixels_of_each_channel(tmp_path):
    images = data.load(str(make_folder(tmp_path)))
    mean, std = images.mean_std()
    assert mean == pytest.approx([0, 25 / 255, 10 / 255])
    assert std == pytest.approx([1 / 255, 25 / 255, (200 / 3) ** 0.5 / 255])  # never 0


def test_the_digest_names_the_part_that_differs_and_does_not_depend_on_strides():
    images = data.Data(torch.arange(48, dtype=torch.uint8).view(4, 3, 2, 2), torch.arange(4),
                       torch.ones(2, 3, 2, 2, dtype=torch.uint8), torch.arange(2), list("abcd"))
    digest, parts = images.digest(), data.Data._fields[:4]
    for part, name in zip(parts, digest, strict=True):
        changed = getattr(images, part).clone()
        changed[-1] += 1
        other = images._replace(**{part: changed}).digest()
        assert [key for key in digest if digest[key] != other[key]] == [name]
    strided = images.train.to(memory_format=torch.channels_last)
    assert images._replace(train=strided).digest() == digest


def test_held_out_images_are_a_tenth_of_each_class_and_no_longer_in_the_training_set():
    images, labels = data.draw_shapes(200, 8, 0.02, seed=0)
    by_class = labels.argsort(stable=True)  # as in a folder
    full = data.Data(images[by_class], labels[by_class], images[:3], labels[:3], list("abcdefghij"))
    rest = full.held_out()
    assert rest.test_labels.bincount().tolist() == [2] * 10
    assert rest.train_labels.bincount().tolist() == [18] * 10
    numbers = lambda x, y: sorted((image.numpy().tobytes(), int(c)) for image, c in zip(x, y))
    assert numbers(full.train, full.train_labels) == sorted(
        numbers(rest.train, rest.train_labels) + numbers(rest.test, rest.test_labels))
    assert rest.classes == full.classes


def message(name, **options):
    """The one plain line with which load() gives up."""
    with pytest.raises(SystemExit) as stop:
        data.load(name, **options)
    assert "\n" not in stop.value.code
    return stop.value.code


def test_an_unknown_name_is_refused():
    assert "neither" in message("imagenette")


def test_shapes_larger_than_64_px_are_refused():
    assert "at most 64 px" in message("shapes", image_size=65)


def test_without_a_network_cifar10_says_what_to_do(tmp_path, monkeypatch):
    import torchvision

    def no_network(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", no_network)
    assert "cifar-10-python.tar.gz" in message("cifar10", root=str(tmp_path))
