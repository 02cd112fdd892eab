"""The laws of the studies in experiments/.    pytest tests/test_studies.py"""

import copy
import functools
import math
import types

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.functional import to_tensor

import options
import train
from experiments import (augmentations, opt_aggregation, opt_optimizers, references,
                         sec52_alternation, sec52_expectation, theory_directpred, theory_spectrum)
from experiments import common_parts as parts
from experiments import opt_regularizers as regularizers
from experiments.common_parts import common_parts
from experiments.details import one_pass
from experiments.opt_losses import DISTANCES, compared_by, normalised, raw
from experiments.peers import pil_view
from experiments.references import supervised
from experiments.sec46_symmetry import asymmetric_2x
from experiments.sec52_alternation import alternation
from experiments.sec52_expectation import expectation, first_targets
from experiments.theory_directpred import ALPHA, THRESHOLD, V, directpred, trajectory
from simsiam import negative_cosine
from strategies import TINY, Elsewhere, NeverWaits, normal, seeds, tiny, views
from utils import data, runs

pytestmark = pytest.mark.usefixtures("small_shapes")


def weights(out, study=None, *argv):
    """The weights at the end of a tiny run, of two epochs of three steps unless argv says else."""
    train.train(options.parse([*TINY, *argv, "--out", str(out)]), study)
    return runs.load_checkpoint(out)["model"]


def run_of(out, study, *argv):
    """The Run of a tiny run, after its last step."""
    kept = []
    train.train(options.parse([*TINY, *argv, "--out", str(out)]),
                lambda run: (kept.append(run), study(run))[1])
    return kept[0]


class Killed(Exception):
    """The end of a run of which no more is needed."""


# ------------------------------------------------------------------------------------------------
# References: supervised training, and common parts


def test_supervised_training_is_the_cross_entropy_of_both_views_and_leaves_the_heads_alone(
        tmp_path):
    losses = []

    def watched(run):
        loss_fn = supervised(run)

        def compared(x1, x2):
            L, z = loss_fn(x1, x2)
            y = run.images.train_labels[run.indices]
            total = 0.0
            for x in (x1, x2):
                shares = torch.softmax(run.model.classifier(run.model.backbone(x)), dim=1)
                total -= sum(shares[i, y[i]].log() for i in range(len(y))).item() / len(y)
            losses.append((L.item(), total / 2))
            return L, z

        before.update({name: w.clone() for name, w in run.model.state_dict().items()})
        return compared

    before = {}
    after = weights(tmp_path / "run", watched, "--max-steps", "2", "--weight-decay", "0.1")
    assert all(L == pytest.approx(by_hand, abs=1e-4) for L, by_hand in losses) and losses
    for name, w in after.items():
        if w.ndim > 1:  # the statistics of BN apart
            trained = name.partition(".")[0] in ("backbone", "classifier")
            assert torch.equal(w, before[name]) != trained, name


def test_common_parts_take_train_py_s_steps_when_weights_and_views_are_the_same(tmp_path):
    def study(run):
        first, two_views = copy.deepcopy(run.model.state_dict()), run.two_views
        with torch.random.fork_rng():  # their heads draw random numbers, which ours do not miss
            loss_fn = common_parts(run)
        run.model.load_state_dict(first)
        run.two_views = two_views
        return loss_fn

    recipe = ["--weight-decay", "0.01", "--lr", "0.1"]
    ours = weights(tmp_path / "ours", None, *recipe)
    common = weights(tmp_path / "common", study, *recipe)
    assert ours.keys() == common.keys()
    assert all(torch.allclose(w, common[name], atol=1e-5) for name, w in ours.items())


def test_views_of_common_parts_are_two_of_each_image_of_the_batch_rounded_to_8_bits(
        tmp_path, monkeypatch):
    run = run_of(tmp_path / "run", common_parts, "--max-steps", "1", "--crop-min", "0.3")
    args, asked = run.args, []
    monkeypatch.setattr(parts, "pil_view", lambda *how: asked.append(how) or pil_view(*how))
    common_parts(run)
    assert asked == [(args.image_size, args.mean, args.std, 0.3)]
    x1, x2 = run.two_views(torch.tensor([5, 7]))
    assert x1.shape == x2.shape == (2, 3, args.image_size, args.image_size)
    assert not torch.equal(x1, x2)
    mean, std = (torch.tensor(v)[:, None, None] for v in (args.mean, args.std))
    for x in x1, x2:
        levels = (x * std + mean) * 255
        assert torch.allclose(levels, levels.round(), atol=1e-3)
    monkeypatch.setattr(parts, "pil_view", lambda *_: to_tensor)  # as they are
    common_parts(run)
    assert all(torch.allclose(x, run.images.train[[5, 7]] / 255) for x in run.two_views(
        torch.tensor([5, 7])))


