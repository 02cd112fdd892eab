"""The laws of experiments/.    pytest tests/test_experiments.py"""

import importlib
import json

import pytest
import torch

import runs
import train
from experiments import all as every
from experiments import table
from experiments.sec52_alternation import alternation
from experiments.sec52_expectation import expectation
from experiments.theory_directpred import ALPHA, THRESHOLD, V, directpred, trajectory
from test_train import TINY, small_shapes  # noqa: F401

MODULES = [importlib.import_module(f"experiments.{name}") for name in every.MODULES]


def weights(out, make_step, *options):
    train.train(train.parse([*TINY, *options, "--out", str(out)]), make_step)
    return runs.load_checkpoint(out)["model"]


def test_the_alternation_with_one_step_is_SimSiam_bit_for_bit_and_with_two_it_is_not(tmp_path):
    simsiam = weights(tmp_path / "simsiam", train.two_views)
    once, twice = (weights(tmp_path / str(k), alternation(k)) for k in (1, 2))
    same = lambda other: all(torch.equal(simsiam[name], other[name])
                             for name in simsiam if "num_batches" not in name)
    assert same(once) and not same(twice)


def test_the_expectation_with_m_0_is_SimSiam_without_predictor(tmp_path):
    options = "--predictor", "none", "--max-steps", "2"
    simsiam = weights(tmp_path / "simsiam", train.two_views, *options)
    ours = weights(tmp_path / "0", expectation(0.0), *options)
    for name, w in simsiam.items():
        assert torch.allclose(w, ours[name], atol=1e-5), name


def test_the_average_matters_from_the_second_visit_to_an_image_on(tmp_path):
    for steps, same in (("3", True), ("6", False)):  # an epoch, and two
        options = "--predictor", "none", "--max-steps", steps
        a, b = (weights(tmp_path / f"{m} {steps}", expectation(m), *options)["projector.0.weight"]
                for m in (0.0, 0.8))
        assert torch.allclose(a, b, atol=1e-5) == same


def test_eta_is_computed_for_full_batches_of_the_epoch_only(tmp_path):
    options = "--batch-size", "50"  # 192 = 3 x 50 + 42
    a = weights(tmp_path / "a", alternation(100), *options)
    b = weights(tmp_path / "b", alternation(3), *options)
    assert all(torch.equal(a[name], w) for name, w in b.items())


def test_DirectPreds_predictor_has_the_eigenvectors_of_F_and_the_roots_of_its_eigenvalues(
        tmp_path, small_shapes):  # noqa: F811
    model = weights(tmp_path / "run", directpred)
    state = runs.load_checkpoint(tmp_path / "run")
    h, F = model["h.weight"].double(), state["F"].double()
    assert torch.allclose(h @ F, F @ h, atol=1e-4)
    s = torch.linalg.eigvalsh(F).clamp(min=0)
    assert torch.allclose(torch.linalg.eigvalsh(h), (s / s[-1]).sqrt() + 0.1, atol=1e-2)


def test_the_toy_model_rests_at_its_fixed_point_and_collapses_without_one():
    eta = 0.5 * THRESHOLD
    p = (1 + (1 - 4 * eta * (1 + V)) ** 0.5) / (2 * (1 + V))  # the paper's p*_+
    assert trajectory(p, p * p / ALPHA, eta)[0][-1] == pytest.approx(p)
    assert trajectory(0.5, 0.5, 1.5 * THRESHOLD)[1][-1] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("make_step", [alternation(3), expectation(0.8), directpred])
def test_a_run_stopped_between_two_computations_of_eta_goes_on_with_the_old_one(
        make_step, tmp_path):
    straight = weights(tmp_path / "straight", make_step)
    weights(tmp_path / "stopped", make_step, "--max-steps", "2")
    resumed = weights(tmp_path / "stopped", make_step, "--resume")
    assert all(torch.equal(resumed[name], w) for name, w in straight.items())


def test_a_run_of_an_experiment_is_not_gone_on_with_as_plain_SimSiam(tmp_path):
    weights(tmp_path / "run", alternation(2), "--max-steps", "2")
    with pytest.raises(SystemExit, match="alternation-2"):
        weights(tmp_path / "run", train.two_views, "--resume")


@pytest.mark.parametrize("scale", table.SCALES)
@pytest.mark.parametrize("module", MODULES, ids=every.MODULES)
def test_the_rows_of_every_table_are_distinct_and_their_options_are_train_pys(module, scale):
    rows = table.rows(module, scale)
    assert len({row.label for row in rows}) == len({table.log_path(row, scale, 0) for row in rows})
    for row in rows:
        train.parse(table.argv(row, scale, 0))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(table, "home", lambda scale: tmp_path / scale)
    return tmp_path


def test_a_finished_run_is_not_repeated_and_its_numbers_are_in_the_results(elsewhere, monkeypatch):
    every.main(["--scale", "smoke", "--only", "sec45_similarity"])
    monkeypatch.setattr(train, "train", lambda *_: pytest.fail("trained again"))
    every.main(["--scale", "smoke", "--only", "sec45_similarity"])
    results = (elsewhere / "smoke" / "results.md").read_text()
    config, *records = map(json.loads, (
        elsewhere / "smoke" / "logs" / "similarity-cross-entropy-seed-0.jsonl"
    ).read_text().splitlines())
    assert config["similarity"] == "cross-entropy" and config["top1"] > 0
    accuracies = f"{config['top1']:.1f} | {records[-1]['knn']:.1f}"
    assert f"| cross-entropy | 63.2 | {accuracies} |" in results
    assert (elsewhere / "smoke" / "sec45_similarity.png").exists()


def test_an_order_holds_if_the_means_differ_by_more_than_their_error():
    last = {"a": [{"knn": 1.0}, {"knn": 2.0}], "b": [{"knn": 2.0}, {"knn": 3.0}],
            "c": [{"knn": 2.1}, {"knn": 3.1}]}
    assert table.below("a", "b")(last) and table.below("a", "c")(last)
    assert not table.below("b", "a")(last) and not table.below("b", "c")(last)
    assert not table.below("a", "b", "c")(last)
    assert table.below("a", "b")({**last, "b": last["b"][:1]}) is None
