"""The laws of exercise 4: two measures of collapse."""

import math

import torch

from exercises.exercise import demand, show
from simsiam import effective_rank, output_std

BLANKS = ["simsiam.py:output_std", "simsiam.py:effective_rank"]
READ = ("Sec. 4.1 with Fig. 2; the docstrings of output_std and effective_rank in simsiam.py;"
        " RankMe, arXiv 2210.02885, Eq. 1.")


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


def normal(n, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def expect(measure, z, wanted, what=None, tolerance=1e-4):
    got = measure(z)
    assert isinstance(got, torch.Tensor) and got.shape == (), (
        f"{measure.__name__} must return a tensor of shape [], a single number; yours returns"
        f" {list(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__}.")
    demand(got, wanted, f"For z = {what or show(z)} {measure.__name__} must be", atol=tolerance)


def law_std_worked_example():
    """output_std is the std of each channel of z / ‖z‖ over the batch, averaged, times √d."""
    # channels (1, 0) and (0, 1), each with std 1/2: the average 1/2, times √2
    expect(output_std, rows([1, 0], [0, 1]), math.sqrt(0.5))
    # channels (1, -1) and (0, 0), with std 1 and 0
    expect(output_std, rows([1, 0], [-1, 0]), math.sqrt(0.5))


def law_std_of_a_constant():
    """If all rows point the same way, output_std is 0, however long they are."""
    expect(output_std, rows([3, 4], [3, 4], [3, 4]), 0)
    expect(output_std, rows([3, 4], [6, 8], [30, 40]), 0)


def law_std_ignores_lengths():
    """The length of a row does not matter, only its direction."""
    for factor in (10, 0.1):
        expect(output_std, rows([factor, 0], [0, 1]), math.sqrt(0.5))


def law_std_is_at_most_one():
    """output_std is at most 1, and 1 if all channels of z / ‖z‖ have mean 0 and equal variance."""
    z = rows([1, 1], [1, -1], [-1, 1], [-1, -1])
    expect(output_std, z, 1)
    for d in (2, 5, 9):
        expect(output_std, torch.cat([torch.eye(d), -torch.eye(d)]).double(), 1,
               f"the {d} unit vectors and their negatives")


def law_std_of_a_Gaussian():
    """For an isotropic Gaussian around 0 output_std is about 1, whatever d is."""
    for d in (4, 64):
        expect(output_std, normal(2000, d), 1, f"2000 Gaussian rows with d = {d}", tolerance=0.02)


def law_rank_of_k_directions():
    """k directions that are used equally have the effective rank k."""
    for k in (1, 2, 5):
        z = torch.zeros(6, 6, dtype=torch.float64)
        z[:k, :k] = 3 * torch.eye(k)
        expect(effective_rank, z, k, f"{k} rows that are 3 times a unit vector each, and zeros",
               tolerance=1e-3)


def law_rank_worked_example():
    """The shares are s / Σ s of the singular values s, not of their squares; the log is natural."""
    # shares 3/4 and 1/4: exp(-(3/4 ln 3/4 + 1/4 ln 1/4)) = 4 / 3^(3/4)
    expect(effective_rank, rows([3, 0], [0, 1]), 4 / 3**0.75)


def law_rank_of_a_constant():
    """A constant output has rank 1, even with a little noise: z is not centred."""
    expect(effective_rank, rows([1, 2, 2], [1, 2, 2]), 1, tolerance=1e-3)
    z = rows([1, 2, 2]) + 1e-6 * normal(20, 3)
    expect(effective_rank, z, 1, "20 times [1, 2, 2], plus noise of 0.000001", tolerance=1e-3)


def law_rank_ignores_scale_and_rotation():
    """Scaling or rotating z does not change its rank."""
    for seed in range(3):
        z, rotation = normal(20, 5, seed), torch.linalg.qr(normal(5, 5, seed + 9)).Q
        wanted = effective_rank(z).item()
        for factor in (0.01, 100):
            expect(effective_rank, factor * z @ rotation, wanted,
                   f"20 Gaussian rows, d = 5, rotated and {factor} times as long")


def law_a_collapse_that_std_misses():
    """Rows that are all u or -u have rank 1, but can have std 1: it takes both measures."""
    u = rows([1, 1, 1, 1])
    z = torch.cat([u, -u] * 4)
    expect(output_std, z, 1, "u, -u, u, -u, ... with u = [1, 1, 1, 1]")
    expect(effective_rank, z, 1, "u, -u, u, -u, ... with u = [1, 1, 1, 1]", tolerance=1e-3)
