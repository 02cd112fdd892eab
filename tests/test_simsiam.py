"""Laws of the loss, the heads and the measures of collapse.    pytest tests/test_simsiam.py"""

import json
import math
import pathlib
import re
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from augment import Augment
from optim import SGD
from resnet import resnet
from simsiam import (BN, D, SimSiam, collapsed, cross_entropy, effective_rank, linear_bn_relu, main,
                     negative_cosine, output_std, prediction_mlp, projection_mlp)
from strategies import gradients, normal, seeds, tiny, views
from utils.data import draw_shapes

# ------------------------------------------------------------------------------------------------
# D

# Apart from one, these laws allow for another safeguard against rows of zeros, as in p / (‖p‖ + ε).


@given(seeds, st.integers(1, 9), st.integers(2, 9))
def test_the_negative_cosine_is_exact_to_the_rounding_of_float64(seed, n, d):
    p, z = normal(seed, n, d), normal(seed + 1, n, d)
    expected = -(p * z).sum(dim=1) / (p.norm(dim=1) * z.norm(dim=1))
    assert torch.allclose(negative_cosine(p, z), expected, rtol=0, atol=1e-12)


@given(seeds, st.integers(1, 9), st.integers(2, 9))
def test_D_lies_between_its_minimum_minus_one_and_one(seed, n, d):
    p, z = normal(seed, n, d), normal(seed + 1, n, d)
    assert -1 - 1e-6 <= D(p, z) <= 1 + 1e-6
    assert D(p, p).item() == pytest.approx(-1, abs=1e-6)
    assert D(p, -p).item() == pytest.approx(1, abs=1e-6)


@given(seeds, st.floats(0.01, 100), st.floats(0.01, 100))
def test_D_does_not_depend_on_the_lengths_of_p_and_z(seed, a, b):
    p, z = normal(seed, 5, 7), normal(seed + 1, 5, 7)
    assert D(a * p, b * z).item() == pytest.approx(D(p, z).item(), abs=1e-6)


@given(seeds)
def test_D_ignores_a_common_rotation_is_symmetric_and_changes_sign_with_p(seed):
    p, z = normal(seed, 5, 7), normal(seed + 1, 5, 7)
    rotation = torch.linalg.qr(normal(seed + 2, 7, 7)).Q
    for same in (D(p @ rotation, z @ rotation), D(z, p), -D(-p, z)):
        assert same.item() == pytest.approx(D(p, z).item(), abs=1e-6)


@given(seeds, st.floats(0, math.pi))
def test_D_of_rows_at_an_angle_is_minus_the_cosine_of_the_angle(seed, angle):
    p, q = torch.linalg.qr(normal(seed, 4, 7, 2)).Q.unbind(dim=2)  # p and q orthogonal, length 1
    z = math.cos(angle) * p + math.sin(angle) * q
    assert D(p, z).item() == pytest.approx(-math.cos(angle), abs=1e-6)


@given(seeds, st.integers(2, 9))
def test_D_is_the_mean_over_rows_in_any_order(seed, n):
    p, z = normal(seed, n, 7), normal(seed + 1, n, 7)
    rows = [D(p[i : i + 1], z[i : i + 1]).item() for i in range(n)]
    assert D(p, z).item() == pytest.approx(sum(rows) / n, abs=1e-6)
    order = torch.randperm(n)
    assert D(p[order], z[order]).item() == pytest.approx(D(p, z).item(), abs=1e-6)


@given(seeds)
def test_D_is_half_the_squared_distance_of_the_normalised_vectors_minus_one(seed):
    p, z = normal(seed, 5, 7), normal(seed + 1, 5, 7)
    distance = (F.normalize(p, dim=1) - F.normalize(z, dim=1)).square().sum(dim=1)
    assert D(p, z).item() == pytest.approx((distance / 2 - 1).mean().item(), abs=1e-6)


@given(seeds, st.floats(0.1, 10))
def test_the_gradient_is_inversely_proportional_to_the_length_of_p(seed, a):
    p, z = normal(seed, 5, 7).requires_grad_(), normal(seed + 1, 5, 7)
    once, scaled = (torch.autograd.grad(D(c * p, z), p)[0] / c for c in (1, a))
    assert torch.allclose(scaled, once / a, atol=1e-6)


