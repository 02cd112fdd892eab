"""The laws of lineval.py.    pytest tests/test_lineval.py"""

import json
import math
import shutil
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import TINY, Elsewhere, make_folder, seeds, shrink_shapes
from torch import nn

import lineval
import train
from lineval import choose_lr, extract_features, fit_probe, knn_predict, neighbours, topk_accuracy
from optim import LARS, SGD, cosine_lr
from resnet import resnet
from utils import checkpoint, data, runs


def clouds(seed, n=60, classes=3, d=5):
    """Labelled points, scattered around one centre per class."""
    torch.manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, d, dtype=torch.float64)
    return centres[labels] + torch.randn(n, d, dtype=torch.float64), labels


# ------------------------------------------------------------------------------------------------
# kNN


def knn_by_hand(bank, labels, q, classes, k, T):
    """The class of one query row, by sorting and voting in plain Python."""
    cosine = lambda a, b: sum(x * y for x, y in zip(a, b)) / math.hypot(*a) / math.hypot(*b)
    ranked = sorted(((cosine(q, row), label) for row, label in zip(bank, labels)), reverse=True)
    nearest = ranked[:k]
    votes = [sum(math.exp(s / T) for s, label in nearest if label == c) for c in range(classes)]
    return votes.index(max(votes))


@given(seeds, st.integers(1, 20), st.sampled_from([0.07, 0.1, 1.0]))
def test_kNN_is_the_weighted_vote_of_the_nearest_neighbours(seed, k, T):
    bank, labels = clouds(seed)
    query, _ = clouds(seed + 1, n=4)
    expected = [knn_by_hand(bank.tolist(), labels.tolist(), q, 3, k, T) for q in query.tolist()]
    assert knn_predict(bank, labels, query, 3, k, T).tolist() == expected


@given(seeds)
def test_kNN_recognises_its_bank_and_depends_on_neither_order_nor_scale(seed):
    bank, labels = clouds(seed)
    assert torch.equal(knn_predict(bank, labels, bank, 3, k=1), labels)
    query, _ = clouds(seed + 1)
    order = torch.randperm(len(bank))
    expected = knn_predict(bank, labels, query, 3, k=7)
    assert torch.equal(knn_predict(bank[order], labels[order], query, 3, k=7), expected)
    assert torch.equal(knn_predict(5 * bank, labels, 0.1 * query, 3, k=7), expected)
    assert torch.equal(knn_predict(bank, (labels + 1) % 3, query, 3, k=7), (expected + 1) % 3)


@pytest.mark.parametrize("classes", [2, 10, 37])
def test_any_number_of_classes_works(classes):
    bank, labels = clouds(0, n=5 * classes, classes=classes)
    assert torch.equal(knn_predict(bank, labels, bank, classes, k=1), labels)
    probe = fit_probe(bank.float(), labels, 1.0, classes, SGD, epochs=1, batch_size=10)
    assert probe.out_features == classes


@given(seeds)
def test_at_a_low_temperature_the_nearest_neighbour_decides_alone(seed):
    bank, labels = clouds(seed)
    query, _ = clouds(seed + 1)
    cosine = torch.nn.functional.normalize(query) @ torch.nn.functional.normalize(bank).T
    first, second = cosine.topk(2).values.unbind(dim=1)
    query = query[first - second > 0.02]  # 10 T: it outweighs each other one e^10 times
    nearest = knn_predict(bank, labels, query, 3, k=1)
    for bank, query in ((bank, query), (bank.float(), query.float())):  # exp(500) is inf in float32
        assert torch.equal(knn_predict(bank, labels, query, 3, k=9, T=2e-3), nearest)


def test_a_query_of_several_chunks_is_answered_row_by_row():
    bank, labels = clouds(0)
    query, _ = clouds(1, n=1201)
    rows = [knn_predict(bank, labels, row, 3, k=7) for row in query.split(1)]
    assert torch.equal(knn_predict(bank, labels, query, 3, k=7), torch.cat(rows))


@given(st.integers(2, 60_000), st.integers(2, 100))
def test_k_is_200_or_half_a_class_but_never_zero(n, classes):
    k, size = neighbours(torch.zeros(n), classes), n / classes
    assert 1 <= k <= 200 and (k == 1 or 2 * k <= size)  # not more
    assert k == 200 or 2 * (k + 1) > size - 1  # and not less


# ------------------------------------------------------------------------------------------------
# Features and the linear probe


