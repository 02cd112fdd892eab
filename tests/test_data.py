"""The laws of utils/data.py, and its messages.    pytest tests/test_data.py"""

import hashlib
import math
import pickle

import numpy
import pytest
import torch
import torchvision

import lineval
import train
from simsiam import SimSiam
from strategies import Elsewhere, make_folder, numbered_images
from utils import data, plot
from utils.runs import load_checkpoint, write_checkpoint

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


def test_shapes_are_24_px_unless_asked_for_others_and_their_tint_is_0_02_or_0_3(monkeypatch):
    monkeypatch.setattr(data, "shapes", lambda size, tint: (size, tint))
    monkeypatch.setattr(data, "check", lambda *_: None)
    assert data.load("shapes") == (24, 0.02) and data.load("shapes-tinted", "", 16) == (16, 0.3)


SET = data.Data(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 1]),
                torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([1, 0]), ["a", "b"])


@pytest.mark.parametrize("part, wrong, rule", [
    ("train", SET.train.float(), "one size, not (4, 3, 8, 8) of torch.float32"),
    ("train", SET.train.numpy(), "one size, not a ndarray"), ("train", [], "not a list"),
    ("train", SET.train[:0], "not 3 of 0 and 2 of 2"),
    ("train", torch.tensor(1, dtype=torch.uint8), "one size, not () of torch.uint8"),
    ("test", SET.test.float(), "not (2, 3, 8, 8) of torch.float32"),
    ("train", SET.train[:, :1], "not (4, 1, 8, 8)"),
    ("test", SET.test[..., :6], "not (2, 3, 8, 6)"),
    ("test", SET.test[:, :, :6, :6], "not (2, 3, 6, 6)"),
    ("train", SET.train.permute(0, 2, 3, 1), "(N, 3, C, C), all of one size, not (4, 8, 8, 3)"),
    ("train_labels", torch.tensor([0, 1, 2]), "classes from 0, not (3,) of torch.int64"),
    ("train_labels", torch.tensor([-1, 1, 1]), "the 2 classes from 0"),
    ("train_labels", torch.zeros(0, dtype=torch.long), "not 4 images, 2 classes and 0 and 2 lab"),
    ("classes", [], "the 0 classes from 0"),
    ("train_labels", torch.tensor([[0], [1]]), "(N,) that number the 2 classes from 0, not (2, 1)"),
    ("test_labels", torch.tensor([1, 0], dtype=torch.int32), "not (2,) of torch.int32"),
    ("test_labels", [1, 0], "not a list"),
    ("train_labels", torch.zeros(5, dtype=torch.long), "not 5 of 4 and 2 of 2"),
    ("test_labels", torch.tensor([1]), "not 3 of 4 and 1 of 2")])
def test_a_set_that_is_not_what_Data_says_is_refused_in_one_line(part, wrong, rule, monkeypatch):
    monkeypatch.setattr(data, "shapes", lambda *_, **__: SET)
    assert data.load("shapes") is SET
    monkeypatch.setattr(data, "shapes", lambda *_, **__: SET._replace(**{part: wrong}))
    with pytest.raises(SystemExit) as stop:
        data.load("shapes")
    assert rule in stop.value.code and "\n" not in stop.value.code


def test_a_set_without_classes_has_neither_labels_nor_test_images(monkeypatch):
    y = torch.zeros(0, dtype=torch.long)
    bare = data.Data(SET.train, y, SET.test[:0], y, [])
    monkeypatch.setattr(data, "shapes", lambda *_, **__: bare)
    assert data.load("shapes") is bare and len(bare.with_labels(0.5).train) == 0
    untested = SET._replace(test=SET.test[:0], test_labels=y)
    monkeypatch.setattr(data, "shapes", lambda *_, **__: untested)
    with pytest.raises(SystemExit, match="4 images, 2 classes and 3 and 0 labels"):
        data.load("shapes")
    for part, wrong in (("train", SET.train[:0]), ("train_labels", SET.train_labels),
                        ("test", SET.test), ("test_labels", SET.test_labels)):
        monkeypatch.setattr(data, "shapes", lambda *_, **__: bare._replace(**{part: wrong}))
        with pytest.raises(SystemExit, match="--data shapes: "):
            data.load("shapes")