@pytest.mark.parametrize("row", augmentations.ROWS, ids=lambda row: row.label)
def test_a_row_without_an_augmentation_lacks_that_one_and_has_all_others(row, tmp_path):
    study = row.study or (lambda run: run.model)
    run = run_of(tmp_path / "run", study, "--max-steps", "1", *row.options.split())
    size = run.args.image_size
    _, box_size, flip, _, order, gray, _, _ = run.augment.draw(400, size)
    found = {"no crop": (box_size < size).any(), "no flip": flip.any(), "no grayscale": gray.any(),
             "no colour jitter": (order >= 0).any()}
    assert {name for name, there in found.items() if not there} == {row.label} & found.keys()
    assert not torch.equal(*run.two_views(torch.arange(8)))


def test_in_one_pass_it_does_not_matter_which_of_an_images_views_is_the_first(tmp_path):
    run = run_of(tmp_path / "run", one_pass, "--max-steps", "1")
    loss_fn = one_pass(run)
    x1, x2 = run.two_views(torch.arange(16))
    first = (torch.arange(16) % 2 == 0)[:, None, None, None]
    exchanged = torch.where(first, x1, x2), torch.where(first, x2, x1)
    L, _ = loss_fn(x1, x2)
    assert torch.allclose(loss_fn(*exchanged)[0], L, atol=1e-5)
    # In two passes BN's statistics tell one batch of views from the other.
    assert (run.model(*exchanged)[0] - run.model(x1, x2)[0]).abs() > 1e-4
    run.model.eval()  # without statistics of the batch the number of passes does not matter
    for got, expected in zip(loss_fn(x1, x2), run.model(x1, x2)):
        assert torch.allclose(got, expected, atol=1e-5)


# ------------------------------------------------------------------------------------------------
# Section 4.6


@given(seeds)
def test_asymmetric_2x_is_the_mean_of_two_asymmetric_losses(seed):
    model, (x1, x2), (x3, x4) = tiny(symmetry="asymmetric"), views(seed), views(seed + 2)
    drawn = []
    run = types.SimpleNamespace(model=model, indices=torch.arange(6),
                                two_views=lambda indices: (drawn.append(indices), (x3, x4))[1])
    L, z1 = asymmetric_2x(run)(x1, x2)
    assert drawn == [run.indices]
    assert L.item() == pytest.approx((model(x1, x2)[0] + model(x3, x4)[0]).item() / 2)
    assert torch.equal(z1, model.f(x1))


# ------------------------------------------------------------------------------------------------
# Section 5.2


def test_the_alternation_with_one_step_is_SimSiam_bit_for_bit_and_with_two_it_is_not(tmp_path):
    simsiam = weights(tmp_path / "simsiam")
    once, twice = (weights(tmp_path / str(k), alternation(k)) for k in (1, 2))
    same = lambda other: all(torch.equal(simsiam[name], other[name])
                             for name in simsiam if "num_batches" not in name)
    assert same(once) and not same(twice)


def test_the_targets_are_of_the_same_images_but_later_batches_train_on_views_of_their_own(tmp_path):
    drawn = []

    def watched(run):
        draw = run.two_views
        run.two_views = lambda indices: drawn.append((indices, draw(indices))) or drawn[-1][1]
        return alternation(2)(run)

    run_of(tmp_path / "run", watched, "--epochs", "1")
    # Three batches at epoch 0. Then the first step, the targets of the second, and that step; the
    # third step starts a block again, of which the epoch leaves one batch.
    first, cached, second, third = drawn[3:]
    assert torch.equal(cached[0], second[0]) and not torch.equal(cached[1][0], second[1][0])
    assert torch.equal(torch.cat([first[0], second[0], third[0]]).sort()[0], torch.arange(192))


