"""The laws of exercise 1: the loss D and its stop-gradient."""

import math

import torch

from exercises.exercise import demand, show
from simsiam import D, negative_cosine

BLANKS = ["simsiam.py:negative_cosine", "simsiam.py:D"]
READ = ("Sec. 3, Eq. 1 to 4; the docstrings of simsiam.py, of negative_cosine and of D;"
        " torch.Tensor.detach in PyTorch's manual.")


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


def numbers(seed, n, d):
    """Small random whole numbers, no row of zeros."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randint(-3, 4, (n, d), generator=generator).double()
    v[:, 0] += 7 * (v == 0).all(dim=1)
    return v


def law_one_number_per_row():
    """negative_cosine gives one number for each row of the batch, not one for all."""
    got = negative_cosine(numbers(0, 3, 4), numbers(1, 3, 4))
    assert isinstance(got, torch.Tensor), (
        f"It must return a tensor; yours returns a {type(got).__name__}.")
    assert got.shape == (3,), ("For p and z of 3 rows and 4 columns the shape of"
                               f" negative_cosine(p, z) must be [3]; yours is {list(got.shape)}.")


def law_worked_example():
    """The negative cosine is -(p / ‖p‖) · (z / ‖z‖), Eq. 1."""
    # -(3/5 · 4/5 + 4/5 · 3/5), then rows that point the same way, the opposite way, at 90°
    for p, z, wanted in (([3, 4], [4, 3], -0.96), ([1, 2], [2, 4], -1.0), ([1, 2], [-1, -2], 1.0),
                         ([5, 0], [0, 2], 0.0)):
        demand(negative_cosine(rows(p), rows(z)), [wanted],
               f"For p = {[p]} and z = {[z]} negative_cosine must be")


def law_rows_do_not_mix():
    """Each row of p is compared with the same row of z, whatever the other rows are."""
    for seed in range(5):
        p, z = numbers(seed, 3, 2), numbers(seed + 10, 3, 2)
        got = negative_cosine(p, z)
        for i in range(3):
            alone = negative_cosine(p[i : i + 1], z[i : i + 1])
            demand(got[i], alone[0].item(), f"For p = {show(p)} and z = {show(z)} row {i} must be"
                   " what that row gives on its own,")


def law_lengths_do_not_matter():
    """The length of a row does not matter, only its direction."""
    p, z = rows([3, 4]), rows([4, 3])
    for a, b in ((10, 1), (1, 10), (0.01, 0.5)):
        demand(negative_cosine(a * p, b * z), [-0.96],
               f"For p = {show(a * p)} and z = {show(b * z)} negative_cosine must be")


def law_a_row_of_zeros():
    """A row of zeros counts as cosine 0, not NaN, and its gradient is finite."""
    for p, z in (([0, 0], [3, 4]), ([3, 4], [0, 0])):
        p, z = rows(p).requires_grad_(), rows(z).requires_grad_()
        got = negative_cosine(p, z)
        what = f"For p = {show(p)} and z = {show(z)}"
        demand(got.detach(), [0.0], f"{what} negative_cosine must be")
        for name, v, g in zip("pz", (p, z), torch.autograd.grad(got.sum(), (p, z))):
            assert g.isfinite().all(), (f"{what} the gradient with respect to {name} must be"
                                        f" finite; yours is {show(g)}.")


def law_D_is_the_mean():
    """D is the mean over the rows of the batch, a single number."""
    p, z = rows([3, 4], [1, 0], [0, 2]), rows([3, 4], [0, 5], [0, -1])  # -1, 0 and 1
    demand(D(p, z), 0.0, f"For p = {show(p)} and z = {show(z)} D must be")
    p, z = p[:2].clone(), z[:2].clone()
    demand(D(p, z), -0.5, f"For p = {show(p)} and z = {show(z)} D must be")


def law_the_gradient_of_p():
    """p moves towards z: its gradient is that of Eq. 1."""
    for stopgrad in (True, False):
        p, z = rows([3, 4]).requires_grad_(), rows([4, 3])
        L = D(p, z, stopgrad=stopgrad)
        assert L.requires_grad, f"With stopgrad={stopgrad} no gradient reaches p; it must."
        L.backward()
        # -(z / ‖z‖ - cos · p / ‖p‖) / ‖p‖ = -((0.8, 0.6) - 0.96 (0.6, 0.8)) / 5
        demand(p.grad, [[-0.0448, 0.0336]], f"With stopgrad={stopgrad}, p = [[3, 4]] and"
               " z = [[4, 3]] the gradient of p must be")


def law_stop_gradient():
    """With stopgrad=True z is a constant: no gradient reaches it, Eq. 3."""
    p, z = rows([3, 4]).requires_grad_(), rows([4, 3]).requires_grad_()
    g, = torch.autograd.grad(D(p, z), z, allow_unused=True)
    assert g is None or not g.any(), ("For p = [[3, 4]] and z = [[4, 3]] D(p, z) must give z no"
                                      f" gradient; yours gives it {show(g)}.")


def law_without_stop_gradient():
    """With stopgrad=False z gets the gradient of Eq. 1 as well, as in Eq. 2."""
    p, z = rows([3, 4]).requires_grad_(), rows([4, 3]).requires_grad_()
    g, = torch.autograd.grad(D(p, z, stopgrad=False), z, allow_unused=True)
    assert g is not None, "D(p, z, stopgrad=False) must give z a gradient; yours gives it none."
    demand(g, [[0.0336, -0.0448]], "For p = [[3, 4]] and z = [[4, 3]] the gradient of z must be")


def law_z_stays_in_use():
    """D leaves p and z as they are: z1 is a constant in one term, but predicts in the other."""
    weight = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    p, z = weight * rows([3, 4]), weight * rows([4, 3])
    D(p, z)
    for name, v, wanted in (("p", p, [[6.0, 8.0]]), ("z", z, [[8.0, 6.0]])):
        demand(v.detach(), wanted, f"After D(p, z) {name} must still be")
        assert v.requires_grad, (f"After D(p, z) {name} itself must still have its gradient for"
                                 " other uses; yours has lost it.")


def law_similarity():
    """D compares by any similarity it is given, p first; the stop-gradient acts the same way."""
    farther = lambda p, z: (2 * p - z).sum(dim=1)
    p, z = rows([1, 2], [3, 4]), rows([1, 0], [0, 1])
    for stopgrad in (True, False):
        what = (f"For p = {show(p)}, z = {show(z)}, stopgrad={stopgrad} and a similarity that"
                " returns the sum of 2 p - z in each row")
        # (2 - 1) + (4 - 0) = 5 and (6 - 0) + (8 - 1) = 13
        z.requires_grad_()
        L = D(p.requires_grad_(), z, stopgrad=stopgrad, similarity=farther)
        demand(L, 9.0, f"{what}, D must be")
        g, = torch.autograd.grad(L, z, allow_unused=True)
        demand(torch.zeros(2, 2) if g is None else g, torch.full((2, 2), 0.0 if stopgrad else -0.5),
               f"{what}, the gradient with respect to z must be")


def law_half_a_squared_distance():
    """For rows of length 1, D is half their squared distance, minus 1 (Sec. 3)."""
    for k in range(8):
        a, b = 0.7 * k, 1.3 * k + 0.4
        p, z = rows([math.cos(a), math.sin(a)]), rows([math.cos(b), math.sin(b)])
        demand(D(p, z), ((p - z) ** 2).sum().item() / 2 - 1,
               f"For p = {show(p)} and z = {show(z)} D must be")
