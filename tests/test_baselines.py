"""The laws of baselines/.    pytest tests/test_baselines.py"""

import cmath
import math
from inspect import signature

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import TINY, gradients, message, normal, seeds, views
from torch import nn

import options
import train
from baselines.barlow import LAMBDA, BarlowTwins, redundancy
from baselines.byol import BYOL
from baselines.lejepa import DIRECTIONS, LeJEPA, directions, epps_pulley
from baselines.moco import MoCo, T
from baselines.simclr import SimCLR, nt_xent
from baselines.swav import SwAV, sinkhorn
from baselines.vicreg import VICReg, covariance, variance
from optim import SGD
from simsiam import SimSiam
from utils.runs import load_checkpoint

pytestmark = pytest.mark.usefixtures("small_shapes")

K = 64  # length of MoCo's queue
BASELINES = sorted(set(options.METHODS) - {"simsiam"})
RECIPE = {"dim": 8, "encoder_momentum": 0.9, "queue": K, "epsilon": 0.1, "proj_layers": 2}


def tiny(method, seed=0, **given):
    """A baseline in float64 whose backbone is one linear layer on 4 x 4 images."""
    torch.manual_seed(seed)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(48, 10, bias=False))
    backbone.num_features = 10
    recipe = {name: value for name, value in RECIPE.items() if name in signature(method).parameters}
    return method(backbone, **{**recipe, **given}).double()


# ------------------------------------------------------------------------------------------------
# What every method promises to train.py


@pytest.mark.parametrize("name", BASELINES)
def test_every_parameter_is_trained_except_those_of_a_target_encoder(name, tmp_path):
    kept = []

    def study(run):
        kept.append(run)
        return run.model

    out = str(tmp_path / "run")
    train.train(train.parse([*TINY, "--method", name, "--max-steps", "1", "--out", out]), study)
    model = kept[0].model
    held = {id(w) for group in kept[0].optimizer.param_groups for w in group}
    for parameter, w in model.named_parameters():
        target = parameter.startswith("target.")
        assert (id(w) in held) != target and (w.grad is None) == target, parameter


@pytest.mark.parametrize("name", BASELINES)
def test_a_stopped_and_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(name, tmp_path):
    flags = [*TINY, "--method", name, "--out"]
    train.main([*flags, str(tmp_path / "straight")])
    train.main([*flags, str(tmp_path / "stopped"), "--max-steps", "2"])
    train.main(["--resume", "--out", str(tmp_path / "stopped")])
    a, b = (load_checkpoint(tmp_path / run)["model"] for run in ("straight", "stopped"))
    assert all(torch.equal(w, b[parameter]) for parameter, w in a.items())


def test_a_flag_that_the_method_does_not_have_is_refused(tmp_path):
    out = "--out", tmp_path / "run"
    assert "--bn: --method byol has no such" in message("--method", "byol", "--bn", "all", *out)
    assert "--stopgrad: --method moco" in message("--method", "moco", "--no-stopgrad", *out)
    assert "for --method simsiam" in message("--method", "swav", "--predictor", "fixed", *out)
    assert "[0, 1)" in message("--method", "byol", "--encoder-momentum", 1, *out)


def test_MoCo_has_a_learning_rate_of_its_own_unless_the_command_line_has_one():
    lr = lambda *argv: options.fill_in(options.parse(argv), image_size=24).lr
    assert lr() == lr("--method", "byol") == 2.0 and lr("--method", "moco") == 0.25
    assert lr("--data", "cifar10") == lr("--data", "cifar10", "--method", "moco") == 0.03
    assert lr("--method", "moco", "--lr", "3") == 3.0


@given(seeds, st.sampled_from([BYOL, SimCLR, SwAV, MoCo, BarlowTwins, VICReg, LeJEPA]))
def test_no_loss_depends_on_which_view_comes_first(seed, method):
    x1, x2 = views(seed)
    a, b = tiny(method, seed)(x1, x2)[0], tiny(method, seed)(x2, x1)[0]  # tiny() sets the seed
    assert a.item() == pytest.approx(b.item(), abs=1e-9)