def test_each_batch_is_trained_towards_the_targets_of_its_own_images(tmp_path, monkeypatch):
    made, used = [], []

    def targets(run, k, x1, x2):
        N, i = run.args.batch_size, run.state.step % run.steps_per_epoch
        for j in range(i, min(i + k, run.steps_per_epoch)):
            made.append((run.state.order[j * N : (j + 1) * N], torch.tensor(float(j))))
        return [(mark, mark) for _, mark in made[-min(k, run.steps_per_epoch - i):]]

    def watched(run):
        loss_fn = alternation(3)(run)
        return lambda *x: (used.append(run.indices), loss_fn(*x))[1]

    monkeypatch.setattr(sec52_alternation, "targets", targets)
    monkeypatch.setattr(sec52_alternation, "loss", lambda model, x1, x2, eta1, eta2: (
        used.append(eta1), model(x1, x2))[1])
    run_of(tmp_path / "run", watched, "--epochs", "1")
    assert len(made) == 3
    for (indices, mark), seen, eta in zip(made, used[::2], used[1::2], strict=True):
        assert torch.equal(indices, seen) and eta is mark


def test_eta_is_computed_for_the_full_batches_of_an_epoch_only(tmp_path):
    argv = "--batch-size", "50"  # 192 = 3 x 50 + 42
    a = weights(tmp_path / "a", alternation(100), *argv)
    b = weights(tmp_path / "b", alternation(3), *argv)
    assert all(torch.equal(a[name], w) for name, w in b.items())


def test_the_expectation_with_m_0_is_SimSiam_without_predictor(tmp_path):
    argv = "--predictor", "none", "--max-steps", "2"
    simsiam = weights(tmp_path / "simsiam", None, *argv)
    ours = weights(tmp_path / "0", expectation(0.0), *argv)
    for name, w in simsiam.items():
        assert "num_batches" in name or torch.allclose(w, ours[name], atol=1e-5), name


def test_the_average_matters_from_the_first_step_on(tmp_path):
    argv = "--predictor", "none", "--max-steps", "1"
    a, b = (weights(tmp_path / str(m), expectation(m), *argv) for m in (0.0, 0.8))
    assert not torch.allclose(a["projector.0.weight"], b["projector.0.weight"], atol=1e-5)


def test_the_averages_start_as_the_untrained_networks_outputs_for_two_views_of_each_image(tmp_path):
    """Without chance in the views, and with a BN that ignores the batch."""
    def checked(run):
        two_views = lambda x: (x, x.flip(3))
        run.two_views = lambda i: two_views(run.images.train[i] / 255)
        run.model.eval()
        rng = torch.get_rng_state()
        eta = first_targets(run)
        assert torch.equal(rng, torch.get_rng_state())
        z1, z2 = map(run.model.f, two_views(run.images.train / 255))
        unit = torch.nn.functional.normalize
        assert torch.allclose(eta, (unit(z1) + unit(z2)) / 2, atol=1e-5)
        raise Killed

    with pytest.raises(Killed):
        run_of(tmp_path / "run", checked, "--batch-size", "50")


@pytest.mark.parametrize("size", [50, 191])
def test_the_first_targets_come_from_random_batches_no_smaller_than_those_of_training(
        size, tmp_path):
    """Batches of one class would lose their mean in BN, and one of one image is refused."""
    batches = []

    def checked(run):
        two_views = run.two_views
        run.two_views = lambda i: (batches.append(i), two_views(i))[1]
        first_targets(run)
        raise Killed

    with pytest.raises(Killed):
        run_of(tmp_path / "run", checked, "--batch-size", str(size))
    assert min(map(len, batches)) >= size
    seen = torch.cat(batches).tolist()
    assert seen != sorted(seen) == list(range(192))


def test_with_m_1_the_targets_stay_those_of_the_untrained_network(tmp_path):
    run = run_of(tmp_path / "run", expectation(1.0), "--predictor", "none", "--max-steps", "5")
    after = run.state.extra["eta"]
    run = run_of(tmp_path / "again", expectation(1.0), "--predictor", "none", "--max-steps", "1")
    assert torch.allclose(after, run.state.extra["eta"], atol=1e-5)


def test_the_average_moves_a_fifth_of_the_way_to_the_new_sample_with_m_four_fifths():
    """η ← 0.8 η + 0.2 z / ‖z‖ for each view of an image, and nothing else moves."""
    model = tiny(predictor="none")
    eta = torch.nn.functional.normalize(torch.randn(9, model.f(views(0)[0]).shape[1]).double())
    indices = torch.tensor([8, 2, 3, 7, 0, 5])
    run = types.SimpleNamespace(model=model, state=train.State(extra={"eta": eta.clone()}),
                                indices=indices)
    x = views(2)
    sample = sum(torch.nn.functional.normalize(model.f(v).detach()) for v in x) / 2
    expectation(0.8)(run)(*x)
    wanted = eta.clone()
    wanted[indices] = 0.8 * eta[indices] + 0.2 * sample
    assert torch.allclose(run.state.extra["eta"], wanted, atol=1e-6)


