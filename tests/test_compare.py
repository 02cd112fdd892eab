"""The laws of experiments/compare.py.    pytest tests/test_compare.py"""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from strategies import TINY, Elsewhere, normal, numbered_images, seeds

import lineval
import train
from experiments import compare
from options import MAY_CHANGE
from simsiam import COLLAPSED_RANK, COLLAPSED_STD
from utils import plot

RECORD = dict(epoch=4, loss=-0.9, std=0.95, rank=20.0, knn=80.0)
CONFIG = dict(dim=8, classes=["a", "b"], lr=0.5, stopgrad=True, out="x", seed=0, data="shapes")


@pytest.fixture
def write_run(tmp_path, monkeypatch):
    """Writes a run folder with these changes of CONFIG and of the last RECORD; returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(name, config={}, record={}, top1=None):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({**CONFIG, **config}))
        lines = [dict(RECORD, epoch=0), dict(RECORD, epoch=2), {**RECORD, **record}]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
        if top1 is not None:
            (tmp_path / name / "lineval.json").write_text(json.dumps({"top1": top1}))
        return name

    return write


def table(*names):
    return compare.table({name: compare.read_run(name) for name in names})


def test_each_run_has_a_line_with_its_last_measures_and_one_with_the_options_that_differ(write_run):
    a = write_run("a", dict(out="a"), top1=91.25)
    b = write_run("b", dict(out="b", stopgrad=False, lr=1.0), dict(std=0.02, rank=1.5, knn=None))
    head, *lines = table(a, b)
    assert head.split() == ["run", "epoch", "loss", "std", "rank", "kNN", "linear", "collapsed"]
    assert [line.split() for line in lines] == [
        "a 4 -0.900 0.950 20.0 80.0 91.2 no".split(), "lr 0.5, stopgrad True".split(),
        "b 4 -0.900 0.020 1.5 - - yes".split(), "lr 1.0, stopgrad False".split()]


def test_runs_that_differ_in_nothing_but_their_place_have_no_options_listed(write_run):
    assert len(table(write_run("a", dict(out="a")), write_run("b", dict(out="b")))) == 3


@pytest.mark.parametrize("name", [
    *sorted({*MAY_CHANGE} - {"data", "max_steps"}), "classes", "data_digest", "mean", "std",
    "n_train", "torch"])
def test_what_nobody_chose_and_what_changes_no_number_is_not_listed(name, write_run):
    assert len(table(write_run("a", {name: "one"}), write_run("b", {name: "another"}))) == 3


def test_an_accuracy_from_a_share_of_the_labels_is_not_shown_beside_the_others(write_run, tmp_path):
    a, b = write_run("a", top1=50.0), write_run("b")
    (tmp_path / b / "lineval.json").write_text(json.dumps({"top1": 40.0, "labels": 0.1}))
    assert [line.split()[-2] for line in table(a, b)[1:]] == ["50.0", "-"]


def test_an_option_that_one_run_does_not_have_differs_and_so_does_the_data(write_run):
    a, b = write_run("a", dict(queue=64)), write_run("b", dict(data="cifar10"))
    assert table(a, b)[2::2] == ["  data shapes, queue 64", "  data cifar10, queue None"]


def test_no_line_of_the_table_exceeds_80_columns_and_long_names_keep_their_end(write_run):
    names = [write_run(f"{'long-' * 20}{i}", {f"option_{k}": i * k for k in range(20)},
                       dict(epoch=1000, loss=-10.5, rank=1000.5, knn=100.0), top1=100.0)
             for i in range(2)]
    lines = table(*names)
    assert max(map(len, lines)) <= 80
    assert "…" in lines[1] and lines[1].split()[0].endswith("long-0")
    options = " ".join("".join(lines[2 : len(lines) // 2 + 1]).split())  # of the first run
    assert all(f"option_{k} 0" in options for k in range(1, 20))


@pytest.mark.parametrize("name, content", [
    ("config.json", "{"), ("config.json", "{}"), ("config.json", None), ("metrics.jsonl", ""),
    ("metrics.jsonl", '{"epoch": 0}\n'), ("metrics.jsonl", None), ("lineval.json", "[]"),
    ("config.json", json.dumps({**CONFIG, "classes": 7})), ("config.json", "[" * 100_000),
    *[("metrics.jsonl", json.dumps({**RECORD, key: value})) for key, value in (
        ("loss", "x"), ("std", None), ("rank", 10**400), ("knn", [1]),
        ("pixels_knn", "x"))],
    ("lineval.json", '{"top1": "x"}')])
def test_what_is_no_run_is_refused_in_one_line(write_run, name, content, tmp_path):
    path = tmp_path / write_run("a") / name
    path.unlink(missing_ok=True) if content is None else path.write_text(content)
    with pytest.raises(SystemExit, match="a: not a run of train.py") as stop:
        compare.main(["a"])
    assert "\n" not in stop.value.code


def test_a_picture_that_is_not_a_png_is_refused_and_overwrites_nothing(write_run, tmp_path):
    before = (tmp_path / write_run("a") / "metrics.jsonl").read_text()
    with pytest.raises(SystemExit):
        compare.main(["a", "--out", "a/metrics.jsonl"])
    assert (tmp_path / "a" / "metrics.jsonl").read_text() == before


def test_the_curves_of_all_runs_are_drawn_with_chance_if_it_is_the_same(write_run, monkeypatch):
    drawn = []
    monkeypatch.setattr(plot, "plot_curves", lambda *args: drawn.append(args))
    a, b = write_run("a"), write_run("b", dict(dim=16))
    c = write_run("c", dict(classes=["a", "b", "c"]))
    compare.main([a, b])
    compare.main([a, c])
    (path, curves, dim, lines), (_, _, other_dim, other_lines) = drawn
    assert path.name == "compare.png" and list(curves) == ["a", "b"] and len(curves["a"]) == 3
    assert dim == 0 and other_dim == 8
    assert lines["knn"] == {"chance": 50} and "knn" not in other_lines
    for found in (lines, other_lines):
        assert [*found["std"].values()] == [COLLAPSED_STD]
        assert [*found["rank"].values()] == [COLLAPSED_RANK]


def test_curves_have_the_ends_of_long_names_unless_these_are_alike(write_run, monkeypatch):
    drawn, long = [], "x" * 70
    monkeypatch.setattr(plot, "plot_curves", lambda path, runs, *_: drawn.append([*runs]))
    names = [write_run(name) for name in ("a" + long, long + "b", "c" + long)]
    compare.main(names[:2])
    compare.main(names)
    assert drawn == [["…" + 59 * "x", "…" + 58 * "x" + "b"], names]


@given(seeds, st.integers(1, 5))
def test_the_nearest_have_the_largest_cosines_in_order(seed, k):
    bank, query = normal(seed, 9, 4), normal(seed + 1, 3, 4)
    found = compare.nearest(bank, query, k)
    for q, rows in zip(query, found):
        cosines = [float(b @ q / b.norm() / q.norm()) for b in bank]
        assert rows.tolist() == sorted(range(9), key=lambda i: -cosines[i])[:k]


def test_every_run_s_neighbours_are_those_of_its_own_features_for_the_same_test_images(
        tmp_path, monkeypatch, small_shapes):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("a", "0"), ("b", "1")):
        train.main([*TINY, "--epochs", "1", "--max-steps", "1", "--seed", seed, "--out", name])
    drawn, save = [], plot.save_neighbours
    monkeypatch.setattr(plot, "save_neighbours",
                        lambda *args: (drawn.append(args), save(*args)))
    compare.main(["a", "b", "--neighbours", "--out", "other.png"])
    compare.main(["a", "b", "--neighbours"])
    for name in "other.png", "neighbours.png":
        Image.open(name).load()
    _, queries, blocks, labelled = drawn[0]
    assert labelled and len(queries) == 6
    assert [title.partition(":")[0] for title, *_ in blocks] == ["a", "b"]
    for run, (_, neighbours, right) in zip("ab", blocks):
        backbone, config = lineval.load_backbone(run)
        images, _ = compare.weights.load_images(lineval.parse([run]), config)
        bank, query = lineval.features(images, backbone, config)
        labels = images.train_labels
        for i in range(6):
            first = (images.test_labels == i).nonzero()[0, 0]
            assert torch.equal(queries[i], images.test[first])
            order = torch.cosine_similarity(bank, query[first][None]).argsort(descending=True)[:8]
            assert torch.equal(neighbours[i], images.train[order])
            assert torch.equal(right[i], labels[order] == i)


@pytest.mark.parametrize("n, k, chosen", [(3, 2, [0, 3, 6]), (30, 30, range(10))])
def test_without_labels_training_images_are_looked_up_and_are_not_their_own_neighbours(
        n, k, chosen, monkeypatch):
    images = numbered_images(10, torch.arange(10))
    images = images._replace(train_labels=images.train_labels[:0], test=images.test[:0],
                             test_labels=images.test_labels[:0], classes=[])
    bank = torch.stack([torch.linspace(0, 1, 10).cos(), torch.linspace(0, 1, 10).sin()], dim=1)
    monkeypatch.setattr(lineval, "load_backbone", lambda *_: (None, {}))
    monkeypatch.setattr(compare.weights, "load_images", lambda *_: (images, None))
    monkeypatch.setattr(lineval, "features", lambda *_: (bank, bank[:0]))
    drawn, last = [], {"loss": 0.0, "std": 1.0, "rank": 9.0}
    monkeypatch.setattr(plot, "save_neighbours", lambda *args: drawn.append(args))
    compare.save_neighbours({"a run": ({}, [last])}, "a path", n, k)
    ((_, queries, ((title, neighbours, right),), labelled),) = drawn
    assert torch.equal(queries, images.train[chosen]) and title == (
        "a run: loss 0.00, std 1.00, rank 9.0")
    for i, found in zip(chosen, neighbours, strict=True):
        distances = sorted(abs(i - j) for j in range(10) if j != i)[:k]  # on the arc
        same = lambda image: int((images.train == image).flatten(1).all(dim=1).nonzero())
        assert [abs(i - same(image)) for image in found] == distances
    assert not right.any() and not labelled


def test_neighbours_of_runs_on_different_images_are_refused(tmp_path, monkeypatch, small_shapes):
    monkeypatch.chdir(tmp_path)
    for name, size in (("a", "8"), ("b", "12")):
        train.main([*TINY, "--epochs", "1", "--max-steps", "1", "--image-size", size,
                    "--out", name])
    with pytest.raises(SystemExit, match="b: trained on different images from a"):
        compare.main(["a", "b", "--neighbours"])


def test_neighbours_are_drawn_of_images_on_any_device(monkeypatch):
    drawn, images = [], numbered_images(20, torch.arange(20) % 2)
    there = images._replace(**{part: getattr(images, part).as_subclass(Elsewhere)
                               for part in ("train", "test")}, test_labels=torch.tensor([0]))
    monkeypatch.setattr(lineval, "load_backbone", lambda folder, device: (folder, {}))
    monkeypatch.setattr(compare.weights, "load_images", lambda *_: (there, None))
    monkeypatch.setattr(lineval, "features", lambda *_: (torch.eye(20), torch.eye(20)[:1]))
    monkeypatch.setattr(compare.plot, "save_neighbours", lambda *args: drawn.append(args))
    last = {"loss": 0.0, "std": 1.0, "rank": 9.0}
    compare.save_neighbours({"a run": ({}, [last])}, "a path", k=3)
    ((_, queries, ((_, neighbours, right),), _),) = drawn
    assert {type(x) for x in (queries, neighbours, right)} == {torch.Tensor}