@pytest.mark.parametrize("method", [BYOL, SimCLR, SwAV, MoCo, BarlowTwins, VICReg, LeJEPA])
def test_every_method_returns_the_first_view_s_projections_beside_its_loss(method):
    model, (x1, x2) = tiny(method), views(0)
    expected = model.projector(model.backbone(x1))
    assert torch.equal(model(x1, x2)[1], expected)


# ------------------------------------------------------------------------------------------------
# BYOL


@given(seeds, st.floats(0, 0.999), st.sampled_from([BYOL, MoCo]))
def test_target_weights_are_a_moving_average_of_those_of_the_encoder(seed, m, method):
    model = tiny(method, seed, encoder_momentum=m)
    before = [w.clone() for w in model.target.parameters()]
    gradients(model, model(*views(seed))[0])  # the target still equals the encoder
    SGD([[w for w in model.parameters() if w.requires_grad]]).step(0.5)
    model(*views(seed + 2))
    online = [*model.backbone.parameters(), *model.projector.parameters()]
    for w_t, old, w in zip(model.target.parameters(), before, online, strict=True):
        assert torch.allclose(w_t, m * old + (1 - m) * w, atol=1e-12)
        assert not torch.equal(w, old)


@given(seeds)
def test_BYOL_with_momentum_zero_is_SimSiam_with_the_heads_of_BYOL(seed):
    byol, (x1, x2) = tiny(BYOL, seed, encoder_momentum=0.0), views(seed)
    simsiam = SimSiam(byol.backbone, dim=8, proj_layers=2)
    simsiam.projector, simsiam.h = byol.projector, byol.h
    for _ in range(2):  # as initialised, and after a step
        ours, theirs = byol(x1, x2)[0], simsiam(x1, x2)[0]
        assert ours.item() == pytest.approx(theirs.item(), abs=1e-9)
        expected = gradients(simsiam, theirs)
        got = gradients(byol, ours)
        assert got.keys() == expected.keys()
        assert all(torch.allclose(got[name], g, atol=1e-9) for name, g in expected.items())
        SGD([simsiam.parameters()]).step(0.1)


# ------------------------------------------------------------------------------------------------
# MoCo