@pytest.mark.parametrize("study", [alternation(3), expectation(0.8), directpred])
def test_a_study_that_is_stopped_and_resumed_keeps_its_memory(study, tmp_path):
    straight = weights(tmp_path / "straight", study)
    weights(tmp_path / "stopped", study, "--max-steps", "2")
    resumed = weights(tmp_path / "stopped", study, "--resume")
    assert all(torch.equal(resumed[name], w) for name, w in straight.items())


def test_the_run_of_a_study_cannot_be_resumed_as_plain_SimSiam(tmp_path):
    weights(tmp_path / "run", alternation(2), "--max-steps", "2")
    with pytest.raises(SystemExit, match="alternation-2"):
        weights(tmp_path / "run", None, "--resume")


# ------------------------------------------------------------------------------------------------
# DirectPred


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_outputs_that_diverge_reach_the_loss_of_DirectPred(bad):
    model = tiny()
    run = types.SimpleNamespace(model=model, state=train.State(),
                                args=types.SimpleNamespace(device="cpu"))
    model.f = lambda x: torch.full((len(x), 8), bad)
    L, _ = directpred(run)(*views(0))
    assert L.isnan()  # for train.check_finite()


def test_DirectPreds_predictor_has_the_eigenvectors_of_F_and_the_roots_of_its_eigenvalues(tmp_path):
    z = []

    def watched(run):
        f = run.model.f
        run.model.f = lambda x: (z.append(f(x)), z[-1])[1]
        return directpred(run)

    model = weights(tmp_path / "run", watched)
    h, F = model["h.weight"].double(), 0
    for i, views in enumerate(zip(z[-12::2], z[-11::2])):  # six steps of two views
        both = torch.cat(views).detach().double()
        F = (0.3 * F + 0.7 * both.T @ both / len(both)) if i else both.T @ both / len(both)
    assert torch.allclose(runs.load_checkpoint(tmp_path / "run")["extra"]["F"].double(), F)
    assert torch.allclose(h @ F, F @ h, atol=1e-4)
    s = torch.linalg.eigvalsh(F).clamp(min=0)
    assert torch.allclose(torch.linalg.eigvalsh(h), (s / s[-1]).sqrt() + 0.1, atol=1e-2)


def test_the_toy_model_rests_at_its_fixed_point_and_collapses_without_one():
    eta = 0.5 * THRESHOLD
    p = (1 + (1 - 4 * eta * (1 + V)) ** 0.5) / (2 * (1 + V))  # the paper's p*_+
    assert trajectory(p, p * p / ALPHA, eta)[0][-1] == pytest.approx(p)
    assert trajectory(0.5, 0.5, 1.5 * THRESHOLD)[1][-1] == pytest.approx(0, abs=1e-3)


def test_the_toy_model_does_not_collapse_just_below_the_threshold():
    assert trajectory(0.8, 1.0, 0.95 * THRESHOLD)[1][-1] > 0.1


# ------------------------------------------------------------------------------------------------
# Figures of their own


def drawn(module, logs, monkeypatch):
    """The panels of a module's figure."""
    figures = []
    monkeypatch.setattr(module, "save_figure", lambda figure, *_: figures.append(figure))
    module.figure(logs, "unused.png")
    return figures[0].axes


def test_the_phase_planes_show_the_trajectory_of_each_start_below_and_above_the_threshold(
        monkeypatch):
    coarse = functools.partial(trajectory, steps=400, dt=0.1)  # ten times as fast
    monkeypatch.setattr(theory_directpred, "trajectory", coarse)
    for axis, share in zip(drawn(theory_directpred, {}, monkeypatch), (0.5, 1.2), strict=True):
        paths = [line.get_xydata() for line in axis.lines if len(line.get_xydata()) > 1]
        assert [tuple(path[0]) for path in paths] == theory_directpred.STARTS
        ends = [path[-1, 1] for path in paths]  # of s
        assert (max(ends) < 0.01) == (share > 1) and f"{share} of the threshold" in axis.get_title()