@given(seeds)
def test_no_gradient_reaches_z_and_the_gradient_of_p_is_orthogonal_to_p(seed):
    p, z = normal(seed, 5, 7).requires_grad_(), normal(seed + 1, 5, 7).requires_grad_()
    D(p, z).backward()
    assert z.grad is None
    assert (p.grad * p).sum(dim=1).abs().max() < 1e-6
    assert p.grad.abs().max() > 0


@given(seeds, st.integers(2, 30))
def test_the_cross_entropy_is_summed_over_channels(seed, d):
    assert cross_entropy(torch.zeros(3, d), torch.zeros(3, d)).tolist() == pytest.approx(
        [math.log(d)] * 3
    )
    p, z = normal(seed, 4, d), normal(seed + 1, 4, d)
    expected = F.cross_entropy(p, F.softmax(z, dim=1), reduction="none")
    assert torch.allclose(cross_entropy(p, z), expected, atol=1e-9)


@given(seeds)
def test_a_row_of_zeros_has_cosine_zero_and_a_finite_gradient(seed):
    p, z = normal(seed, 3, 7), normal(seed + 1, 3, 7)
    p[0] = z[1] = 0
    p.requires_grad_()
    cosines = negative_cosine(p, z)
    assert cosines[:2].tolist() == [0, 0] and cosines[2] != 0
    cosines.sum().backward()
    assert p.grad.isfinite().all()


@given(seeds)
def test_D_compares_by_the_similarity_it_is_given(seed):
    p, z = normal(seed, 5, 7), normal(seed + 1, 5, 7)
    got = D(p, z, similarity=cross_entropy)
    assert got.item() == pytest.approx(cross_entropy(p, z).mean().item(), abs=1e-9)


# ------------------------------------------------------------------------------------------------
# Algorithm 1


@given(seeds)
def test_the_loss_is_Eq_4_the_asymmetric_loss_is_Eq_3_and_z1_is_returned(seed):
    x1, x2 = views(seed)
    for symmetry in ("symmetric", "asymmetric"):
        model = tiny(seed, symmetry=symmetry)
        loss, returned = model(x1, x2)
        z1, z2 = model.f(x1), model.f(x2)
        one, two = D(model.h(z1), z2).item(), D(model.h(z2), z1).item()
        expected = one / 2 + two / 2 if symmetry == "symmetric" else one
        assert loss.item() == pytest.approx(expected, abs=1e-9)
        assert torch.allclose(returned, z1, atol=1e-9)


@given(seeds)
def test_the_loss_is_symmetric_in_the_views_and_the_asymmetric_loss_is_not(seed):
    x1, x2 = views(seed)
    assert tiny(seed)(x1, x2)[0].item() == pytest.approx(tiny(seed)(x2, x1)[0].item(), abs=1e-9)
    one_way = tiny(seed, symmetry="asymmetric")
    assert abs(one_way(x1, x2)[0] - one_way(x2, x1)[0]) > 1e-6


@given(seeds, st.sampled_from(["cosine", "cross-entropy"]))
def test_with_stop_gradient_the_targets_are_constants(seed, similarity):
    model, (x1, x2) = tiny(seed, similarity=similarity), views(seed)
    got = gradients(model, model(x1, x2)[0])
    z1, z2 = model.f(x1), model.f(x2)
    t1, t2 = (torch.tensor(z.tolist(), dtype=torch.float64) for z in (z1, z2))
    loss = model.D(model.h(z1), t2) / 2 + model.D(model.h(z2), t1) / 2
    for name, expected in gradients(model, loss).items():
        assert torch.allclose(got[name], expected, atol=1e-9)


@given(seeds)
def test_the_targets_come_from_the_current_network_not_from_the_initial_one(seed):
    model, (x1, x2) = tiny(seed), views(seed)
    gradients(model, model(x1, x2)[0])
    SGD([model.parameters()]).step(0.5)
    z1, z2 = model.f(x1), model.f(x2)
    expected = D(model.h(z1), z2) / 2 + D(model.h(z2), z1) / 2
    assert model(x1, x2)[0].item() == pytest.approx(expected.item(), abs=1e-9)


