"""The laws of experiments/.    pytest tests/test_experiments.py"""

import importlib
import json
import types

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import options
import runs
import train
from experiments import all as every
from experiments import cost, fig3_family, opt_aggregation, opt_optimizers, speed, table
from experiments import opt_regularizers as regularizers
from experiments.opt_losses import DISTANCES, normalised, raw
from experiments.sec52_alternation import alternation
from experiments.sec52_expectation import expectation
from experiments.theory_directpred import ALPHA, THRESHOLD, V, directpred, trajectory
from simsiam import SimSiam, negative_cosine
from test_simsiam import normal, seeds
from test_train import TINY, figures, small_shapes  # noqa: F401

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


# ------------------------------------------------------------------------------------------------
# The studies of the optimisation


@given(seeds)
def test_half_the_squared_distance_of_normalised_vectors_is_one_plus_D_gradient_included(seed):
    p, z = normal(seed, 5, 7).requires_grad_(), normal(seed + 1, 5, 7)
    distance = DISTANCES["half squared"](normalised(p), normalised(z))
    assert torch.allclose(distance, 1 + negative_cosine(p, z), atol=1e-9)
    ours, cosines = (torch.autograd.grad(L.sum(), p)[0] for L in (distance, negative_cosine(p, z)))
    assert torch.allclose(ours, cosines, atol=1e-9)


@given(seeds, st.sampled_from([raw, normalised]))
def test_every_distance_is_smallest_at_equality_and_they_are_ordered(seed, unit):
    p, z = unit(normal(seed, 5, 7)), unit(normal(seed + 1, 5, 7))
    for name, distance in DISTANCES.items():
        assert (distance(z, z) <= distance(p, z) + 1e-9).all(), name
    largest, L2, L1 = (DISTANCES[name](p, z) for name in ("L-infinity", "L2", "L1"))
    assert (largest <= L2).all() and (L1 <= L2 + 1e-9).all() and (L2 <= 7**0.5 * largest).all()


WEIGHTS = {  # of u in the gradient, as the docstring of opt_aggregation says; EPS left out
    opt_aggregation.geometric_of_distances: lambda u, v: (v / u) ** 0.5 / 2,
    opt_aggregation.geometric_of_similarities:
        lambda u, v: ((1 - v / 2) / (1 - u / 2)) ** 0.5 / 2,
    opt_aggregation.harmonic_of_similarities:
        lambda u, v: 2 * ((1 - v / 2) / (2 - u / 2 - v / 2)) ** 2,
    opt_aggregation.maximum: lambda u, v: float(u > v),
    opt_aggregation.squared_mean: lambda u, v: u / 2,
}


@given(st.floats(0.1, 1.9), st.floats(0.1, 1.9), st.sampled_from(list(WEIGHTS)))
def test_each_aggregate_is_symmetric_and_weighs_its_terms_as_derived(a, b, mean):
    a += 0.01 * (a == b)  # where they are equal, the maximum has no gradient of its own
    u, v = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (a, b))
    assert mean(u, v).item() == pytest.approx(mean(v, u).item())
    du, dv = torch.autograd.grad(mean(u, v), (u, v))
    assert du.item() == pytest.approx(WEIGHTS[mean](a, b), rel=0.05)
    assert dv.item() == pytest.approx(WEIGHTS[mean](b, a), rel=0.05)


@given(st.floats(0.1, 1.9), st.sampled_from(list(WEIGHTS)))
def test_of_two_equal_terms_every_aggregate_weighs_both_one_half_but_the_squared_mean(a, mean):
    u, v = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for _ in range(2))
    du, dv = torch.autograd.grad(mean(u, v), (u, v))
    half = a / 2 if mean is opt_aggregation.squared_mean else 0.5
    assert [du.item(), dv.item()] == pytest.approx([half, half], rel=0.05)


def test_aggregation_by_the_arithmetic_mean_is_SimSiam(tmp_path):
    simsiam = weights(tmp_path / "simsiam", train.two_views, "--max-steps", "2")
    ours = weights(tmp_path / "ours", opt_aggregation.aggregated_by(lambda u, v: (u + v) / 2),
                   "--max-steps", "2")
    assert all(torch.allclose(w, ours[name], atol=1e-5) for name, w in simsiam.items())


def test_torch_s_SGD_in_the_loop_is_ours_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setitem(opt_optimizers.OPTIMIZERS, "torch's SGD", lambda groups, wd, run:
                        opt_optimizers.Torch(torch.optim.SGD, groups, wd, momentum=0.9))
    ours = weights(tmp_path / "ours", train.two_views)
    theirs = weights(tmp_path / "theirs", opt_optimizers.optimized_by("torch's SGD"))
    assert all(torch.equal(w, theirs[name]) for name, w in ours.items())