def test_the_spectrum_and_the_four_measures_are_drawn_as_they_are_logged(monkeypatch):
    logs = {name: ({"outputs": {"singular values": [0.5 + i, 0.25], "centre": 0.6, "alignment": 2.0,
                                "uniformity": -3.0 - i}}, []) for i, name in enumerate("ab")}
    spectrum, bars = drawn(theory_spectrum, logs, monkeypatch)
    assert [line.get_label() for line in spectrum.lines] == ["a", "b"]
    assert [line.get_xydata().tolist() for line in spectrum.lines] == [
        [[1, 0.5 + i], [2, 0.25]] for i in (0, 1)]
    heights = [bar.get_height() for bar in bars.patches]
    assert heights == pytest.approx([0.6, 0.8, 2, -3, 0.6, 0.8, 2, -4])  # 0.6² + 0.8² = 1
    edges = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars.patches)
    assert all(end <= start + 1e-9 for (_, end), (start, _) in zip(edges, edges[1:]))


def test_the_figure_of_the_optimisers_has_the_held_out_kNN_of_each_over_its_rates(monkeypatch):
    names = list(opt_optimizers.OPTIMIZERS)
    knn = {(name, lr): 10 * i + lr for i, name in enumerate(names) for lr in (0.5, 2.0)}
    logs = {f"{name}, lr {lr:g}, held out": (None, [{"knn": 1}, {"knn": value}])
            for (name, lr), value in knn.items()}
    logs[f"{names[0]}, lr 0.5"] = None, [{"knn": 99}]  # on all images
    (axis,) = drawn(opt_optimizers, logs, monkeypatch)
    for line, name in zip(axis.lines, names, strict=True):
        assert line.get_label() == name
        assert line.get_xydata().tolist() == [[lr, knn[name, lr]] for lr in (0.5, 2.0)]


# ------------------------------------------------------------------------------------------------
# Similarities and aggregation


@given(seeds)
def test_half_the_squared_distance_of_normalised_vectors_is_one_plus_D_gradient_included(seed):
    p, z = normal(seed, 5, 7).requires_grad_(), normal(seed + 1, 5, 7)
    distance = DISTANCES["half squared"](normalised(p), normalised(z))
    assert torch.allclose(distance, 1 + negative_cosine(p, z), atol=1e-9)
    ours, cosines = (torch.autograd.grad(L.sum(), p)[0] for L in (distance, negative_cosine(p, z)))
    assert torch.allclose(ours, cosines, atol=1e-9)


@given(seeds, st.sampled_from([raw, normalised]))
def test_every_distance_is_smallest_at_equality_and_they_are_ordered(seed, prepare):
    p, z = prepare(normal(seed, 5, 7)), prepare(normal(seed + 1, 5, 7))
    for name, distance in DISTANCES.items():
        assert (distance(z, z) <= distance(p, z) + 1e-9).all(), name
    largest, L2, L1 = (DISTANCES[name](p, z) for name in ("L-infinity", "L2", "L1"))
    assert (largest <= L2).all() and (L1 <= L2 + 1e-9).all() and (L2 <= 7**0.5 * largest).all()


@given(seeds)
def test_the_distances_are_their_definitions_written_as_loops(seed):
    p, z = normal(seed, 3, 7), normal(seed + 1, 3, 7)
    for row, (a, b) in enumerate(zip(p.tolist(), z.tolist())):
        gaps = [abs(a_i - b_i) for a_i, b_i in zip(a, b)]
        expected = {"half squared": sum(g**2 for g in gaps) / 2, "L1": sum(gaps) / math.sqrt(7),
                    "L2": math.sqrt(sum(g**2 for g in gaps)), "L-infinity": max(gaps)}
        for name, value in expected.items():
            assert DISTANCES[name](p, z)[row].item() == pytest.approx(value), name


def test_the_study_of_the_cross_entropy_predicts_from_p_what_z_is():
    p, z = normal(0, 5, 7), normal(1, 5, 7)
    run = types.SimpleNamespace(model=tiny())
    compared_by("cross-entropy", normalised)(run)
    # The softmaxes are of unit vectors times √d.
    p, z = (v / v.norm(dim=1, keepdim=True) * 7**0.5 for v in (p, z))
    expected = -(z.softmax(dim=1) * p.log_softmax(dim=1)).sum(dim=1).mean()
    assert run.model.D(p, z) == pytest.approx(expected.item())
    assert run.model.D(z, p) != pytest.approx(expected.item())