@given(seeds)
def test_stop_gradient_changes_only_the_gradient_of_the_encoder(seed):
    x1, x2 = views(seed)
    with_it, without = (gradients(model, model(x1, x2)[0])
                        for model in (tiny(seed), tiny(seed, stopgrad=False)))
    for name in with_it:
        same = torch.allclose(with_it[name], without[name], atol=1e-12)
        assert same == name.startswith("h."), name


@given(seeds)
def test_the_offset_of_f_s_last_BN_has_a_gradient_only_without_stop_gradient(seed):
    x1, x2 = views(seed)
    with_it, without = (gradients(model, model(x1, x2)[0])["projector.4.bias"].norm()
                        for model in (tiny(seed), tiny(seed, stopgrad=False)))
    assert with_it < 1e-12 < 1e-6 < without


@given(seeds)
def test_without_a_predictor_stop_gradient_merely_halves_the_gradient(seed):
    x1, x2 = views(seed)
    models = (tiny(seed, predictor="none", stopgrad=stopgrad) for stopgrad in (True, False))
    with_it, without = (gradients(model, model(x1, x2)[0]) for model in models)
    for name in with_it:
        assert torch.allclose(2 * with_it[name], without[name], atol=1e-9)


@pytest.mark.parametrize("switches", [
    {"predictor": "none"}, {"predictor": "fixed"}, {"stopgrad": False}, {"symmetry": "asymmetric"},
    {"similarity": "cross-entropy"}, {"bn": "no-affine"}], ids=str)
def test_a_switch_changes_neither_the_first_weights_of_f_nor_the_random_numbers_after(switches):
    drawn = []
    for options in {}, switches:
        torch.manual_seed(0)
        model = SimSiam(resnet("resnet8", "cifar"), 16, 2, **options)
        weights = [w for w in (*model.backbone.parameters(), *model.projector.parameters())
                   if w.ndim > 1]
        drawn.append([*weights, torch.rand(3)])
    assert all(map(torch.equal, *drawn))


@given(seeds)
def test_a_fixed_predictor_computes_what_a_trained_one_does(seed):
    fixed, trained = tiny(seed, predictor="fixed"), tiny(seed)
    trained.load_state_dict(fixed.state_dict())
    x1, x2 = views(seed)
    assert torch.equal(fixed(x1, x2)[0], trained(x1, x2)[0])


@given(seeds)
def test_a_fixed_predictor_gets_no_gradient_and_passes_it_on(seed):
    model = tiny(seed, predictor="fixed")
    grads = gradients(model, model(*views(seed))[0])
    assert grads and not [name for name in grads if name.startswith("h.")]


def test_each_view_has_its_own_batch_statistics():
    model, (x1, x2) = tiny(), views(0)
    model(x1, x2)
    bn = model.projector[1]
    first, second = (model.projector[0](model.backbone(x)).mean(dim=0) for x in (x1, x2))
    assert bn.num_batches_tracked == 2
    assert torch.allclose(bn.running_mean, 0.9 * 0.1 * first + 0.1 * second)


@given(seeds, st.sampled_from(sorted(BN)))
def test_in_eval_mode_rows_are_independent_and_in_train_mode_BN_mixes_them(seed, bn):
    model, (x, _) = tiny(seed, bn=bn), views(seed)
    outputs = lambda x: torch.cat([model.f(x), model.h(model.f(x))], dim=1)
    alone = lambda: torch.cat([outputs(x[:3]), outputs(x[3:])])
    assert torch.allclose(outputs(x), alone(), atol=1e-9) == (bn == "none")
    model.eval()
    assert torch.allclose(outputs(x), alone(), atol=1e-9)


# ------------------------------------------------------------------------------------------------
# The heads


# Table 3, written out: BN on the projector's hidden and output layers, on the predictor's.
TABLE_3 = {"none": "- - - -", "hidden": "BN - BN -", "default": "BN BN BN -", "all": "BN BN BN BN",
           "no-affine": "BN BN BN -"}