def test_each_image_of_shapes_tinted_has_a_tint_of_its_own():
    plain, tinted = (
        data.load(name).train[:500].double().mean(dim=(2, 3))
        for name in ("shapes", "shapes-tinted")
    )

    def spread(x):  # of the colour, not of the brightness
        return (x - x.mean(dim=1, keepdim=True)).std(dim=0).mean()

    assert spread(tinted) > 5 * spread(plain)


def test_all_shapes_have_the_same_area_so_brightness_cannot_tell_them_apart():
    x = torch.linspace(-2, 2, 801, dtype=torch.float64)
    x, y = x.expand(801, 801), x[:, None].expand(801, 801)
    for name, shape in data.SHAPES.items():
        assert (shape(x, y) < 0).sum() * (4 / 800) ** 2 == pytest.approx(1.35, rel=0.01), name


POINTS = {  # name: points (x, y) inside the shape, points outside
    "disc": (((0, 0), (.6, 0), (-.4, .4)), ((.75, 0), (0, .75))),
    "ring": (((.75, 0), (0, .75), (-.5, -.5)), ((0, 0), (.4, 0))),
    "bar": (((.9, 0), (-.9, 0)), ((0, .5), (0, -.5))),
    "dots": (((.55, .55), (-.55, .55), (.55, -.55), (-.55, -.55)), ((0, 0), (.55, 0))),
    "triangle": (((0, 0), (-.9, 0), (.4, .6), (.4, -.6)), ((.7, 0), (-.6, .6))),
    "corner": (((-.62, .8), (.8, -.62), (-.62, -.62)), ((.4, .4), (0, .2))),
    "cross": (((.85, 0), (0, .85), (-.85, 0), (0, -.85)), ((.5, .5), (-.5, .5))),
    "checker": (((.41, .41), (-.41, -.41)), ((.41, -.41), (-.41, .41))),
    "crescent": (((-.7, 0), (-.3, .75), (-.3, -.75)), ((.45, 0), (.75, 0))),
    "half disc": (((0, 0), (.4, 0), (-.3, .8), (-.3, -.8)), ((-.6, 0), (-.5, .5)))}


def test_a_shape_has_the_form_of_its_name_and_of_no_other():
    at = lambda shape, points: shape(*torch.tensor(points, dtype=torch.float64).T) < 0
    assert POINTS.keys() == data.SHAPES.keys()
    for name, (inside, outside) in POINTS.items():
        fits = [other for other, shape in data.SHAPES.items()
                if at(shape, inside).all() and not at(shape, outside).any()]
        assert fits == [name]


def test_a_label_is_the_name_of_the_shape_in_the_image():
    images, labels = data.draw_shapes(500, 24, 0.02, seed=0)
    x = (images.double().mean(dim=1) - 128).clamp(min=0)  # (500, 24, 24), the light parts
    pixel = torch.arange(24.0, dtype=torch.float64)
    weight = x.flatten(1).sum(dim=1)
    centre = [torch.einsum("nhw,{}->n".format(axis), x, pixel) / weight for axis in "hw"]
    middle = torch.stack([image[round(h), round(w)] for image, h, w in
                          zip(x, *(c.tolist() for c in centre))])
    spread = torch.einsum("nhw,h->n", x, pixel**2) + torch.einsum("nhw,w->n", x, pixel**2)
    spread = spread / weight - centre[0] ** 2 - centre[1] ** 2
    of = lambda v, name: v[labels == list(data.SHAPES).index(name)].mean()
    # The disc is full in the middle and the most compact, the ring is empty there, a bar is long.
    assert of(middle, "disc") > 2 * of(middle, "ring")
    assert of(middle, "cross") > 2 * of(middle, "dots")
    assert of(spread, "bar") > of(spread, "triangle") > of(spread, "disc")


# ------------------------------------------------------------------------------------------------
# Data and load()


def test_mean_and_std_are_those_of_the_pixels_of_each_channel(tmp_path):
    images = data.load(str(make_folder(tmp_path)))
    mean, std = images.mean_std()
    assert mean == pytest.approx([0, 25 / 255, 10 / 255])
    assert std == pytest.approx([1 / 255, 25 / 255, (200 / 3) ** 0.5 / 255])  # never 0