@pytest.mark.parametrize("prepare", [raw, normalised])
@pytest.mark.parametrize("name", DISTANCES)
def test_a_study_of_the_similarity_compares_by_it_alone_and_keeps_the_stop_gradient(name, prepare):
    p, z = (normal(i, 5, 7).requires_grad_() for i in (0, 1))
    run = types.SimpleNamespace(model=tiny())
    assert compared_by(name, prepare)(run) is run.model
    L = run.model.D(p, z)
    assert L.item() == pytest.approx(DISTANCES[name](prepare(p), prepare(z)).mean().item())
    of_p, of_z = torch.autograd.grad(L, (p, z), allow_unused=True)
    assert of_p.any() and of_z is None


WEIGHTS = {  # of u in the gradient, as the docstring of opt_aggregation gives them, without EPS
    opt_aggregation.geometric_of_distances: lambda u, v: (v / u) ** 0.5 / 2,
    opt_aggregation.geometric_of_similarities:
        lambda u, v: ((1 - v / 2) / (1 - u / 2)) ** 0.5 / 2,
    opt_aggregation.harmonic_of_similarities:
        lambda u, v: 2 * ((1 - v / 2) / (2 - u / 2 - v / 2)) ** 2,
    opt_aggregation.maximum: lambda u, v: float(u > v),
    opt_aggregation.squared_mean: lambda u, v: u / 2,
}


@given(st.floats(0.1, 1.9), st.floats(0.1, 1.9), st.sampled_from(list(WEIGHTS)))
def test_each_aggregate_is_symmetric_and_weights_its_terms_as_derived(a, b, mean):
    a += 0.01 * (a == b)  # where they are equal, the maximum has no gradient of its own
    u, v = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (a, b))
    assert mean(u, v).item() == pytest.approx(mean(v, u).item())
    du, dv = torch.autograd.grad(mean(u, v), (u, v))
    assert du.item() == pytest.approx(WEIGHTS[mean](a, b), rel=0.05)
    assert dv.item() == pytest.approx(WEIGHTS[mean](b, a), rel=0.05)


@given(st.floats(0.1, 1.9), st.sampled_from(list(WEIGHTS)))
def test_of_two_equal_terms_every_aggregate_but_the_squared_mean_weights_both_one_half(a, mean):
    u, v = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for _ in range(2))
    du, dv = torch.autograd.grad(mean(u, v), (u, v))
    half = a / 2 if mean is opt_aggregation.squared_mean else 0.5
    assert [du.item(), dv.item()] == pytest.approx([half, half], rel=0.05)


def test_aggregation_by_the_arithmetic_mean_is_SimSiam(tmp_path):
    simsiam = weights(tmp_path / "simsiam", None, "--max-steps", "2")
    ours = weights(tmp_path / "ours", opt_aggregation.aggregated_by(lambda u, v: (u + v) / 2),
                   "--max-steps", "2")
    assert all(torch.allclose(w, ours[name], atol=1e-5) for name, w in simsiam.items())


@pytest.mark.parametrize("mean", WEIGHTS)
def test_the_two_terms_are_combined_image_by_image(mean):
    model, (x1, x2) = tiny(), views(0)
    L, z1 = opt_aggregation.aggregated_by(mean)(types.SimpleNamespace(model=model))(x1, x2)
    z2 = model.f(x2)
    distance = lambda p, z: 1 - torch.nn.functional.cosine_similarity(p, z)
    rows = zip(distance(model.h(z1), z2), distance(model.h(z2), z1), strict=True)
    assert L.item() == pytest.approx(sum(mean(u, v).item() for u, v in rows) / 6 - 1, abs=1e-9)


# ------------------------------------------------------------------------------------------------
# Optimisers and regularisers


def test_torch_s_SGD_in_the_loop_is_ours_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setitem(opt_optimizers.OPTIMIZERS, "torch's SGD", lambda groups, wd, run:
                        opt_optimizers.Torch(torch.optim.SGD, groups, wd, momentum=0.9))
    ours = weights(tmp_path / "ours")
    theirs = weights(tmp_path / "theirs", opt_optimizers.optimized_by("torch's SGD"))
    assert all(torch.equal(w, theirs[name]) for name, w in ours.items())