@given(seeds, st.floats(0.5, 4), st.floats(-3, 3))
def test_BN_ignores_the_length_of_the_weights_before_it_and_their_gradient_is_orthogonal_to_them(
        seed, length, offset):
    _, bn, relu = linear_bn_relu(6, 4, bn=True, relu=True)
    x, v, bn = normal(seed, 12, 6), normal(seed + 1, 12, 4), bn.double()
    w = normal(seed + 2, 4, 6).requires_grad_()
    bn.eps = 1e-12  # so small that the law holds up to rounding
    layer = lambda w, b: relu(bn(x @ w.T + b))
    y = layer(w, 0.0)
    assert torch.allclose(layer(length * w, offset), y)
    (y * v).sum().backward()
    assert torch.allclose((w.grad * w).sum(dim=1), torch.zeros(4).double(), atol=1e-8)
    if y.any():
        assert w.grad.any()


@pytest.mark.parametrize("bn", BN)
def test_BN_sits_where_Table_3_says_and_no_bias_precedes_it(bn):
    hidden, output, pred_hidden, pred_output = (word == "BN" for word in TABLE_3[bn].split())
    layers = [*projection_mlp(10, 8, 3, bn), None, *prediction_mlp(8, 2, bn), None]
    fcs = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    for i, expected in zip(fcs, (hidden, hidden, output, pred_hidden, pred_output), strict=True):
        assert isinstance(layers[i + 1], nn.BatchNorm1d) == expected
        assert (layers[i].bias is None) == expected


def test_neither_output_has_a_ReLU_and_only_no_affine_lacks_scale_and_offset():
    for bn in BN:
        layers = [*projection_mlp(10, 8, 3, bn), *prediction_mlp(8, 2, bn)]
        last = layers[len(projection_mlp(10, 8, 3, bn)) - 1]
        assert not isinstance(last, nn.ReLU) and not isinstance(layers[-1], nn.ReLU)
        for layer in [layer for layer in layers if isinstance(layer, nn.BatchNorm1d)]:
            assert layer.affine == (bn != "no-affine" or layer is not last)


@given(seeds)
def test_the_last_BN_gives_z_mean_0_and_variance_1_and_p_is_free(seed):
    model, (x, _) = tiny(seed), views(seed)
    z = model.f(x)
    p = model.h(z)
    assert z.mean(dim=0).abs().max() < 1e-9
    before = model.projector[:-1](model.backbone(x)).var(dim=0, correction=0)
    assert torch.allclose(z.var(dim=0, correction=0), before / (before + 1e-5))  # BN's epsilon
    assert (p.var(dim=0, correction=0) - 1).abs().max() > 0.01


def test_the_heads_have_the_papers_parameter_counts():
    count = lambda module: sum(w.numel() for w in module.parameters())
    # Sec. 3: three fc of 2048 x 2048, each with a BN of 2 x 2048
    assert count(projection_mlp(2048)) == 3 * (2048 * 2048 + 2 * 2048)
    # App. D on ResNet-18: 512 x 2048, then 2048 x 2048
    assert count(projection_mlp(512, depth=2)) == 512 * 2048 + 2048 * 2048 + 2 * 2 * 2048
    assert count(prediction_mlp()) == 2048 * 512 + 2 * 512 + 512 * 2048 + 2048


# ------------------------------------------------------------------------------------------------
# The measures of collapse


def test_output_std_is_one_for_a_Gaussian_and_zero_for_a_constant():
    assert output_std(normal(0, 4000, 64)).item() == pytest.approx(1, abs=0.01)
    assert output_std(normal(0, 1, 64).expand(100, 64)).item() == pytest.approx(0, abs=1e-9)


def test_output_std_misses_a_collapse_onto_two_opposite_rows_and_the_rank_does_not():
    u = torch.ones(1, 64, dtype=torch.float64)
    z = torch.cat([u, -u]).repeat(50, 1)
    assert output_std(z).item() == pytest.approx(1)
    assert effective_rank(z).item() == pytest.approx(1, abs=1e-3)


@given(seeds, st.integers(2, 40), st.integers(2, 40), st.floats(-5, 5))
def test_output_std_is_at_most_one_and_the_rank_at_most_min_N_d(seed, n, d, offset):
    z = normal(seed, n, d) + offset
    assert 0 <= output_std(z) <= 1 + 1e-9
    assert 1 <= effective_rank(z) <= min(n, d) * (1 + 1e-5)


