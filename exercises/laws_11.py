"""The laws of exercise 11: LARS."""

from functools import partial

import torch

from exercises import exercise
from exercises.exercise import show
from optim import LARS

BLANKS = ["optim.py:LARS.direction"]
READ = ("App. A, linear evaluation; You et al. (arXiv 1708.03888); the docstrings of LARS and of"
        " LARS.direction in optim.py.")
demand = partial(exercise.demand, rtol=1e-4, atol=1e-8)


def direction(weights, gradient, **options):
    """What LARS adds to the velocity of these weights; their momentum plays no part."""
    w = torch.tensor(weights, requires_grad=True)
    w.grad = torch.tensor(gradient)
    with torch.no_grad():
        return LARS([[w]], **options).direction(w)


def law_a_matrix_moves_in_proportion_to_its_length():
    """The direction of a matrix has the length trust · ‖w‖, and points along the gradient."""
    # ‖w‖ = 5, ‖g‖ = 2 and 10
    demand(direction([[3.0, 4.0]], [[0.0, 2.0]]), [[0.0, 0.005]], "Weights [[3, 4]], gradient"
           " [[0, 2]], trust 0.001: the direction must be")
    demand(direction([[3.0, 4.0]], [[6.0, 8.0]], trust=0.1), [[0.3, 0.4]], "Weights [[3, 4]],"
           " gradient [[6, 8]], trust 0.1: the direction must be")


def law_the_length_of_the_gradient_does_not_matter():
    """How long the gradient of a matrix is does not matter."""
    for factor in (0.001, 1.0, 1000.0):
        demand(direction([[3.0, 4.0]], [[0.0, -factor]]), [[0.0, -0.005]], "Weights [[3, 4]],"
               f" gradient [[0, {-factor:g}]], trust 0.001: the direction must be")


def law_weight_decay_comes_before_the_norm():
    """Weight decay is part of d = g + λ w, whose direction and whose norm count."""
    # d = (1, 0) + (3, 4) = (4, 4), to be scaled to the length 0.005
    demand(direction([[3.0, 4.0]], [[1.0, 0.0]], weight_decay=1.0), [[0.0035355, 0.0035355]],
           "Weights [[3, 4]], gradient [[1, 0]], weight decay 1, trust 0.001: d is [[4, 4]], and"
           " the direction must be")


def law_a_vector_moves_as_its_gradient_says():
    """A vector (a bias, or BN's γ or β) gets its gradient, without ratio and weight decay."""
    demand(direction([3.0, 4.0], [1.0, 0.0], weight_decay=1.0), [1.0, 0.0], "Weights [3, 4] (a"
           " vector), gradient [1, 0], weight decay 1: the direction must be")


def law_one_ratio_for_the_whole_matrix():
    """A matrix, or a convolution's weight of four dimensions, has one ratio for all its entries."""
    # ‖w‖ = 5, ‖g‖ = √2
    demand(direction([[3.0], [4.0]], [[1.0], [1.0]]), [[0.0035355], [0.0035355]], "Weights"
           " [[3], [4]], gradient [[1], [1]], trust 0.001: the direction must be")
    demand(direction([[[[3.0]]], [[[4.0]]]], [[[[0.0]]], [[[2.0]]]]), [[[[0.0]]], [[[0.005]]]],
           "Weights [[[[3]]], [[[4]]]] (a convolution's), gradient [[[[0]]], [[[2]]]], trust 0.001:"
           " the direction must be")


def law_zero_weights_can_start():
    """Where the weights are all zeros the ratio is 1, so that they can leave zero."""
    demand(direction([[0.0, 0.0]], [[0.5, 1.0]]), [[0.5, 1.0]], "Weights [[0, 0]], gradient"
           " [[0.5, 1]]: the direction must be")


def law_no_gradient_no_NaN():
    """Where d is all zeros the direction is zero as well, not NaN."""
    demand(direction([[3.0, 4.0]], [[0.0, 0.0]]), [[0.0, 0.0]], "Weights [[3, 4]], gradient"
           " [[0, 0]], no weight decay: the direction must be")
    demand(direction([[3.0, 4.0]], [[-3.0, -4.0]], weight_decay=1.0), [[0.0, 0.0]], "Weights"
           " [[3, 4]], gradient [[-3, -4]], weight decay 1: d is [[0, 0]], and the direction must"
           " be")


def law_weights_and_gradient_stay():
    """Weights and gradient stay as they are: step() moves the weights."""
    w = torch.tensor([[3.0, 4.0]], requires_grad=True)
    w.grad = torch.tensor([[1.0, 0.0]])
    with torch.no_grad():
        LARS([[w]], weight_decay=1.0).direction(w)
    demand(w.detach(), [[3.0, 4.0]], "After direction(w) the weights must still be")
    demand(w.grad, [[1.0, 0.0]], "After direction(w) the gradient must still be")


def law_scaled_weights_scale_the_direction():
    """Twice the weights give twice the direction, so a step turns them by the same angle."""
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        w, g = torch.randint(-3, 4, (2, 2, 2), generator=generator).float()
        w[0, 0], g[1, 1] = 5.0, 1.0  # neither may be all zeros
        once, twice = (direction((c * w).tolist(), g.tolist()) for c in (1, 2))
        demand(twice, 2 * once, f"Weights {show(2 * w)} instead of {show(w)}, gradient {show(g)}:"
               " the direction must be twice the other,")
        length = once.norm().item()
        demand(length, 0.001 * w.norm().item(), f"Weights {show(w)}, gradient {show(g)}, trust"
               " 0.001: the direction's length must be")