def test_averaged_SGD_ends_in_the_mean_of_its_last_quarter_s_weights(tmp_path):
    seen = []

    def watched(run):
        def loss_fn(x1, x2):
            seen.append(run.model.projector[0].weight.detach().clone())
            return run.model(x1, x2)

        return loss_fn

    argv = "--epochs", "4"  # of three steps
    last = weights(tmp_path / "sgd", watched, *argv)["projector.0.weight"]
    averaged = weights(tmp_path / "averaged", opt_optimizers.optimized_by("averaged SGD"), *argv)
    expected = (seen[-2] + seen[-1] + last) / 3  # after the 10th, 11th and 12th step
    assert torch.allclose(averaged["projector.0.weight"], expected, atol=1e-6)


def test_the_statistics_of_averaged_weights_are_plain_means_over_the_training_images(tmp_path):
    run = run_of(tmp_path / "run", opt_optimizers.optimized_by("averaged SGD"))
    bn, images, views, augment = run.model.backbone.bn1, [], [], run.augment
    assert bn.num_batches_tracked == run.steps_per_epoch  # counted anew after the last step

    def watched(x):
        images.append(x.as_subclass(torch.Tensor))
        views.append(augment(x))
        return views[-1]

    x = run.images.train
    # as if they did not fit on the device
    run.augment, run.images = watched, run.images._replace(train=x.as_subclass(Elsewhere))
    opt_optimizers.recompute_statistics(run)
    # Each once, but not in the files' order, which is that of the classes.
    in_order = [v.flatten(1).tolist() for v in (x, torch.cat(images))]
    assert in_order[0] != in_order[1] and sorted(in_order[0]) == sorted(in_order[1])
    outputs = run.model.backbone.conv1(torch.cat(views))
    assert torch.allclose(bn.running_mean, outputs.mean(dim=(0, 2, 3)), atol=1e-5)


@pytest.mark.parametrize("name", opt_optimizers.OPTIMIZERS)
def test_every_optimiser_continues_after_a_stop_as_if_there_had_been_none(name, tmp_path):
    study = opt_optimizers.optimized_by(name)
    straight = weights(tmp_path / "straight", study)
    weights(tmp_path / "stopped", study, "--max-steps", "5")
    resumed = weights(tmp_path / "stopped", study, "--resume")
    assert all(torch.equal(resumed[parameter], w) for parameter, w in straight.items())


CHANGED = {"no momentum": (0.0, 0.3), "Adam": (None, 0.3), "AdamW": (None, 0.3)}  # by the study


@pytest.mark.parametrize("study", [
    *filter(None, map(opt_optimizers.optimized_by, opt_optimizers.OPTIMIZERS)),
    regularizers.matrices_decayed, regularizers.clipped, regularizers.spectral_predictor_undecayed,
    supervised], ids=lambda study: study.__name__)
def test_a_study_of_the_optimiser_keeps_the_momentum_and_weight_decay_that_it_is_not_about(study):
    model = tiny()
    run = types.SimpleNamespace(
        model=model, optimizer=train.SGD(train.param_groups(model), 0.9, 0.3),
        args=types.SimpleNamespace(weight_decay=0.3, classes="ab"),
        images=types.SimpleNamespace(train_labels=torch.zeros(6)))
    study(run)
    kept = run.optimizer
    if isinstance(kept, opt_optimizers.Torch):
        groups = kept.optimizer.param_groups
        found = {(group.get("momentum"), group["weight_decay"]) for group in groups}
    else:
        found = {(kept.momentum, kept.weight_decay)}
    name = study.__name__.rpartition(", ")[2]
    assert found == {CHANGED.get(name, (0.9, 0.3))}


def test_weight_decay_on_matrices_only_spares_BN_and_biases(tmp_path):
    argv = "--max-steps", "1", "--weight-decay", "0.1"
    run = run_of(tmp_path / "run", regularizers.matrices_decayed, *argv)
    for w in run.model.parameters():
        decay = run.optimizer.direction(w) - w.grad
        assert torch.allclose(decay, 0.1 * w * (w.ndim > 1), atol=1e-6)


def test_the_spectral_norm_of_the_predictor_s_matrices_is_one_and_h_may_be_spared_from_decay(
        tmp_path):
    run = run_of(tmp_path / "run", regularizers.spectral_predictor_undecayed, "--max-steps", "1")
    for layer in (run.model.h[0], run.model.h[3]):
        for _ in range(50):
            W = layer.weight  # in training mode each access is a power iteration
        assert torch.linalg.matrix_norm(W, 2).item() == pytest.approx(1, abs=1e-3)
    sgd = run.optimizer
    spared = [w for group in sgd.param_groups for w in group if id(w) in sgd.spared]
    assert {id(w) for w in spared} == {id(w) for w in run.model.h.parameters()} and spared