def test_mean_and_std_are_of_all_of_a_large_set_not_of_its_first_images():
    sorted_by_class = torch.tensor([0] * 6000 + [255] * 6000, dtype=torch.uint8)
    x = sorted_by_class.view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
    mean, std = data.Data(x, None, None, None, None).mean_std()
    assert mean == pytest.approx([0.5] * 3) and std == pytest.approx([0.5] * 3)


def test_the_digest_names_the_part_that_differs_and_ignores_strides_and_devices():
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
    elsewhere = [t.as_subclass(Elsewhere) for t in images[:4]]
    assert data.Data(*elsewhere, images.classes).digest() == digest


@pytest.mark.parametrize("sort", [True, False], ids=["as in a folder", "as in shapes"])
def test_held_out_images_are_a_tenth_of_each_class_and_no_longer_in_the_training_set(sort):
    images, labels = data.draw_shapes(200, 8, 0.02, seed=0)
    order = labels.argsort(stable=True) if sort else torch.arange(200)  # classes take turns
    full = data.Data(images[order], labels[order], images[:3], labels[:3], list("abcdefghij"))
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


def test_shapes_of_64_px_are_made(monkeypatch):
    monkeypatch.setattr(data, "shapes", lambda size, tint: size)
    monkeypatch.setattr(data, "check", lambda *_: None)
    assert data.load("shapes", image_size=64) == 64


