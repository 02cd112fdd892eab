"""The laws of optim.py; the oracle is torch.optim.    pytest tests/test_optim.py"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds

from optim import LARS, SGD, cosine_lr, scaled_lr


def weights(seed, dtype=torch.float32):
    """A matrix and a vector."""
    torch.manual_seed(seed)
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in ((4, 3), (5,))]


def set_gradients(ws, seed):
    torch.manual_seed(seed)
    for w in ws:
        w.grad = torch.randn_like(w)


# ------------------------------------------------------------------------------------------------
# SGD


@given(
    seeds,
    st.sampled_from([0.0, 0.5, 0.9]),
    st.sampled_from([0.0, 1e-4, 0.1]),
    st.floats(0, 1),
    st.integers(1, 6),
)
def test_SGD_equals_torch_optim_SGD_bit_for_bit(seed, momentum, weight_decay, lr, steps):
    ours, theirs = weights(seed), weights(seed)
    a = SGD([ours], momentum, weight_decay)
    b = torch.optim.SGD(theirs, lr, momentum, weight_decay=weight_decay, foreach=False)
    for step in range(steps):
        set_gradients(ours, seed + step)
        set_gradients(theirs, seed + step)
        a.step(lr)
        b.step()
    for w, v in zip(ours, theirs):
        assert torch.equal(w, v)


@given(seeds, st.sampled_from([0.0, 0.5, 0.9]), st.sampled_from([0.0, 0.1]), st.floats(0.01, 1))
def test_SGD_moves_by_the_velocity_that_momentum_and_decay_leave_up_to_rounding(
        seed, momentum, weight_decay, lr):
    ws, expected = weights(seed), [w.detach().clone() for w in weights(seed)]
    v = [torch.zeros_like(w) for w in expected]
    sgd = SGD([ws], momentum, weight_decay)
    for step in range(3):
        set_gradients(ws, seed + step)
        v = [momentum * v_i + w.grad + weight_decay * e for v_i, w, e in zip(v, ws, expected)]
        expected = [e - lr * v_i for e, v_i in zip(expected, v)]
        sgd.step(lr)
    assert all(torch.allclose(w, e, atol=1e-5) for w, e in zip(ws, expected))


@given(seeds)
def test_each_group_moves_at_its_own_learning_rate_and_stays_at_zero(seed):
    ws, before = weights(seed), weights(seed)
    set_gradients(ws, seed + 1)
    SGD([ws[:1], ws[1:]]).step(0.0, 0.5)
    assert torch.equal(ws[0], before[0])
    assert torch.equal(ws[1], before[1] - 0.5 * ws[1].grad)


def test_parameters_without_a_gradient_stay_even_with_weight_decay():
    ws, before = weights(0), weights(0)
    SGD([ws], weight_decay=0.1).step(1.0)
    assert all(torch.equal(w, v) for w, v in zip(ws, before))


def test_an_optimizer_restored_from_its_state_takes_the_same_next_step():
    ws, copies = weights(0), weights(0)
    a, b = SGD([ws]), SGD([copies])
    for seed in range(2):  # only a gathers momentum
        set_gradients(ws, seed)
        a.step(0.1)
    for copy, w in zip(copies, ws):
        copy.data.copy_(w.data)
    b.load_state_dict(a.state_dict())
    set_gradients(ws, 2)
    set_gradients(copies, 2)
    a.step(0.1)
    b.step(0.1)
    assert all(torch.equal(w, v) for w, v in zip(ws, copies))


@pytest.mark.parametrize("optimizer", [SGD, LARS])
@pytest.mark.parametrize("lrs", [[0.1], [0.1, 0.2, 0.3]])
def test_every_group_needs_a_learning_rate_and_no_more_are_taken(optimizer, lrs):
    ws = weights(0)
    set_gradients(ws, 1)
    with pytest.raises(ValueError):
        optimizer([ws[:1], ws[1:]]).step(*lrs)


# ------------------------------------------------------------------------------------------------
# LARS


@given(seeds, st.floats(0.01, 1), st.floats(1e-4, 0.1))
def test_the_first_LARS_step_of_a_matrix_has_length_lr_times_trust_times_norm(seed, lr, trust):
    ws, before = weights(seed, torch.float64), weights(seed, torch.float64)
    set_gradients(ws, seed + 1)
    LARS([ws], weight_decay=0.1, trust=trust).step(lr)
    expected = lr * trust * before[0].norm().item()
    assert (ws[0] - before[0]).norm().item() == pytest.approx(expected, rel=1e-9)
    # A vector moves as in SGD, and without decay.
    assert torch.allclose(ws[1], before[1] - lr * ws[1].grad)


def test_two_steps_of_LARS_have_its_momentum_and_its_decayed_gradient_as_direction():
    (w, _), v = weights(0, torch.float64), 0.0
    lars, by_hand = LARS([[w]], momentum=0.7, weight_decay=0.3, trust=0.5), w.detach().clone()
    for seed in (1, 2):
        set_gradients([w], seed)
        d = w.grad + 0.3 * by_hand
        v = 0.7 * v + 0.5 * by_hand.norm() / d.norm() * d
        by_hand -= 0.1 * v
        lars.step(0.1)
        assert torch.allclose(w, by_hand)


@given(seeds, st.integers(-8, 8))
def test_LARS_moves_a_matrix_independently_of_the_scale_of_the_gradient(seed, exponent):
    ours, scaled = weights(seed)[:1], weights(seed)[:1]
    a, b = LARS([ours]), LARS([scaled])
    for step in range(3):
        set_gradients(ours, seed + step)
        set_gradients(scaled, seed + step)
        scaled[0].grad.mul_(2.0**exponent)
        a.step(0.1)
        b.step(0.1)
    assert torch.allclose(ours[0], scaled[0], atol=1e-6)


@given(seeds, st.floats(0.1, 10))
def test_LARS_from_a_scaled_matrix_follows_the_scaled_trajectory(seed, c):
    ours, scaled = weights(seed, torch.float64)[:1], weights(seed, torch.float64)[:1]
    scaled[0].data.mul_(c)
    a, b = LARS([ours]), LARS([scaled])
    for step in range(3):
        for ws, factor in ((ours, 1), (scaled, 1 / c)):
            set_gradients(ws, seed + step)
            ws[0].grad.mul_(factor)
        a.step(0.1)
        b.step(0.1)
    assert torch.allclose(c * ours[0], scaled[0], rtol=1e-9, atol=1e-12)


def test_the_trust_ratio_of_LARS_is_1_for_zero_weights_and_zero_gradients():
    for w, g in ((torch.zeros(2, 2), torch.ones(2, 2)), (torch.ones(2, 2), torch.zeros(2, 2))):
        expected = w - 0.1 * g
        w.requires_grad_().grad = g
        LARS([[w]]).step(0.1)
        assert torch.equal(w, expected)


# ------------------------------------------------------------------------------------------------
# The learning rate


@given(st.integers(1, 4096), st.floats(1e-3, 10))
def test_the_learning_rate_is_proportional_to_the_batch_size(batch_size, base_lr):
    assert scaled_lr(base_lr, 256) == base_lr
    assert scaled_lr(base_lr, batch_size) == pytest.approx(batch_size * scaled_lr(base_lr, 1))


@given(st.integers(2, 500))
def test_the_cosine_schedule_equals_torchs_and_falls_from_lr_to_zero(steps):
    schedule = [cosine_lr(0.3, step, steps) for step in range(steps + 1)]
    assert schedule[0] == 0.3 and schedule[steps] == pytest.approx(0, abs=1e-12)
    assert all(a >= b for a, b in zip(schedule, schedule[1:]))
    assert all(schedule[t] + schedule[steps - t] == pytest.approx(0.3) for t in range(steps + 1))
    optimizer = torch.optim.SGD(weights(0), lr=0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(min(steps, 20)):
        assert theirs.get_last_lr()[0] == pytest.approx(schedule[step])
        optimizer.step()
        theirs.step()


@given(st.integers(1, 50), st.integers(1, 100))
def test_the_warm_up_rises_in_equal_steps_to_lr_and_the_cosine_follows(warmup, rest):
    schedule = [cosine_lr(1.0, step, warmup + rest, warmup) for step in range(warmup + rest)]
    assert schedule[:warmup] == pytest.approx([(t + 1) / warmup for t in range(warmup)])
    assert schedule[warmup:] == pytest.approx([cosine_lr(1.0, t, rest) for t in range(rest)])