def test_averaged_SGD_ends_in_the_mean_of_its_last_quarter_s_weights(tmp_path):
    seen = []

    def watched(run):
        loss_of = opt_optimizers.optimized_by("SGD")(run)

        def watching(indices):
            seen.append(run.model.projector[0].weight.detach().clone())
            return loss_of(indices)

        return watching

    options = "--epochs", "4"  # of three steps
    last = weights(tmp_path / "sgd", watched, *options)["projector.0.weight"]
    averaged = weights(tmp_path / "averaged", opt_optimizers.optimized_by("averaged SGD"), *options)
    expected = (seen[-2] + seen[-1] + last) / 3  # after the 10th, 11th and 12th step
    assert torch.allclose(averaged["projector.0.weight"], expected, atol=1e-6)


def test_the_statistics_of_averaged_weights_are_plain_means_over_the_training_images(tmp_path):
    parts = []

    def captured(run):
        parts.append(run)
        return opt_optimizers.optimized_by("averaged SGD")(run)

    weights(tmp_path / "run", captured)
    (run,) = parts
    bn, views, augment = run.model.backbone.bn1, [], run.augment
    assert bn.num_batches_tracked == run.per_epoch  # counted anew after the last step
    run.augment = lambda x: views.append(augment(x)) or views[-1]
    opt_optimizers.recompute_statistics(run)
    outputs = run.model.backbone.conv1(torch.cat(views))
    assert len(outputs) == 192
    assert torch.allclose(bn.running_mean, outputs.mean(dim=(0, 2, 3)), atol=1e-5)


@pytest.mark.parametrize("name", opt_optimizers.OPTIMIZERS)
def test_every_optimiser_goes_on_after_a_stop_as_if_there_had_been_none(name, tmp_path):
    make_step = opt_optimizers.optimized_by(name)
    straight = weights(tmp_path / "straight", make_step)
    weights(tmp_path / "stopped", make_step, "--max-steps", "5")
    resumed = weights(tmp_path / "stopped", make_step, "--resume")
    assert all(torch.equal(resumed[parameter], w) for parameter, w in straight.items())


def after_a_step(make_step, tmp_path, *options):
    """The parts of a run of one step."""
    parts = []
    train.train(train.parse([*TINY, "--max-steps", "1", *options, "--out", str(tmp_path / "run")]),
                lambda run: (parts.append(run), make_step(run))[1])
    return parts[0]


def test_regularisers_decay_clip_and_normalise_what_they_say(tmp_path):
    run = after_a_step(regularizers.matrices_decayed, tmp_path / "a", "--weight-decay", "0.1")
    for w in run.model.parameters():
        decay = run.optimizer.direction(w) - w.grad
        assert torch.allclose(decay, 0.1 * w * (w.ndim > 1), atol=1e-6)
    run = after_a_step(regularizers.spectral_predictor_undecayed, tmp_path / "b")
    for layer in (run.model.h[0], run.model.h[3]):
        for _ in range(50):
            W = layer.weight  # every look at it in train mode is a power iteration
        assert torch.linalg.matrix_norm(W, 2).item() == pytest.approx(1, abs=1e-3)
    spared = [w for group in run.optimizer.groups for w in group if id(w) in run.optimizer.spared]
    assert {id(w) for w in spared} == {id(w) for w in run.model.h.parameters()} and spared
    run = after_a_step(regularizers.clipped, tmp_path / "c")
    for factor in (0.1, 10):  # of a gradient of the norm CLIP
        for w in run.model.parameters():
            w.grad = torch.ones_like(w)
        norm = sum(w.numel() for w in run.model.parameters()) ** 0.5
        for w in run.model.parameters():
            w.grad *= factor * regularizers.CLIP / norm
        run.optimizer.step(0.0, 0.0)
        left = sum(w.grad.square().sum() for w in run.model.parameters()) ** 0.5
        assert left.item() == pytest.approx(min(factor, 1) * regularizers.CLIP, rel=1e-3)


@given(seeds, st.integers(1, 6), st.integers(1, 6))
def test_the_deviation_is_that_of_the_singular_values_from_one(seed, m, n):
    W = normal(seed, m, n)
    expected = (torch.linalg.svdvals(W) ** 2 - 1).square().sum()
    assert regularizers.deviation(W).item() == pytest.approx(expected.item())


def test_the_family_s_parts_are_those_of_the_paper_s_Figure_3():
    parts = {row.label: fig3_family.parts(row) for row in fig3_family.ROWS}
    assert parts["SimCLR"] == {"negative pairs"}
    assert parts["BYOL"] == {"momentum encoder", "predictor", "stop-gradient"}
    assert parts["SwAV"] == {"clustering", "stop-gradient"}
    assert parts["SimSiam"] == {"predictor", "stop-gradient"}


# ------------------------------------------------------------------------------------------------
# Rows and logs


@pytest.mark.parametrize("scale", table.SCALES)
@pytest.mark.parametrize("module", MODULES, ids=every.MODULES)
def test_the_rows_of_every_table_are_distinct_and_their_options_are_train_pys(module, scale):
    rows = table.rows(module, scale)
    assert len({row.label for row in rows}) == len({table.log_path(row, scale, 0) for row in rows})
    for row in rows:
        options.choose(train.parse(table.argv(row, scale, 0)), 24)
    record = {"loss": -0.9, "std": 0.9, "rank": 9.0, "knn": 90.0, "top1": 95.0,
              "outputs": {"centre": 0.1}}
    for claim in module.CLAIMS if rows else ():
        assert claim.holds({row.label: [record] * 2 for row in rows}) in (True, False)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(table, "home", lambda scale: tmp_path / scale)
    return tmp_path


