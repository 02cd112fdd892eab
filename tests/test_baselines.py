"""The laws of baselines/.    pytest tests/test_baselines.py"""

import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import options
import train
from baselines.barlow import LAMBDA, BarlowTwins, redundancy
from baselines.byol import BYOL
from baselines.moco import MoCo, T
from baselines.simclr import SimCLR, nt_xent
from baselines.swav import SwAV, sinkhorn
from baselines.vicreg import VICReg, covariance, variance
from optim import SGD
from runs import load_checkpoint
from simsiam import SimSiam
from test_simsiam import gradients, normal, seeds, views
from test_train import TINY, message, small_shapes  # noqa: F401

K = 64  # of MoCo's queue
BASELINES = sorted(set(options.METHODS) - {"simsiam"})


def tiny(method, seed=0, **switches):
    """A method in float64 whose backbone is one linear layer on 4 x 4 images."""
    torch.manual_seed(seed)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(48, 10, bias=False))
    backbone.features = 10
    required = {"encoder_momentum": 0.9, "queue": K, "proj_layers": 2}
    signature = inspect.signature(method).parameters
    switches = {**{name: v for name, v in required.items() if name in signature}, **switches}
    return method(backbone, **{"dim": 8, **switches}).double()


# ------------------------------------------------------------------------------------------------
# What all methods promise to train.py


@pytest.mark.parametrize("name", BASELINES)
def test_every_parameter_that_is_not_a_target_s_is_trained(name, tmp_path):
    parts, out = [], tmp_path / "run"
    args = train.parse([*TINY, "--method", name, "--max-steps", "1", "--out", str(out)])
    train.train(args, lambda run: (parts.append(run), train.two_views(run))[1])
    model = parts[0].model
    held = {id(w) for group in parts[0].optimizer.groups for w in group}
    for parameter, w in model.named_parameters():
        target = parameter.startswith("target.")
        assert (id(w) in held) != target and (w.grad is None) == target, parameter


@pytest.mark.parametrize("name", BASELINES)
def test_a_run_of_any_method_that_was_stopped_ends_as_the_one_that_was_not(name, tmp_path):
    options = [*TINY, "--method", name, "--out"]
    train.main([*options, str(tmp_path / "straight")])
    train.main([*options, str(tmp_path / "stopped"), "--max-steps", "2"])
    train.main(["--resume", "--out", str(tmp_path / "stopped")])
    a, b = (load_checkpoint(tmp_path / run)["model"] for run in ("straight", "stopped"))
    assert all(torch.equal(w, b[parameter]) for parameter, w in a.items())


def test_a_flag_that_a_method_lacks_is_refused(tmp_path):
    out = "--out", tmp_path / "run"
    assert "--bn: --method byol has no such" in message("--method", "byol", "--bn", "all", *out)
    assert "--stopgrad: --method moco" in message("--method", "moco", "--no-stopgrad", *out)
    assert "for --method simsiam" in message("--method", "swav", "--predictor", "fixed", *out)
    assert "[0, 1)" in message("--method", "byol", "--encoder-momentum", 1, *out)


def test_a_method_may_scale_the_recipe_s_lr_but_not_one_that_was_given():
    def lr(*argv):
        args = train.parse(argv)
        options.choose(args, 24)
        return args.lr

    assert lr() == 2.0 and lr("--method", "moco") == 0.5
    assert lr("--method", "moco", "--lr", "3") == 3.0


@given(seeds, st.sampled_from([BYOL, SimCLR, SwAV, MoCo, BarlowTwins, VICReg]))
def test_the_losses_do_not_depend_on_which_view_is_the_first(seed, method):
    x1, x2 = views(seed)
    a, b = tiny(method, seed)(x1, x2)[0], tiny(method, seed)(x2, x1)[0]
    assert a.item() == pytest.approx(b.item(), abs=1e-9)


# ------------------------------------------------------------------------------------------------
# BYOL