def test_clipping_bounds_the_norm_of_the_whole_gradient_and_leaves_a_smaller_one_alone(tmp_path):
    run = run_of(tmp_path / "run", regularizers.clipped, "--max-steps", "1")
    parameters = list(run.model.parameters())
    n = sum(w.numel() for w in parameters)
    for factor in (0.1, 10):  # of a gradient of the norm CLIP
        for w in parameters:
            w.grad = torch.full_like(w, factor * regularizers.CLIP / n**0.5)
        run.optimizer.step(0.0, 0.0)
        left = sum(w.grad.square().sum() for w in parameters) ** 0.5
        assert left.item() == pytest.approx(min(factor, 1) * regularizers.CLIP, rel=1e-3)


@given(seeds, st.integers(1, 6), st.integers(1, 6))
def test_the_deviation_is_that_of_the_squared_singular_values_from_one(seed, m, n):
    W = normal(seed, m, n)
    expected = (torch.linalg.svdvals(W) ** 2 - 1).square().sum()
    assert regularizers.deviation(W).item() == pytest.approx(expected.item())


@given(seeds)
def test_the_penalty_is_a_hundredth_of_the_deviation_of_both_matrices_of_h(seed):
    model, (x1, x2) = tiny(seed), views(seed)
    L, z1 = regularizers.orthogonal_predictor(types.SimpleNamespace(model=model))(x1, x2)
    penalty = 0.01 * sum(regularizers.deviation(model.h[i].weight) for i in (0, -1))
    assert L.item() == pytest.approx((model(x1, x2)[0] + penalty).item()) and penalty > 0
    assert torch.equal(z1, model.f(x1))


STUDIES = [supervised, directpred, asymmetric_2x, alternation(2), expectation(0.8),
           regularizers.matrices_decayed, regularizers.spectral_predictor,
           regularizers.orthogonal_predictor, regularizers.clipped, compared_by("L1", raw),
           opt_aggregation.aggregated_by(opt_aggregation.maximum)]


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.__name__)
def test_a_study_computes_on_the_device_of_its_run(study, small_shapes):
    """The meta device refuses to compute with a tensor that was left on the CPU."""
    images = data.load("shapes")
    args = options.complete(options.parse([*TINY, "--device", "meta"]), images)
    model = options.build(args)
    sgd = train.SGD(train.param_groups(model), weight_decay=0.1)
    run = train.Run(args, None, images.to("meta"), options.augmentation(args), model, sgd)
    run.indices, run.state.order = torch.arange(64), torch.arange(192)
    loss, _ = study(run)(*run.two_views(run.indices))
    loss.backward()
    assert loss.device.type == "meta"
    assert {w.device.type for w in run.model.state_dict().values()} == {"meta"}


@pytest.mark.parametrize("study", [supervised, expectation(0.8)], ids=["supervised", "expectation"])
def test_a_study_that_looks_up_its_images_does_not_wait_for_the_device(
        study, monkeypatch, small_shapes):
    images = data.load("shapes")
    args = options.complete(options.parse([*TINY, "--device", "meta"]), images)
    sgd = train.SGD(train.param_groups(model := options.build(args)))
    run = train.Run(args, None, images.to("meta"), options.augmentation(args), model, sgd)
    run.indices, loss_fn = torch.arange(64), study(run)
    views = run.two_views(run.indices)
    loss_fn(*views)  # the first call may allocate what the study keeps
    for script in references, sec52_expectation:
        monkeypatch.setattr(script, "to_device", lambda v, device: v.to(device, non_blocking=True))
    with NeverWaits():
        loss_fn(*views)


def test_the_later_targets_of_an_epoch_are_computed_in_every_epoch():
    x1, x2 = views(0)
    for step in 1, 5:  # of epochs of four
        drawn = []
        run = types.SimpleNamespace(
            args=types.SimpleNamespace(batch_size=6), steps_per_epoch=4, model=tiny(),
            state=train.State(step=step, order=torch.arange(24)),
            two_views=lambda i: (drawn.append(i.tolist()), (x1, x2))[1])
        assert len(sec52_alternation.targets(run, 2, x1, x2)) == 2
        assert drawn == [[*range(12, 18)]]
        assert len(sec52_alternation.targets(run, math.inf, x1, x2)) == 3