def test_a_finished_run_is_not_repeated_and_its_numbers_are_in_the_results(
        elsewhere, figures, monkeypatch):
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


def test_an_order_holds_if_the_means_differ_by_two_of_their_standard_errors():
    row = lambda *numbers: [{"knn": knn} for knn in numbers]
    last = {"a": row(1.0, 2.0), "b": row(2.9, 3.9), "c": row(2.95, 3.95)}  # the error: 0.71
    assert table.below("a", "b")(last) and table.below("a", "c")(last)
    assert not table.below("b", "a")(last) and not table.below("b", "c")(last)
    assert not table.below("a", "b", "c")(last)
    assert table.below("a", "b")({**last, "b": last["b"][:1]}) is None
    assert not table.below("a", "b")({**last, "b": row(2.3, 3.3)})
    assert table.none_above("b", "a", "c")(last) and not table.none_above("a", "c", "b")(last)
    assert not table.none_above("a", "a", "b")(last)
    assert table.none_above("a", "b")({**last, "b": last["b"][:1]}) is None


def test_a_run_that_diverges_is_logged_as_such_and_not_repeated(elsewhere):
    row = table.Row("wild", "--lr 1e30")
    table.do(row, "smoke", 0)
    module = types.SimpleNamespace(ROWS=[row], CLAIMS=[])
    assert table.missing([module], "smoke", 1) == []
    assert "| wild |  | nan | nan | nan |" in table.table(module, "smoke")


def test_a_run_of_another_recipe_counts_as_not_done_and_a_younger_flag_does_not(
        elsewhere, monkeypatch):
    module = importlib.import_module("experiments.sec45_similarity")
    every.main(["--scale", "smoke", "--only", "sec45_similarity"])
    assert table.missing([module], "smoke", 1) == []
    path = table.log_path(module.ROWS[0], "smoke", 0)
    config, *records = path.read_text().splitlines()
    older = {k: v for k, v in json.loads(config).items() if k != "method"}
    path.write_text("\n".join([json.dumps(older), *records]))
    assert table.missing([module], "smoke", 1) == []
    monkeypatch.setitem(options.RECIPES["shapes"], "lr", 0.5)
    assert table.missing([module], "smoke", 1) == [(row, 0) for row in module.ROWS]
    table.do(module.ROWS[0], "smoke", 0)  # whose folder holds a run of the old recipe
    assert json.loads(path.read_text().splitlines()[0])["lr"] == 0.5


def test_only_the_best_learning_rate_of_an_optimiser_gets_further_seeds(elsewhere):
    rows = opt_optimizers.grid("LARS", "shapes")
    assert opt_optimizers.best(rows, "shapes") is None
    for row, knn in zip(rows, (20, 30, 50, 40, 10)):
        path = table.log_path(row, "shapes", 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"image_size": 24}) + "\n" + json.dumps({"knn": knn}))
    assert opt_optimizers.best(rows, "shapes") == rows[2]
    todo = [row.label for row, seed in table.missing([opt_optimizers], "shapes", 2) if seed == 1]
    assert todo == [rows[2].label]


# ------------------------------------------------------------------------------------------------
# The benchmark. No law is about time, but that it is measured fairly.


def test_rivals_take_turns_the_first_does_not_count_and_the_rest_are_compared_by_medians(
        monkeypatch):
    calls, clock = [], [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])

    def lasting(name, *seconds):
        return lambda: (clock.append(clock.pop() + seconds[calls.count(name)]), calls.append(name))

    ours, theirs = lasting("ours", 9, 2, 1, 4), lasting("theirs", 1, 4, 5, 6)
    assert speed.race("what", ours, "name", theirs, 3) == [("what", "s", 2, "name", 5, 2)]
    assert calls == ["ours", "theirs"] * 4
    assert speed.compared("what", "images/s", [2, 6, 4], "name", [2, 2, 4])[5] == 1


def test_train_py_and_a_peer_are_timed_on_the_same_network_and_images(monkeypatch):
    seen, forward = set(), SimSiam.forward

    def noted(self, *views):
        seen.update((sum(w.numel() for w in self.parameters()), v.shape) for v in views)
        return forward(self, *views)

    monkeypatch.setattr(SimSiam, "forward", noted)
    rows = speed.loops({"peer": speed.torchvision_peer}, "resnet8", 8, 16, 16, 1)
    assert len(seen) == 1 and (8, 3, 32, 32) in seen.pop()
    assert [row[3] for row in rows] == ["the network alone", "peer", "the peak"]
    assert all(min(ours, theirs, ratio) > 0 for _, _, ours, _, theirs, ratio in rows)


def test_the_cost_of_a_run_is_that_of_a_process_of_its_own(tmp_path):
    speed.write_folder(tmp_path, 16)
    images_per_s, memory = cost.cost("--arch resnet8 --dim 16", 8, tmp_path)
    assert images_per_s > 0 and memory > cost.megabytes() >= 0