@given(seeds, st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_the_queue_holds_the_last_K_keys_first_in_first_out(seed, counts):
    model = tiny(MoCo, seed)
    keys = [normal(seed + i, n, 8) for i, n in enumerate(counts)]
    first = model.queue.clone()
    for k in keys:
        model.enqueue(k)
    stream = torch.cat([first, *keys])[-K:]  # oldest first
    start = int(model.next) % K
    assert torch.equal(model.queue.roll(-start, dims=0), stream)


def test_a_batch_larger_than_the_queue_leaves_its_last_keys():
    model, k = tiny(MoCo), normal(0, K + 5, 8)
    model.enqueue(k)
    assert {tuple(row) for row in model.queue.tolist()} == {tuple(row) for row in k[5:].tolist()}


@given(seeds)
def test_keys_have_length_one_and_no_gradient_and_are_queued_after_the_loss(seed):
    model, (x1, x2) = tiny(MoCo, seed), views(seed)
    before = model.queue.clone()
    L, z1 = model(x1, x2)
    expected = model_loss(model, z1, model.f_t(x2), before) / 2
    expected += model_loss(model, model.f(x2), model.f_t(x1), before) / 2
    assert L.item() == pytest.approx(expected.item(), abs=1e-9)
    assert torch.allclose(model.queue.norm(dim=1), torch.ones(K).double())
    keys = torch.cat([model.f_t(x1), model.f_t(x2)])
    assert torch.allclose(model.queue[: len(keys)], keys)
    assert not model.queue.requires_grad and int(model.next) == len(keys)


def test_measuring_the_untrained_network_leaves_the_queue_as_it_was():
    model, (x1, x2) = tiny(MoCo), views(0)
    before = model.queue.clone()
    with torch.no_grad():
        model(x1, x2)
    assert torch.equal(model.queue, before) and model.next == 0


def model_loss(model, z, k, queue):
    """InfoNCE, written out row by row."""
    total = 0
    for q, own in zip(F.normalize(z, dim=1), k):
        shares = torch.exp(torch.stack([q @ own, *(q @ other for other in queue)]) / T)
        total = total - torch.log(shares[0] / shares.sum())
    return total / len(z)


def test_InfoNCE_of_a_query_equal_to_its_key_and_orthogonal_to_the_queue():
    model = tiny(MoCo)
    model.queue.copy_(torch.eye(8).double()[1].expand(K, 8))
    z = torch.eye(8).double()[:1]
    assert model.info_nce(z, z).item() == pytest.approx(math.log(1 + K * math.exp(-1 / T)))


def test_asymmetric_MoCo_compares_the_first_view_alone_and_queues_one_key_per_image():
    model, (x1, x2) = tiny(MoCo, symmetry="asymmetric"), views(0)
    before = model.queue.clone()
    L, z1 = model(x1, x2)
    expected = model_loss(model, z1, model.f_t(x2), before)  # x2 gives the keys
    assert L.item() == pytest.approx(expected.item(), abs=1e-9)
    assert int(model.next) == len(x1)


# ------------------------------------------------------------------------------------------------
# SimCLR


@given(seeds, st.integers(2, 5))
def test_NT_Xent_classifies_the_other_view_among_all_views_but_the_anchor(seed, n):
    p, z = normal(seed, 2 * n, 6), normal(seed + 1, 2 * n, 6)
    total = 0.0
    for i in range(2 * n):
        shares = [math.exp(F.cosine_similarity(p[i], z[k], dim=0) / 0.5) for k in range(2 * n)]
        total -= math.log(shares[(i + n) % (2 * n)] / (sum(shares) - shares[i]))
    assert nt_xent(p, z).item() == pytest.approx(total / (2 * n), abs=1e-9)


@given(seeds)
def test_with_stop_gradient_the_targets_of_SimCLR_are_constants(seed):
    model, (x1, x2) = tiny(SimCLR, seed, predictor="mlp", pred_dim=4, stopgrad=True), views(seed)
    got = gradients(model, model(x1, x2)[0])
    z1, z2 = model.f(x1), model.f(x2)
    pasted = torch.tensor(torch.cat([z1, z2]).tolist(), dtype=torch.float64)
    expected = gradients(model, nt_xent(torch.cat([model.h(z1), model.h(z2)]), pasted))
    assert all(torch.allclose(got[name], g, atol=1e-9) for name, g in expected.items())
    model.stopgrad = False
    free = gradients(model, model(x1, x2)[0])
    assert not torch.allclose(free["backbone.1.weight"], got["backbone.1.weight"], atol=1e-9)


# ------------------------------------------------------------------------------------------------
# SwAV


@given(seeds, st.integers(3, 40), st.integers(2, 12))
def test_Sinkhorn_gives_rows_of_sum_one_and_in_the_limit_columns_of_equal_sums(seed, n, k):
    scores = torch.tanh(normal(seed, n, k))
    assert torch.allclose(sinkhorn(scores, 0.05).sum(dim=1), torch.ones(n).double())
    limit = sinkhorn(scores, eps=0.5, iterations=300)
    assert torch.allclose(limit.sum(dim=0), torch.full((k,), n / k).double(), atol=1e-3)


@given(seeds, st.integers(1, 5))
def test_no_Sinkhorn_iteration_moves_the_columns_away_from_equal_sums(seed, k):
    scores = F.normalize(normal(seed, 64, 30), dim=1)
    off = lambda k: (sinkhorn(scores, 0.05, iterations=k).sum(dim=0) - 64 / 30).abs().sum()
    assert off(k + 1) < off(k) + 1e-9


@given(seeds)
def test_Sinkhorn_ignores_what_all_images_or_all_prototypes_share(seed):
    scores = torch.tanh(normal(seed, 12, 5))
    shifted = scores + normal(seed + 1, 12, 1) / 9 + normal(seed + 2, 1, 5) / 9
    limits = [sinkhorn(s, eps=0.5, iterations=300) for s in (scores, shifted)]
    assert torch.allclose(*limits, atol=1e-6)


@given(seeds, st.sampled_from(["none", "mlp"]))
def test_SwAV_codes_are_constants_and_the_length_of_prototypes_does_not_matter(seed, predictor):
    model, (x1, x2) = tiny(SwAV, seed, predictor=predictor), views(seed)
    L = model(x1, x2)[0]
    got = gradients(model, L)
    q1, q2 = (sinkhorn(model.scores(model.f(x)), RECIPE["epsilon"]).tolist() for x in (x1, x2))
    log = lambda x: F.log_softmax(model.h(model.scores(model.f(x)) / 0.1), dim=1)
    pasted = -(torch.tensor(q2).double() * log(x1) + torch.tensor(q1).double() * log(x2))
    expected = gradients(model, pasted.sum(dim=1).mean() / 2)
    assert all(torch.allclose(got[name], g, atol=1e-6) for name, g in expected.items())
    with torch.no_grad():
        model.prototypes.weight.mul_(torch.arange(1, 31)[:, None])
    assert model(x1, x2)[0].item() == pytest.approx(L.item(), abs=1e-9)
    model.stopgrad = False
    free = gradients(model, model(x1, x2)[0])["backbone.1.weight"]
    assert not torch.allclose(free, got["backbone.1.weight"], atol=1e-9)


# ------------------------------------------------------------------------------------------------
# Barlow Twins and VICReg


@given(seeds, st.integers(3, 9), st.integers(2, 5), st.sampled_from([1000, 0.01]))
def test_the_Barlow_Twins_loss_is_the_sum_over_all_correlations_one_by_one(seed, n, d, length):
    z1, z2 = length * normal(seed, n, d), length * normal(seed + 1, n, d)
    # BN divides by √(variance + ε), so the correlations of small outputs are a little too small.
    v1, v2 = (z.var(dim=0, correction=0) for z in (z1, z2))
    share1, share2 = ((v / (v + 1e-5)).sqrt().tolist() for v in (v1, v2))
    total = 0.0
    for i in range(d):
        for j in range(d):
            c = torch.corrcoef(torch.stack([z1[:, i], z2[:, j]]))[0, 1].item()
            c *= share1[i] * share2[j]
            total += (1 - c) ** 2 if i == j else LAMBDA * c**2
    assert redundancy(z1, z2).item() == pytest.approx(total / d, rel=1e-6)
    scale, shift = normal(seed + 2, d).exp(), normal(seed + 3, d)
    if length == 1000:  # far above ε
        assert redundancy(z1 * scale + shift, z2).item() == pytest.approx(total / d, rel=1e-5)


@given(seeds, st.integers(3, 9), st.integers(2, 5))
def test_the_VICReg_terms_are_sums_over_all_covariances_one_by_one(seed, n, d):
    z = normal(seed, n, d)
    cov = torch.cov(z.T)
    v = sum(max(0.0, 1 - math.sqrt(cov[i, i] + 1e-4)) for i in range(d)) / d
    c = sum(cov[i, j].item() ** 2 for i in range(d) for j in range(d) if i != j) / d
    assert variance(z).item() == pytest.approx(v, abs=1e-9)
    assert covariance(z).item() == pytest.approx(c, abs=1e-9)


def test_VICReg_punishes_constant_outputs_by_variance_and_equal_channels_by_covariance():
    assert variance(torch.ones(5, 3)).item() == pytest.approx(0.99)
    z = normal(0, 50, 1).expand(50, 4)
    assert covariance(z).item() == pytest.approx(3 * z[:, 0].var().item() ** 2)


@given(seeds)
def test_VICReg_weights_its_terms_by_25_25_and_1(seed):
    model, (x1, x2) = tiny(VICReg, seed, proj_layers=2), views(seed)
    z1, z2 = model.f(x1), model.f(x2)
    s = (z1 - z2).square().mean()
    v, c = variance(z1) + variance(z2), covariance(z1) + covariance(z2)
    assert model(x1, x2)[0].item() == pytest.approx((25 * s + 25 * v + c).item() / 25, abs=1e-9)


BN_MLP = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
HEADS = {BYOL: (BN_MLP, BN_MLP), MoCo: ([nn.Linear, nn.ReLU, nn.Linear], []),
         SimCLR: ([*BN_MLP, nn.BatchNorm1d], []), SwAV: (BN_MLP, [])}


def biases(head):
    """Whether each linear layer of a head has a bias."""
    return [m.bias is not None for m in head.modules() if isinstance(m, nn.Linear)]


@pytest.mark.parametrize("method", HEADS)
def test_projector_and_predictor_have_the_layers_that_the_method_s_file_describes(method):
    model = tiny(method)
    kinds = [[type(layer) for layer in head.children()] for head in (model.projector, model.h)]
    assert kinds == list(HEADS[method])
    # No bias before BN, which would subtract it.
    expected = {BYOL: [False, True], MoCo: [True, True], SimCLR: [False, False],
                SwAV: [False, True]}[method]
    assert biases(model.projector) == expected and biases(model.h) in ([], expected)


@pytest.mark.parametrize("method", [BarlowTwins, VICReg, LeJEPA])
@pytest.mark.parametrize("layers", [2, 3])
def test_the_expander_has_BN_and_ReLU_between_its_layers_and_a_bare_output(method, layers):
    expander = tiny(method, proj_layers=layers).projector
    kinds = [type(m) for m in expander]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * (layers - 1) + [nn.Linear]
    assert biases(expander) == [False] * layers


# ------------------------------------------------------------------------------------------------
# LeJEPA


def epps_pulley_by_hand(u):
    """N times the integral of |φ(t) - exp(-t²/2)|² exp(-t²/2) from -3 to 3, by 6000 rectangles."""
    total = 0.0
    for i in range(6000):
        t = -3 + (i + 0.5) / 1000
        phi = sum(cmath.exp(1j * t * x) for x in u) / len(u)
        total += abs(phi - math.exp(-(t**2) / 2)) ** 2 * math.exp(-(t**2) / 2) / 1000
    return len(u) * total


@given(seeds, st.integers(1, 6))
@settings(max_examples=10)
def test_the_Epps_Pulley_statistic_is_the_integral_of_the_gap_to_a_Gaussian(seed, n):
    u = normal(seed, n, 2) + 0.5
    expected = [epps_pulley_by_hand(sample.tolist()) for sample in u.T]
    assert epps_pulley(u).tolist() == pytest.approx(expected, rel=1e-2)


def test_of_Gaussians_the_statistic_is_1_05_however_many_and_of_constants_it_grows_with_them():
    for n in (10, 1000):
        assert epps_pulley(normal(0, n, 4000)).mean().item() == pytest.approx(1.05, abs=0.05)
    few, many = epps_pulley(torch.zeros(10, 1)), epps_pulley(torch.zeros(1000, 1))
    assert many.item() == pytest.approx(100 * few.item()) and few.item() > 3
    # Another mean or variance shows, a distribution that has both right, too.
    coin = torch.ones(1000, 1)
    coin[::2] = -1
    for other in (coin, normal(0, 1000, 1) + 0.5, normal(0, 1000, 1) * 2):
        assert epps_pulley(other).item() > 10


def test_directions_have_length_one_are_new_each_time_and_prefer_none():
    a = directions(3)
    assert a.shape == (3, DIRECTIONS) and torch.allclose(a.norm(dim=0), torch.ones(DIRECTIONS))
    assert not torch.equal(a, directions(3))
    a = torch.cat([directions(3) for _ in range(40)], dim=1)
    assert torch.allclose(a @ a.T / a.shape[1], torch.eye(3) / 3, atol=0.03)
    assert a.mean(dim=1).abs().max() < 0.03


@given(seeds, st.floats(0, 1))
def test_the_LeJEPA_loss_weighs_the_distance_to_the_mean_view_and_the_statistic(seed, sigreg):
    model, (x1, x2) = tiny(LeJEPA, seed, sigreg=sigreg), views(seed)
    z1, z2 = model.f(x1), model.f(x2)
    middle = (z1 + z2) / 2
    distance = ((z1 - middle).square().mean() + (z2 - middle).square().mean()) / 2
    torch.manual_seed(seed)
    a = directions(8).double()
    T = sum(epps_pulley(z @ a).mean() for z in (z1, z2)) / 2
    torch.manual_seed(seed)
    loss, z = model(x1, x2)
    assert loss.item() == pytest.approx(((1 - sigreg) * distance + sigreg * T).item(), abs=1e-9)
    assert torch.equal(z, z1)