def test_without_a_network_cifar10_says_what_to_do(tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", no_network)
    assert "cifar-10-python.tar.gz" in message("cifar10", root=str(tmp_path))


# ------------------------------------------------------------------------------------------------
# CIFAR and STL-10, from tiny archives of the same form


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def pixels(seed, *shape):
    return numpy.random.default_rng(seed).integers(256, size=shape, dtype=numpy.uint8)


@pytest.mark.parametrize("name, source, key, classes", [
    ("cifar10", torchvision.datasets.CIFAR10, "labels", 10),
    ("cifar100", torchvision.datasets.CIFAR100, "fine_labels", 100)])
def test_cifar_has_its_splits_its_fine_labels_and_names_and_rows_are_not_columns(
        name, source, key, classes, tmp_path, monkeypatch):
    folder = tmp_path / source.base_folder
    folder.mkdir()
    names = [f"class {i}" for i in range(classes)]
    for i, split in enumerate(("train", "test")):
        (folder / split).write_bytes(pickle.dumps({
            "data": pixels(i, 4, 3 * 32 * 32), key: [5, classes - 1, 0, i],
            "coarse_labels": [1, 1, 1, 1]}))
        monkeypatch.setattr(source, f"{split}_list", [[split, md5(folder / split)]])
    meta = folder / source.meta["filename"]
    meta.write_bytes(pickle.dumps({source.meta["key"]: names}))
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": md5(meta)})
    images = data.load(name, str(tmp_path))
    for i, (x, labels) in enumerate(((images.train, images.train_labels), images[2:4])):
        assert (x.numpy().reshape(4, -1) == pixels(i, 4, 3 * 32 * 32)).all()
        assert labels.tolist() == [5, classes - 1, 0, i] and labels.dtype == torch.int64
    assert images.classes == names


def test_stl10_trains_on_images_without_labels_too_and_is_evaluated_on_those_with(
        tmp_path, monkeypatch):
    folder, source = tmp_path / "stl10_binary", torchvision.datasets.STL10
    folder.mkdir()
    shapes = {"train": (4, 3, 96, 96), "unlabeled": (6, 3, 96, 96), "test": (2, 3, 96, 96)}
    stored = {split: pixels(i, *shape) for i, (split, shape) in enumerate(shapes.items())}
    for split, x in stored.items():  # column by column, labels from 1
        (folder / f"{split}_X.bin").write_bytes(x.tobytes())
        (folder / f"{split}_y.bin").write_bytes(bytes([10, 1, 2, 1][: len(x)]))
    (folder / "class_names.txt").write_text("\n".join("abcdefghij"))
    for splits in (["train_X", "train_y", "unlabeled_X"], ["test_X", "test_y"]):
        files = [[f"{name}.bin", md5(folder / f"{name}.bin")] for name in splits]
        monkeypatch.setattr(source, f"{splits[0][:-2]}_list", files)
    images = data.load("stl10", str(tmp_path))
    upright = {split: x.transpose(0, 1, 3, 2) for split, x in stored.items()}
    assert (images.labelled.numpy() == upright["train"]).all()
    assert (images.train[4:].numpy() == upright["unlabeled"]).all()
    assert (images.test.numpy() == upright["test"]).all()
    assert images.train_labels.tolist() == [9, 0, 1, 0] and images.test_labels.tolist() == [9, 0]
    assert images.classes == list("abcdefghij")

    monkeypatch.setattr(plot, "plot_curves", lambda *_: None)
    last = train.main(["--data", "stl10", "--root", str(tmp_path), "--arch", "resnet8", "--dim",
                       "8", "--batch-size", "5", "--epochs", "1", "--lr", "0", "--device", "cpu",
                       "--out", str(tmp_path / "run")])
    assert last["epoch"] == 1
    assert load_checkpoint(tmp_path / "run")["step"] == 2  # of five images each, all ten used
    lineval.main([str(tmp_path / "run"), "--epochs", "1", "--device", "cpu"])


# ------------------------------------------------------------------------------------------------
# Photographs larger than views


def test_training_and_evaluation_take_views_of_one_size_from_larger_photographs(
        tmp_path, monkeypatch):
    seen = set()
    forward = SimSiam.forward
    monkeypatch.setattr(SimSiam, "forward", lambda self, *views: (
        seen.update(x.shape for x in views), forward(self, *views))[1])
    monkeypatch.setattr(plot, "plot_curves", lambda *_: None)
    make_folder(tmp_path, size=(50, 40))
    train.main(["--data", str(tmp_path), "--image-size", "16", "--stored-size", "32", "--arch",
                "resnet8", "--dim", "8", "--batch-size", "6", "--epochs", "1", "--device", "cpu",
                "--out", str(tmp_path / "run")])
    assert seen == {(6, 3, 16, 16)}
    config = load_checkpoint(tmp_path / "run")["config"]
    assert (config["image_size"], config["stored_size"]) == (16, 32)
    sizes, normalize = set(), lineval.normalize
    monkeypatch.setattr(
        lineval, "normalize", lambda x, *of: sizes.add(x.shape[2]) or normalize(x, *of))
    lineval.main([str(tmp_path / "run"), "--epochs", "1", "--device", "cpu"])
    assert sizes == {16} and (tmp_path / "run" / "lineval.json").exists()


def test_a_run_from_before_photographs_were_kept_larger_is_resumed_and_evaluated(tmp_path):
    make_folder(tmp_path, size=(90, 90))
    out = tmp_path / "run"
    train.main(["--data", str(tmp_path), "--image-size", "72", "--stored-size", "72", "--arch",
                "resnet8", "--dim", "8", "--batch-size", "6", "--epochs", "2", "--max-steps", "1",
                "--device", "cpu", "--out", str(out)])
    saved = load_checkpoint(out)
    del saved["config"]["stored_size"]
    write_checkpoint(out / "checkpoint.pt", saved)
    lineval.main([str(out), "--epochs", "1", "--device", "cpu"])
    assert (out / "lineval.json").exists()  # the name says that the data are the run's
    last = train.main(["--resume", "--out", str(out), "--max-steps", "2"])
    assert last["epoch"] == 2 and load_checkpoint(out)["config"]["stored_size"] == 72


def test_of_images_without_labels_none_is_held_out_or_taken_for_a_share_of_the_labels():
    """As of STL-10."""
    images = numbered_images(60, torch.arange(40) % 2)
    few, rest = images.with_labels(0.5), images.held_out()
    of = lambda x: x[:, 0, 0, 0].tolist()
    assert len(few.train) == len(few.train_labels) == 20 and max(of(few.train)) < 40
    assert sorted(of(rest.train) + of(rest.test)) == [*range(40)]
    for found in few, rest:
        assert torch.equal(found.train[:, 0, 0, 0] % 2, found.train_labels)


def test_a_GPU_has_room_for_half_of_its_free_memory_and_of_what_PyTorch_keeps_for_reuse(
        monkeypatch):
    for name, found in (("mem_get_info", (100, 999)), ("memory_reserved", 70),
                        ("memory_allocated", 30)):
        monkeypatch.setattr(torch.cuda, name, lambda device, found=found: found)
    assert data.room("cuda:0") == (100 + 70 - 30) / 2
    assert data.room("cpu") == data.room("meta") == math.inf
