"""experiments/crops.py: what it trains on is what its docstring says.

    pytest tests/test_crops.py
"""

import numpy
import pytest
import torch
from PIL import Image
from strategies import make_folder

import augment
import lineval
from experiments import crops
from utils import data


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """One image of noise, both squares made of it, and their sides."""
    home = tmp_path_factory.mktemp("crops")
    image = numpy.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=numpy.uint8)
    for name in ("train/0", "train/1", "test/0", "test/1"):
        (home / "source" / name).mkdir(parents=True)
        Image.fromarray(image).save(home / "source" / name / "a.png")
    sizes = crops.write_squares(home / "source", home)
    made = {name: numpy.asarray(Image.open(home / name / "train/0/a.png.png"))
            for name in ("square", "whole")}
    return image, made, sizes


def test_the_square_is_the_centre_of_a_photograph_of_three_quarters_of_the_rows(squares):
    image, made, sizes = squares
    assert (made["square"] == image[4:28, 4:28]).all() and sizes == (24, 32)


def test_the_whole_is_the_same_photograph_stretched_to_a_square(squares):
    image, made, _ = squares
    photograph = Image.fromarray(image[4:28])
    assert (made["whole"] == numpy.asarray(photograph.resize((32, 32), Image.BICUBIC))).all()


@pytest.mark.parametrize("name, row", [("square", 1), ("whole", 24 / 32)])
def test_a_box_has_the_paper_s_shape_in_the_photograph(name, row, monkeypatch):
    """row: the height of a row in the photograph; the stretched square has 32 for 24."""
    seen = []
    monkeypatch.setattr(crops.train, "train", lambda args: seen.append(
        augment.random_boxes(20000, 480, (0.2, 0.5))[1].double()))
    monkeypatch.setattr(crops, "evaluated", lambda *_: None)
    crops.accuracy(name, crops.pathlib.Path("nowhere"), (24, 32))
    shape = seen[0][:, 1] / (seen[0][:, 0] * row)
    assert 0.745 < shape.min() < 0.76 and 1.32 < shape.max() < 1.345
    assert abs(torch.log(shape).mean()) < 0.01  # wide boxes are as likely as tall ones


@pytest.mark.parametrize("stored", [24, 32])
def test_every_network_is_evaluated_on_all_of_the_same_squares(stored, tmp_path, monkeypatch):
    squares = make_folder(tmp_path / "squares", n=1)
    for path in squares.glob("*/*/*.png"):
        Image.effect_noise((24, 24), 99).convert("RGB").save(path)
    config = dict(image_size=24, stored_size=stored, mean=[0.5] * 3, std=[0.5] * 3)
    monkeypatch.setattr(crops.lineval, "load_backbone",
                        lambda out, device: (torch.nn.Flatten(), config))
    monkeypatch.setattr(crops.lineval, "evaluate", lambda args, images, x, x_test: x_test)
    x = crops.evaluated("a run", squares)
    real = data.load(str(squares)).test
    assert torch.equal(x, ((real / 255 - 0.5) / 0.5).flatten(1)) and len(x.unique()) > 9


def test_images_of_equal_names_but_for_their_endings_are_all_kept(tmp_path):
    source = make_folder(tmp_path / "source", size=(16, 16))
    Image.new("RGB", (16, 16)).save(source / "train/cat/0.jpg")  # beside 0.png
    crops.write_squares(source, tmp_path)
    for kind in "square", "whole":
        assert {path.name for path in (tmp_path / kind / "train/cat").iterdir()} >= {
            "0.png.png", "0.jpg.png"}


@pytest.mark.parametrize("size", [(24, 24), (12, 12), (16, 8)])
def test_squares_of_several_sizes_or_with_no_whole_eighth_are_refused(size, tmp_path):
    source = make_folder(tmp_path / "source", size=(12, 12) if size == (12, 12) else (16, 16))
    Image.new("RGB", size).save(source / "test/dog/9.png")
    with pytest.raises(SystemExit, match="{} x {} px; crops.py takes only".format(*size)):
        crops.write_squares(source, tmp_path)


def test_photographs_that_are_missing_or_not_square_are_refused_in_one_line(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "wide", size=(10, 8))
    bare = make_folder(tmp_path / "bare", splits=("unlabelled",))
    for path, why in ((tmp_path / "none", "no such folder"), (folder, "10 x 8 px"),
                      (bare, "bare: has no labels")):
        monkeypatch.setattr("sys.argv", ["crops.py", str(path)])
        with pytest.raises(SystemExit, match=why) as stop:
            crops.main()
        assert "\n" not in stop.value.code


def test_the_evaluation_of_crops_does_not_depend_on_what_was_drawn_before(monkeypatch):
    monkeypatch.setattr(lineval, "load_backbone", lambda *_: (None, {"stored_size": 8}))
    monkeypatch.setattr(crops.weights, "load_images", lambda *_: (None, None))
    monkeypatch.setattr(lineval, "features", lambda *_: (None, None))
    monkeypatch.setattr(lineval, "evaluate", lambda *_: torch.rand(1).item())
    assert crops.evaluated("a run", "squares") == crops.evaluated("a run", "squares")