@pytest.mark.parametrize("optimizer", [SGD, LARS])
def test_evaluation_changes_no_bit_of_the_backbone_and_its_BN_statistics(optimizer):
    torch.manual_seed(0)
    backbone = resnet("resnet8", "cifar").train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    images = torch.randint(256, (40, 3, 8, 8), dtype=torch.uint8)
    x = extract_features(backbone, images, (0.5,) * 3, (0.2,) * 3)
    fit_probe(x, torch.arange(40) % 2, 1.0, 2, optimizer, epochs=3, batch_size=16)
    assert backbone.training and x.shape == (40, 64) and not x.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_features_leave_a_backbone_in_the_mode_in_which_it_was(training):
    backbone = resnet("resnet8", "cifar").train(training)
    extract_features(backbone, torch.zeros(2, 3, 8, 8, dtype=torch.uint8), (0.5,) * 3, (0.2,) * 3)
    assert {m.training for m in backbone.modules()} == {training}


def test_a_feature_depends_on_its_own_image_only():
    torch.manual_seed(0)
    backbone = resnet("resnet8", "cifar")
    images = torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8)
    together = extract_features(backbone, images, (0.5,) * 3, (0.2,) * 3)
    alone = torch.cat([extract_features(backbone, x, (0.5,) * 3, (0.2,) * 3)
                       for x in images.split(1)])
    assert torch.allclose(together, alone, atol=1e-5)