@given(seeds, st.integers(2, 20), st.integers(2, 10))
def test_the_measures_equal_their_definitions_written_as_loops(seed, n, d):
    z = normal(seed, n, d)
    rows = [[v / math.hypot(*row) for v in row] for row in z.tolist()]
    stds = [torch.tensor(c, dtype=torch.float64).std(correction=0).item() for c in zip(*rows)]
    assert output_std(z).item() == pytest.approx(sum(stds) / d * math.sqrt(d), abs=1e-9)
    s = torch.linalg.eigvalsh(z.T @ z).clamp(min=0).sqrt().tolist()
    shares = [v / sum(s) for v in s if v > 1e-6]
    entropy = -sum(share * math.log(share) for share in shares)
    assert effective_rank(z).item() == pytest.approx(math.exp(entropy), rel=1e-4)


@given(seeds, st.floats(0.1, 10))
def test_the_effective_rank_does_not_change_with_scale_or_rotation(seed, scale):
    z = normal(seed, 20, 8)
    rotation = torch.linalg.qr(normal(seed + 1, 8, 8)).Q
    assert effective_rank(scale * z @ rotation).item() == pytest.approx(effective_rank(z).item())


@given(st.integers(1, 12), st.integers(12, 20))
def test_the_effective_rank_of_k_equal_singular_values_is_k(k, d):
    z = torch.zeros(30, d, dtype=torch.float64)
    z[:k, :k] = torch.eye(k)
    assert effective_rank(z).item() == pytest.approx(k, rel=1e-4)


def called_collapsed(z):
    return collapsed(output_std(z), effective_rank(z))


@given(seeds, st.integers(2, 40))
def test_a_constant_and_rows_on_one_line_are_collapsed_and_a_Gaussian_is_not(seed, d):
    u, z = normal(seed, 1, d), normal(seed, 100, d)
    signs = z[:, :1].sign()
    for outputs in (u.expand(100, d), signs * u, z[:, :1] * u, u + 1e-3 * z * u.norm() / d**0.5):
        assert called_collapsed(outputs)
    assert not called_collapsed(normal(seed, 400, max(d, 4)))


@given(st.integers(1, 12))
def test_k_equal_directions_are_collapsed_only_if_k_is_one(k):
    z = torch.eye(k, 12, dtype=torch.float64).repeat(10, 1)
    z = torch.cat([z, -z])  # so that their mean is no direction of its own
    assert called_collapsed(z) == (k == 1)


def test_a_BN_without_affine_amplifies_what_is_left_and_hides_a_collapse_from_std_and_rank():
    z = 5 + 0.1 * normal(0, 200, 16)
    assert called_collapsed(z) and not called_collapsed(F.batch_norm(z, None, None, training=True))


def test_NaN_is_not_called_collapsed():
    assert not collapsed(math.nan, math.nan)


# The rows of the logs whose runs have collapsed, by what a reader sees in them, and how many of
# their runs have. All other runs have not.
COLLAPSED = {
    # all outputs the same, or nearly so: std up to 0.03
    "shapes/no-stopgrad": 3, "shapes/no-stopgrad-epochs-40": 3,
    "shapes/timed-no-stopgrad-two-threads": 1, "shapes/predictor-none": 3,
    "shapes/predictor-none-symmetry-asymmetric": 3,
    "photographs/predictor-none-symmetry-asymmetric": 3,
    "shapes/bn-none-warmup-epochs-1": 3,
    "shapes/method-moco-symmetry-asymmetric": 2, "shapes/held-out-lr-20": 1,
    "shapes/averaged-SGD-held-out-lr-20": 1, "shapes/SGD-no-momentum-held-out-lr-200": 1,
    "photographs/no-stopgrad": 3, "photographs/no-stopgrad-epochs-10": 3,
    "photographs/predictor-none": 3, "photographs/Adam-lr-0.8": 3,
    # one direction has most of the outputs' length, though not all have the same sign
    "shapes/no-stopgrad-bn-no-affine": 3,
    "shapes/Nesterov-held-out-lr-20": 1, "shapes/Adam-held-out-lr-0.2": 1,
    "photographs/method-swav-no-stopgrad": 1, "photographs/bn-none-warmup-epochs-1": 2,
    "photographs/no-stopgrad-bn-no-affine": 3, "photographs/Nesterov-held-out-lr-8-epochs-2": 1,
    "shapes/Adam-lr-2": 1,
    # the same, yet their features are good: kNN 67.9 and 67.7 %
    "shapes/orthogonal_predictor": 1, "shapes/Adam-lr-0.02": 1,
}