@given(seeds, st.floats(0, 0.999), st.sampled_from([BYOL, MoCo]))
def test_the_target_s_weights_follow_by_the_momentum_exactly(seed, m, method):
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
def test_BYOL_without_momentum_is_SimSiam_with_BYOL_s_heads(seed):
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
def test_the_queue_holds_the_last_K_keys_and_the_first_in_are_the_first_out(seed, counts):
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
def test_keys_have_length_one_no_gradient_and_are_queued_after_the_loss(seed):
    model, (x1, x2) = tiny(MoCo, seed), views(seed)
    before = model.queue.clone()
    L, z1 = model(x1, x2)
    expected = model_loss(model, z1, model.f_t(x2), before) / 2
    expected += model_loss(model, model.f(x2), model.f_t(x1), before) / 2
    assert L.item() == pytest.approx(expected.item(), abs=1e-9)
    assert torch.allclose(model.queue.norm(dim=1), torch.ones(K).double())
    assert not model.queue.requires_grad and int(model.next) == 2 * len(x1)


def model_loss(model, z, k, queue):
    """InfoNCE, written out a row at a time."""
    total = 0
    for q, own in zip(F.normalize(z, dim=1), k):
        shares = torch.exp(torch.stack([q @ own, *(q @ other for other in queue)]) / T)
        total = total - torch.log(shares[0] / shares.sum())
    return total / len(z)


def test_InfoNCE_of_a_query_that_is_its_key_and_orthogonal_to_the_queue():
    model = tiny(MoCo)
    model.queue.copy_(torch.eye(8).double()[1].expand(K, 8))
    z = torch.eye(8).double()[:1]
    assert model.info_nce(z, z).item() == pytest.approx(math.log(1 + K * math.exp(-1 / T)))


def test_the_asymmetric_MoCo_queues_one_key_an_image():
    model, (x1, x2) = tiny(MoCo, symmetry="asymmetric"), views(0)
    model(x1, x2)
    assert int(model.next) == len(x1)


# ------------------------------------------------------------------------------------------------
# SimCLR


@given(seeds, st.integers(2, 5))
def test_NT_Xent_picks_the_other_view_among_all_views_but_the_anchor_itself(seed, n):
    p, z = normal(seed, 2 * n, 6), normal(seed + 1, 2 * n, 6)
    total = 0.0
    for i in range(2 * n):
        shares = [math.exp(F.cosine_similarity(p[i], z[k], dim=0) / 0.5) for k in range(2 * n)]
        total -= math.log(shares[(i + n) % (2 * n)] / (sum(shares) - shares[i]))
    assert nt_xent(p, z).item() == pytest.approx(total / (2 * n), abs=1e-9)


@given(seeds)
def test_with_predictor_and_stop_gradient_SimCLR_s_keys_are_constants(seed):
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
def test_Sinkhorn_s_rows_sum_to_one_and_its_columns_to_equal_shares_in_the_limit(seed, n, k):
    scores = torch.tanh(normal(seed, n, k))
    assert torch.allclose(sinkhorn(scores).sum(dim=1), torch.ones(n).double())
    limit = sinkhorn(scores, eps=0.5, iterations=300)
    assert torch.allclose(limit.sum(dim=0), torch.full((k,), n / k).double(), atol=1e-3)


@given(seeds, st.integers(1, 5))
def test_no_iteration_takes_the_columns_farther_from_equal_shares(seed, k):
    scores = F.normalize(normal(seed, 64, 30), dim=1)
    off = lambda k: (sinkhorn(scores, iterations=k).sum(dim=0) - 64 / 30).abs().sum()
    assert off(k + 1) < off(k) + 1e-9


@given(seeds)
def test_Sinkhorn_ignores_what_all_images_or_all_prototypes_have_in_common(seed):
    scores = torch.tanh(normal(seed, 12, 5))
    shifted = scores + normal(seed + 1, 12, 1) / 9 + normal(seed + 2, 1, 5) / 9
    limits = [sinkhorn(s, eps=0.5, iterations=300) for s in (scores, shifted)]
    assert torch.allclose(*limits, atol=1e-6)