class Flat(nn.Module):
    """A backbone that returns the pixels it is given."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.w * x.flatten(1)


def test_the_backbone_sees_each_image_in_zero_to_one_and_normalised_by_channel():
    images = torch.randint(256, (600, 3, 2, 2), dtype=torch.uint8)  # two chunks
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    of = lambda v: torch.tensor(v).view(3, 1, 1)
    expected = (images / 255 - of(mean)) / of(std)
    x = extract_features(Flat(), images, mean, std)
    assert torch.allclose(x, expected.flatten(1), atol=1e-5)


def test_the_probe_is_linear_and_separates_linearly_separable_classes():
    torch.manual_seed(0)
    x = torch.randn(300, 5)
    labels = (x @ torch.tensor([1.0, -2, 0.5, 0, 0]) > 0).long()
    probe = fit_probe(x, labels, 10.0, 2, SGD, epochs=50, batch_size=50)
    assert isinstance(probe, nn.Linear)
    assert topk_accuracy(probe, x, labels, 1) > 97
    assert topk_accuracy(probe, x, labels, 5) == 100
    assert choose_lr(0.01 * x, labels, 2, SGD, 20, 50) > 0.1  # small features need a high lr


def test_every_epoch_of_a_fit_has_a_new_order_in_full_batches():
    seen, probe = [], nn.Linear(1, 2)
    x, labels = torch.arange(10.0)[:, None], torch.arange(10) % 2
    lineval.fit(lambda batch: (seen.append(batch[:, 0].tolist()), probe(batch))[1],
                SGD([probe.parameters()]), x, labels, 0.01, epochs=3, batch_size=4)
    assert [len(batch) for batch in seen] == [4] * 6
    epochs = [tuple(a + b) for a, b in zip(seen[::2], seen[1::2])]
    assert len(set(epochs)) == 3 and all(len(set(epoch)) == 8 for epoch in epochs)


@pytest.mark.parametrize("size", [4, 10, 256])
def test_the_lr_of_a_fit_is_scaled_by_the_batch_that_it_really_has_and_decays_at_every_step(size):
    """Of ten images a batch of 256 has ten; with the lr of 256 its steps would be too long."""
    lrs, probe = [], nn.Linear(1, 2)
    optimizer = SGD([probe.parameters()])
    optimizer.step = lrs.append
    x, labels = torch.arange(10.0)[:, None], torch.arange(10) % 2
    lineval.fit(probe, optimizer, x, labels, 1.0, epochs=3, batch_size=size)
    size = min(size, 10)
    assert lrs == [cosine_lr(size / 256, step, 3 * (10 // size)) for step in range(len(lrs))]
    assert len(lrs) == 3 * (10 // size)


@pytest.mark.parametrize("peak, further", [
    (1e-4, [1e-2, 1e-3, 1e-4, 1e-5]), (0.1, [1e-2]), (1.0, []), (10.0, []), (100.0, [1e3]),
    (1e4, [1e3, 1e4, 1e5])])
def test_rates_beyond_are_tried_while_the_best_is_the_lowest_or_highest(peak, further, monkeypatch):
    tried = []
    monkeypatch.setattr(lineval, "fit_probe", lambda x, labels, lr, *_: tried.append(lr) or lr)
    monkeypatch.setattr(lineval, "topk_accuracy", lambda lr, *_: -abs(math.log(lr / peak)))
    x = torch.arange(10.0)
    assert choose_lr(x, x.long(), 2, SGD, 1, 10) == pytest.approx(peak)
    assert tried == pytest.approx([*lineval.LRS, *further])


def test_the_learning_rate_is_chosen_on_images_held_out_of_the_fit(monkeypatch):
    fitted, tested = [], []
    monkeypatch.setattr(lineval, "fit_probe", lambda x, *_: fitted.append(x))
    monkeypatch.setattr(lineval, "topk_accuracy", lambda _, x, *__: (
        tested.append(x) or len(tested) == 2))  # the second is the best, so the search ends
    choose_lr(torch.arange(100.0), torch.arange(100), 2, SGD, 1, 10)
    assert len(fitted) == len(tested) == len(lineval.LRS)
    for x, held_out in zip(fitted, tested):
        assert len(x) == 90 and sorted([*x.tolist(), *held_out.tolist()]) == list(range(100))
        assert held_out.max() - held_out.min() > 20  # not neighbours: files are in order of class
        assert torch.equal(held_out, tested[0])  # every rate is judged on the same rows


def test_top_k_counts_the_labels_among_the_k_largest_logits():
    probe = nn.Linear(4, 4, bias=False)
    nn.init.eye_(probe.weight)
    x, labels = torch.tensor([[4.0, 3, 2, 1]]).repeat(4, 1), torch.arange(4)
    assert [topk_accuracy(probe, x, labels, k) for k in (1, 2, 3, 4)] == [25, 50, 75, 100]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_probe_that_has_diverged_is_right_about_nothing(bad):
    probe = nn.Linear(4, 4)
    nn.init.constant_(probe.weight, bad)
    x, labels = torch.ones(8, 4), torch.arange(4).repeat(2)
    assert [topk_accuracy(probe, x, labels, k) for k in (1, 2, 4)] == [0, 0, 0]


# ------------------------------------------------------------------------------------------------
# The command line


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    out = tmp_path_factory.mktemp("lineval") / "run"
    with pytest.MonkeyPatch.context() as patch:
        shrink_shapes(patch)
        train.main([*TINY, "--max-steps", "1", "--out", str(out)])
    return out


@pytest.fixture
def run(original, tmp_path, small_shapes):
    """A copy of a run of one step, which a test may change."""
    return shutil.copytree(original, tmp_path / "run")


@pytest.mark.parametrize("option, accepted, refused", [
    ("--lr", "1e-9 1e6", "nan inf -1 0 1000001"), ("--labels", "1e-9 1", "nan 0 1.01 -1"),
    ("--epochs", "1", "0 -1 x"), ("--batch-size", "1", "0 -1"), ("--finetune", "1", "0")])
def test_a_value_that_cannot_be_meant_is_refused(option, accepted, refused, capsys):
    for value in accepted.split():
        assert vars(lineval.parse(["run", option, value]))[
            option[2:].replace("-", "_")] == float(value)
    for value in refused.split():
        with pytest.raises(SystemExit) as stop:
            lineval.parse(["run", option, value])
        assert stop.value.code == 2 and option in capsys.readouterr().err.splitlines()[-1]


def test_the_options_reach_the_probe_which_is_fitted_to_training_and_tested_on_test_images(
        run, monkeypatch, capsys):
    fits, fit, knn = [], lineval.fit_probe, lineval.knn_accuracy
    monkeypatch.setattr(lineval, "fit_probe", lambda *args: (
        fits.append((torch.get_rng_state(), args)), fit(*args))[1])
    asked = []
    monkeypatch.setattr(lineval, "knn_accuracy", lambda *args: (asked.append(args), knn(*args))[1])
    argv = [str(run), *"--lr 0.5 --epochs 2 --batch-size 32 --optimizer lars".split()]
    result = lineval.main([*argv, "--seed", "5"])
    backbone, config = lineval.load_backbone(run)
    images = data.load("shapes")
    x, x_test = (extract_features(backbone, v, config["mean"], config["std"])
                 for v in (images.train, images.test))
    state, (fitted, labels, *settings) = fits[0]
    assert settings == [0.5, 10, LARS, 2, 32]
    for got, expected in zip((fitted, labels, *asked[0]), (
            x, images.train_labels, x, images.train_labels, x_test, images.test_labels)):
        assert torch.allclose(got, expected, atol=1e-5)
    # The accuracies by hand, from the same probe.
    torch.set_rng_state(state)
    top = fit(*fits[0][1])(x_test).argsort(dim=1, descending=True)
    printed = capsys.readouterr().out
    for k in (1, 5):
        right = [label in row[:k] for row, label in zip(top.tolist(), images.test_labels.tolist())]
        assert result[f"top{k}"] == pytest.approx(100 * sum(right) / len(right))
        assert f"top-{k} {result[f'top{k}']:.2f} %" in printed
    for seed, same in (("5", True), ("6", False)):
        lineval.main([*argv, "--seed", seed])
        assert torch.equal(fits[-1][0], state) is same


def test_lineval_leaves_out_bad_images_of_any_set_if_told_to(tmp_path):
    folder = make_folder(tmp_path / "photos", n=4, size=(8, 8))
    (folder / "train/cat/bad.png").write_bytes(b"no image")
    argv = ["--pixels", "--data", str(folder), "--epochs", "1", "--lr", "1"]
    with pytest.raises(SystemExit, match="--skip-bad-images"):
        lineval.main(argv)
    lineval.main([*argv, "--skip-bad-images"])


@pytest.mark.parametrize("size", [None, 8])
def test_images_are_seen_at_the_size_of_their_own_set_not_at_that_of_the_run(
        size, run, monkeypatch):
    larger = data.shapes(20, tint=0.02)._replace(view_size=size)  # the run's have 12 px
    monkeypatch.setattr(data, "load", lambda *_: larger)
    seen, backbone = set(), nn.Flatten()
    backbone.forward = lambda x: seen.add(x.shape[2:]) or x.flatten(1)
    config = runs.load_checkpoint(run)["config"]
    images, _ = lineval.weights.load_images(lineval.parse([str(run), "--data", "shapes"]), config)
    lineval.features(images, backbone, config)
    assert seen == {(size or 20,) * 2}


def test_data_root_and_device_of_lineval_py_come_before_the_run_s_own(run, monkeypatch):
    asked, load, got = [], data.load, []
    monkeypatch.setattr(data, "load", lambda *args: (asked.append(args[:2]), load(*args))[1])
    monkeypatch.setattr(lineval, "evaluate", lambda args, images, *x: got.append(
        [v.device.type for v in (images.train_labels, *x)]) or {})
    lineval.main([str(run), "--device", "cpu"])
    lineval.main([str(run), *"--data shapes-tinted --root elsewhere --device meta".split()])
    assert asked == [("shapes", "datasets"), ("shapes-tinted", "elsewhere")]
    assert got == [["cpu"] * 3, ["meta"] * 3]


def test_the_lr_is_chosen_on_training_images_and_the_probe_is_then_fitted_to_all_of_them(
        run, monkeypatch):
    chosen, fitted = [], []
    monkeypatch.setattr(lineval, "choose_lr", lambda x, y, *_: chosen.append((x, y)) or 10.0)
    fit = lineval.fit_probe
    monkeypatch.setattr(lineval, "fit_probe", lambda *args: (fitted.append(args), fit(*args))[1])
    assert lineval.main([str(run), "--epochs", "1"])["probe_lr"] == 10.0
    (x, y), (x_fit, y_fit, lr, *_) = chosen[0], fitted[0]
    assert len(x) == 192 and torch.equal(x, x_fit) and torch.equal(y, y_fit) and lr == 10.0


@pytest.mark.parametrize("split", ["train", "test"])
def test_features_that_are_not_finite_are_refused_in_either_split(split, run, monkeypatch):
    n, found = len(getattr(data.load("shapes"), split)), lineval.extract_features
    monkeypatch.setattr(lineval, "extract_features", lambda backbone, images, *rest: found(
        backbone, images, *rest) / (len(images) != n))
    with pytest.raises(SystemExit, match="its features are not finite; choose other weights"):
        lineval.main([str(run), "--epochs", "1", "--lr", "1"])


def test_lineval_computes_with_the_settings_of_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the result is written
    tuned = []
    for script in (lineval, train):
        monkeypatch.setattr(script, "tune", tuned.append)
    train.main([*TINY, "--max-steps", "1", "--out", "run"])
    lineval.main(["run", "--epochs", "1", "--lr", "1"])
    assert tuned == ["cpu", "cpu"]


def test_other_images_are_normalised_by_the_mean_and_std_of_the_run(run, monkeypatch):
    seen, extract = [], lineval.extract_features
    monkeypatch.setattr(lineval, "extract_features", lambda *args: (
        seen.append(args[2:4]), extract(*args))[1])
    lineval.main([str(run), "--data", "shapes-tinted", "--epochs", "1", "--lr", "1"])
    config = runs.load_checkpoint(run)["config"]
    assert seen == [(config["mean"], config["std"])] * 2
    assert data.load("shapes-tinted").mean_std()[0] != config["mean"]


def test_a_run_may_be_named_by_its_checkpoint_and_the_result_lies_beside_it(run):
    found = lineval.main([str(run / "checkpoint.pt"), "--epochs", "1", "--lr", "1"])
    assert found == json.loads((run / "lineval.json").read_text())


@pytest.mark.parametrize("argv", [["--pixels"], ["run", "--pixels", "--data", "shapes"], []])
def test_pixels_need_data_and_no_run(argv, capsys):
    with pytest.raises(SystemExit):
        lineval.main(argv)
    assert "name a run or other weights, or --pixels and --data" in capsys.readouterr().err


def spoiled(run, change):
    """The one plain line with which a run is refused whose checkpoint was changed."""
    saved = runs.load_checkpoint(run)
    change(saved)
    runs.write_checkpoint(run / "checkpoint.pt", saved)
    with pytest.raises(SystemExit) as stop:
        lineval.main([str(run), "--epochs", "1", "--lr", "1"])
    assert "checkpoint" in stop.value.code and "\n" not in stop.value.code
    return stop.value.code


@pytest.mark.parametrize("padding", ["text", -1, None, 2000])
def test_a_padding_in_a_run_s_checkpoint_has_no_effect(padding, run):
    saved = runs.load_checkpoint(run)
    saved["config"]["padding"] = padding
    runs.write_checkpoint(run / "checkpoint.pt", saved)
    backbone, config = lineval.load_backbone(run)
    assert backbone.conv1.padding == (1, 1) and "padding" not in config


W = "backbone.conv1.weight"
SPOILED = {
    "a weight is NaN": lambda s: s["model"][W][0].fill_(math.nan),
    "a weight is infinite": lambda s: s["model"][W][0, 0, 0, 0].fill_(math.inf),
    "a stored size of text": lambda s: s["config"].update(stored_size="text"),
    "a weight is missing": lambda s: s["model"].pop(W),
    "weights are whole numbers": lambda s: s["model"].update({W: s["model"][W].to(torch.int8)}),
    "weights are complex": lambda s: s["model"].update({W: s["model"][W].to(torch.complex64)}),
    "weights of another shape": lambda s: s["model"].update({W: s["model"][W][:1]}),
    "weights of text": lambda s: s["model"].update({W: "text"}),
    "no backbone": lambda s: s["model"].clear(),
    "no architecture": lambda s: s["config"].pop("arch"),
    "an unknown architecture": lambda s: s["config"].update(arch="vit"),
    "an unknown stem": lambda s: s["config"].update(stem=3),
    "images of no size": lambda s: s["config"].update(image_size=0),
    "no mean": lambda s: s["config"].update(mean=None),
    "a std of text": lambda s: s["config"].update(std=["a", "b", "c"]),
    "data without a name": lambda s: s["config"].update(data=7.5),
}


@pytest.mark.parametrize("change", SPOILED.values(), ids=SPOILED)
def test_a_checkpoint_from_which_no_backbone_can_be_built_is_refused(change, run):
    spoiled(run, change)


def test_other_data_than_the_run_s_are_named_and_have_a_result_of_their_own(run, capsys):
    probe = ["--epochs", "1", "--lr", "1", "--device", "cpu"]
    own = lineval.main([str(run), *probe])
    assert "not the data" not in capsys.readouterr().out
    other = lineval.main([str(run), *probe, "--data", "shapes-tinted"])
    assert "shapes-tinted: not the data on which the run was trained" in capsys.readouterr().out
    assert own == json.loads((run / "lineval.json").read_text())
    assert other == json.loads((run / "lineval-shapes-tinted.json").read_text())


def test_a_result_is_named_after_the_folder_of_its_images_however_its_path_is_written(
        monkeypatch, tmp_path):
    images = data.load("shapes-tinted")
    name = lambda path: checkpoint.result_name({"data_digest": {}}, images, path)
    (tmp_path / "birds").mkdir()
    monkeypatch.chdir(tmp_path / "birds")
    for path in "a/birds", "a/birds/", "a/birds//", "./", ".", str(tmp_path / "birds" / ""):
        assert name(path) == "lineval-birds.json"


def test_a_share_of_the_labels_has_a_result_of_its_own(run):
    probe = [str(run), "--epochs", "1", "--lr", "1", "--device", "cpu"]
    every = lineval.main(probe)
    shares = {share: lineval.main([*probe, "--labels", share]) for share in ("0.5", "0.02", "0.04")}
    assert every == json.loads((run / "lineval.json").read_text())
    for share, result in shares.items():
        assert result == json.loads((run / f"lineval-labels-{share}.json").read_text())


def test_a_run_older_than_the_digest_of_the_data_is_evaluated_as_its_own(run, capsys):
    saved = runs.load_checkpoint(run)
    for key in ("format", "commit"):
        del saved[key]
    del saved["config"]["data_digest"]
    runs.write_checkpoint(run / "checkpoint.pt", saved)
    assert lineval.main([str(run), "--epochs", "1", "--lr", "1"])["knn"] > 0
    assert (run / "lineval.json").exists()


def test_the_seed_of_lineval_draws_the_share_of_the_labels_too(
        tmp_path, monkeypatch, small_shapes):
    train.main([*TINY, "--max-steps", "1", "--out", str(tmp_path / "run")])
    found = []
    monkeypatch.setattr(lineval, "evaluate", lambda args, images, *_: (
        found.append(images.train), {})[1])
    for seed in "5", "5", "6":
        lineval.main([str(tmp_path / "run"), "--labels", "0.1", "--seed", seed])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_images_that_do_not_fit_on_the_device_go_there_for_their_features():
    images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    network = resnet("resnet8", "cifar")
    features = [lineval.extract_features(network, x, (0.5,) * 3, (0.2,) * 3)
                for x in (images, images.as_subclass(Elsewhere))]
    assert torch.equal(*features)


def test_kNN_and_the_probe_are_computed_on_the_device_of_the_features():
    x, labels = torch.zeros(40, 5, device="meta"), torch.zeros(40, dtype=torch.long, device="meta")
    assert lineval.knn_predict(x, labels, x[:7], 3, k=5).device.type == "meta"
    for optimizer in lineval.SGD, lineval.LARS:
        probe = lineval.fit_probe(x, labels, 1.0, 3, optimizer, 2, 16)
        assert {w.device.type for w in probe.parameters()} == {"meta"}


def test_labels_go_to_the_device_of_the_features(monkeypatch):
    """With --pixels, images that do not fit into a GPU's memory stay on the CPU."""
    got = []
    monkeypatch.setattr(lineval, "knn_accuracy", lambda *args: got.extend(map(type, args)) or 5.0)
    monkeypatch.setattr(lineval, "fit_probe", lambda x, y, *_: got.append(type(y)))
    monkeypatch.setattr(lineval, "topk_accuracy", lambda p, x, y, k: got.append(type(y)) or 5.0)
    labels = torch.zeros(4, dtype=torch.long).as_subclass(Elsewhere)
    images = SimpleNamespace(train_labels=labels, test_labels=labels, classes="ab")
    args = SimpleNamespace(run="", optimizer="sgd", epochs=3, batch_size=4, lr=1.0)
    lineval.evaluate(args, images, torch.zeros(4, 2), torch.zeros(4, 2))
    assert len(got) == 7 and {*got} == {torch.Tensor}


def test_the_probe_starts_near_zero_and_does_not_decay():
    made = []

    class Notes(SGD):
        def __init__(self, *args, **how):
            super().__init__(*args, **how)
            made.append(self)

        step = lambda self, lr: None

    probe = lineval.fit_probe(torch.randn(8, 500), torch.arange(8) % 2, 1.0, 20, Notes, 1, 8)
    assert probe.weight.std().item() == pytest.approx(0.01, rel=0.05) and not probe.bias.any()
    assert (made[0].momentum, made[0].weight_decay) == (0.9, 0)