def test_the_rule_calls_the_collapsed_runs_of_the_logs_collapsed_and_no_other():
    results, found = pathlib.Path(__file__).parent.parent / "experiments/results", Counter()
    for path in results.glob("*/logs/*.jsonl"):
        first, *_, last = map(json.loads, path.read_text().splitlines()[1:])
        assert not collapsed(first["std"], first["rank"]), path  # an untrained network
        if collapsed(last["std"], last["rank"]):
            found[f"{path.parts[-3]}/{re.sub('-seed-[0-9]+$', '', path.stem)}"] += 1
    assert found == COLLAPSED


# ------------------------------------------------------------------------------------------------
# The walk through one batch


def walk(stopgrad, steps):
    """What main() prints of one column, by torch's own functions and optimiser."""
    torch.manual_seed(0)
    model = SimSiam(resnet("resnet8", "cifar"), dim=32, proj_layers=2)  # only f and h are used
    sgd = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    x, curve = draw_shapes(16, 24, tint=0.02, seed=0)[0], []
    for step in range(steps + 1):
        x1, x2 = (Augment(24, [0.5] * 3, [0.25] * 3, 0.4, blur_p=0)(x) for _ in range(2))
        z1, z2 = model.f(x1), model.f(x2)
        p1, p2 = model.h(z1), model.h(z2)
        t1, t2 = (z.detach() if stopgrad else z for z in (z1, z2))
        terms = -F.cosine_similarity(p1, t2).mean(), -F.cosine_similarity(p2, t1).mean()
        L = sum(terms) / 2
        if step == 0:
            lengths = [number for v in (z1, p1) for number in v.norm(dim=1).aminmax()]
            by_z = torch.autograd.grad(terms[0], (z1, t2), retain_graph=True) if not stopgrad else [
                *torch.autograd.grad(terms[0], z1, retain_graph=True), torch.zeros(1)]
        sgd.zero_grad()
        L.backward()
        if step == 0:
            by_f = [w.grad.square().sum() for n, w in model.named_parameters() if n[:2] != "h."]
            first, backward = [*lengths, *terms, L], [*(g.norm() for g in by_z), sum(by_f) ** 0.5]
        if step % 10 == 0:
            unit, s = z1 / z1.norm(dim=1, keepdim=True), torch.linalg.svdvals(z1)
            std = unit.var(dim=0, correction=0).sqrt().mean() * math.sqrt(32)
            curve.append([L, std, torch.special.entr(s / s.sum()).sum().exp()])
        sgd.step()
    return first, backward, curve


def test_the_walk_prints_what_torchs_own_functions_compute_and_fits_a_terminal(capsys):
    main()
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) <= 42
    (first, *one), (_, *two) = walk(True, 20), walk(False, 20)
    expected = first + [v for a, b in zip(*(run[0] for run in (one, two))) for v in (a, b)]
    expected += [v for a, b in zip(one[1], two[1]) for v in (*a, *b)]
    got = [number for line in lines for number in re.findall(r"-?\d+\.\d+", line)]
    assert len(got) > len(expected)  # by the last two rows, to which rounding errors may have grown
    for number, value in zip(got, expected):
        unit = 10.0 ** -len(number.partition(".")[2])
        assert abs(float(number) - value.item()) <= 0.6 * unit, (number, value)
    assert any(re.fullmatch(r" +collapsed +no +yes", line) for line in lines)
    blocked = [line for line in lines if " 0.000 " in line]  # the gradient that detach() stops
    assert len(blocked) == 1 and "of D(p1, z2) w.r.t. z2, the target" in blocked[0]