@given(seeds, st.sampled_from(["none", "mlp"]))
def test_SwAV_s_codes_are_constants_with_stop_gradient_and_prototypes_have_no_length(
        seed, predictor):
    model, (x1, x2) = tiny(SwAV, seed, predictor=predictor), views(seed)
    L = model(x1, x2)[0]
    got = gradients(model, L)
    q1, q2 = (sinkhorn(model.scores(model.f(x))).tolist() for x in (x1, x2))
    log = lambda x: F.log_softmax(model.h(model.scores(model.f(x)) / 0.1), dim=1)
    pasted = -(torch.tensor(q2).double() * log(x1) + torch.tensor(q1).double() * log(x2))
    expected = gradients(model, pasted.sum(dim=1).mean() / 2)
    assert all(torch.allclose(got[name], g, atol=1e-6) for name, g in expected.items())
    with torch.no_grad():
        model.prototypes.weight.mul_(3)
    assert model(x1, x2)[0].item() == pytest.approx(L.item(), abs=1e-9)
    model.stopgrad = False
    free = gradients(model, model(x1, x2)[0])["backbone.1.weight"]
    assert not torch.allclose(free, got["backbone.1.weight"], atol=1e-9)


# ------------------------------------------------------------------------------------------------
# Barlow Twins and VICReg


@given(seeds, st.integers(3, 9), st.integers(2, 5))
def test_Barlow_s_loss_is_that_of_the_correlations_one_by_one(seed, n, d):
    z1, z2 = normal(seed, n, d), normal(seed + 1, n, d)
    total = 0.0
    for i in range(d):
        for j in range(d):
            c = torch.corrcoef(torch.stack([z1[:, i], z2[:, j]]))[0, 1].item()
            total += (1 - c) ** 2 if i == j else LAMBDA * c**2
    assert redundancy(z1, z2).item() == pytest.approx(total / d, rel=1e-2)  # BN's epsilon
    scale, shift = normal(seed + 2, d).exp(), normal(seed + 3, d)
    assert redundancy(z1 * scale + shift, z2).item() == pytest.approx(total / d, rel=1e-2)


@given(seeds, st.integers(3, 9), st.integers(2, 5))
def test_VICReg_s_terms_are_those_of_the_covariances_one_by_one(seed, n, d):
    z = normal(seed, n, d)
    cov = torch.cov(z.T)
    v = sum(max(0.0, 1 - math.sqrt(cov[i, i] + 1e-4)) for i in range(d)) / d
    c = sum(cov[i, j].item() ** 2 for i in range(d) for j in range(d) if i != j) / d
    assert variance(z).item() == pytest.approx(v, abs=1e-9)
    assert covariance(z).item() == pytest.approx(c, abs=1e-9)


def test_constant_outputs_cost_VICReg_its_variance_term_and_equal_channels_its_covariance_term():
    assert variance(torch.ones(5, 3)).item() == pytest.approx(0.99)
    z = normal(0, 50, 1).expand(50, 4)
    assert covariance(z).item() == pytest.approx(3 * z[:, 0].var().item() ** 2)


@given(seeds)
def test_VICReg_weighs_its_terms_25_25_and_1(seed):
    model, (x1, x2) = tiny(VICReg, seed, proj_layers=2), views(seed)
    z1, z2 = model.f(x1), model.f(x2)
    s = (z1 - z2).square().mean()
    v, c = variance(z1) + variance(z2), covariance(z1) + covariance(z2)
    assert model(x1, x2)[0].item() == pytest.approx((25 * s + 25 * v + c).item() / 25, abs=1e-9)


@pytest.mark.parametrize("method", [BarlowTwins, VICReg])
@pytest.mark.parametrize("layers", [2, 3])
def test_these_projectors_have_BN_and_ReLU_between_their_layers_and_a_bare_output(method, layers):
    kinds = [type(m) for m in tiny(method, proj_layers=layers).projector]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * (layers - 1) + [nn.Linear]
