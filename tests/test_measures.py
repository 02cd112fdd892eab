"""The laws of experiments/measures.py.    pytest tests/test_measures.py"""

import math
import shutil
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import options
import train
from augment import Augment, normalize
from experiments import measures
from experiments.measures import alignment, centre, load_run, measure_outputs, uniformity
from lineval import knn_accuracy
from simsiam import D, effective_rank, output_std
from strategies import TINY, Elsewhere, normal, seeds
from utils import data
from utils.runs import load_checkpoint, write_checkpoint


@given(seeds, st.floats(-3, 3))
def test_alignment_is_the_loss_and_centre_and_std_share_the_length_of_the_rows(seed, offset):
    z1, z2 = normal(seed, 20, 8) + offset, normal(seed + 1, 20, 8)
    assert alignment(z1, z2).item() == pytest.approx(2 + 2 * D(z1, z2).item(), abs=1e-9)
    variance = F.normalize(z1, dim=1).var(dim=0, correction=0).sum()
    assert (centre(z1) ** 2 + variance).item() == pytest.approx(1)
    assert output_std(z1) ** 2 <= 1 - centre(z1) ** 2 + 1e-9  # hence std is at most 1


def test_the_measures_of_a_run_are_those_of_two_different_views_of_its_training_images(
        tmp_path, small_shapes):
    train.main([*TINY, "--max-steps", "1", "--crop-min", "0.9", "--out", str(tmp_path)])
    drawn, view = [], Augment.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Augment, "__call__", lambda T, x: drawn.append((T, x, view(T, x))) or
                      drawn[-1][2])
        found = measure_outputs(*load_run(tmp_path))
    saved = load_checkpoint(tmp_path)
    model, config = options.build(options.fill_in(options.parse(TINY), 24)), saved["config"]
    model.load_state_dict(saved["model"])
    # Three batches of the run's size for z1, and the same images again for z2.
    assert len(drawn) == 6 and {len(x) for _, x, _ in drawn} == {64}
    assert not torch.equal(drawn[0][2], drawn[3][2]) and torch.equal(drawn[0][1], drawn[3][1])
    for T, _, _ in drawn:
        assert (T.mean, T.std, T.crop_scale) == (config["mean"], config["std"], (0.9, 1.0))
    with torch.no_grad():
        z1, z2 = (torch.cat([model.f(v) for _, _, v in half]) for half in (drawn[:3], drawn[3:]))
    expected = {"alignment": alignment(z1, z2), "centre": centre(z1), "uniformity": uniformity(z1)}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value.item(), abs=1e-4) and value != 0, name
    assert sum(found["singular values"]) == pytest.approx(1, abs=1e-3)


def test_the_measures_of_a_run_do_not_need_the_weights_that_it_started_from(
        tmp_path, small_shapes):
    train.main([*TINY, "--max-steps", "1", "--out", str(tmp_path)])
    expected, saved = measure_outputs(*load_run(tmp_path)), load_checkpoint(tmp_path)
    saved["config"]["init"] = "deleted.pt"
    write_checkpoint(tmp_path / "checkpoint.pt", saved)
    assert measure_outputs(*load_run(tmp_path)) == expected


def test_the_measures_are_of_whole_batches_also_of_few_images(tmp_path, small_shapes):
    train.main([*TINY, "--batch-size", "191", "--max-steps", "1", "--out", str(tmp_path)])
    found = measure_outputs(*load_run(tmp_path))  # BN would refuse a batch of one image
    assert 0 < found["alignment"] < 4


def test_layers_are_measured_on_the_test_images_as_kNN_sees_them(tmp_path, small_shapes, capsys):
    out, copied = tmp_path / "run", tmp_path / "copied"
    last = train.main([*TINY, "--max-steps", "2", "--out", str(out)])
    shutil.copytree(out, copied)
    saved, images = load_checkpoint(out), data.load("shapes")
    model, config = options.build(options.fill_in(options.parse(TINY), 24)), saved["config"]
    model.load_state_dict(saved["model"])
    model.eval()
    with torch.no_grad():
        h, h_test = (model.backbone(normalize(x.float() / 255, config["mean"], config["std"]))
                     for x in (images.train, images.test))
        z, z_test = model.projector(h), model.projector(h_test)
    y, y_test = images.train_labels, images.test_labels
    found = measures.measure_layers(*load_run(out))
    assert found["backbone"][0] == last["knn"]
    for layer, bank, query in (("backbone", h, h_test), ("projector", z, z_test)):
        expected = knn_accuracy(bank, y, query, y_test), output_std(query), effective_rank(query)
        assert found[layer] == pytest.approx([float(v) for v in expected], rel=1e-4)
    capsys.readouterr()
    measures.main([str(out), str(copied)])
    first, second = capsys.readouterr().out.strip().split(f"\n{copied}\n")
    name, head, *rows, z = first.splitlines()
    assert name == str(out) and second == first.removeprefix(f"{name}\n")
    assert head.split() == ["kNN", "std", "rank"]
    assert [row.split() for row in rows] == [
        [layer, f"{knn:.2f}", f"{std:.3f}", f"{rank:.1f}"]
        for layer, (knn, std, rank) in found.items()]
    outputs = measure_outputs(*load_run(out))
    assert z == "  z: " + ", ".join(
        f"{name} {outputs[name]:.3f}" for name in ("centre", "alignment", "uniformity"))


def test_without_labels_layers_are_not_measured():
    args, images = SimpleNamespace(data="a set"), data.Data(*4 * [None], classes=[])
    with pytest.raises(SystemExit, match="a set: kNN needs labels, and these images have none"):
        measures.measure_layers(args, None, images)


@given(seeds)
def test_uniformity_is_zero_for_a_constant_and_equals_a_loop_over_pairs(seed):
    z = F.normalize(normal(seed, 6, 4), dim=1)
    pairs = [math.exp(-2 * (z[i] - z[j]).square().sum()) for i in range(6) for j in range(i)]
    assert uniformity(3 * z).item() == pytest.approx(math.log(sum(pairs) / len(pairs)))
    assert uniformity(z) < uniformity(z[:1].expand(6, 4)) == 0


def test_the_measures_of_a_run_are_of_its_own_images_wherever_they_are(monkeypatch):
    asked = []

    class Model:
        load_state_dict = lambda self, *_, **__: None
        f = lambda self, x: x.flatten(1)

    config = {"data": "a", "root": "b", "image_size": 4, "skip_bad_images": True,
              "stored_size": 6, "batch_size": 5, "crop_min": 0.5, "blur": 0.0,
              "mean": [0.5] * 3, "std": [0.2] * 3}
    x = torch.randint(256, (20, 3, 6, 6), dtype=torch.uint8).as_subclass(Elsewhere)
    monkeypatch.setattr(measures.runs, "load_checkpoint", lambda out: {
        "config": config, "model": {}})
    monkeypatch.setattr(measures.options, "build", lambda args: Model())
    monkeypatch.setattr(data, "load", lambda *args: (
        asked.append(args), data.Data(x, *3 * [None], []))[1])
    assert measure_outputs(*load_run("a run"))["alignment"] > 0
    assert asked == [("a", "b", 4, True, 6)]
