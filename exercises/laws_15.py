"""The laws of exercise 15: Section 5.2's moving average."""

import torch

from exercises.exercise import demand, show
from experiments.sec52_expectation import moving_average

BLANKS = ["experiments/sec52_expectation.py:moving_average"]
HIDE = ["baselines/byol.py:momentum_update"]
READ = ("Sec. 5.1, Eq. 9 and 10, and Sec. 5.2, expectation over augmentations; the docstrings of"
        " experiments/sec52_expectation.py and of moving_average.")


def averaged(eta, z, m):
    return moving_average(torch.tensor(eta), torch.tensor(z), m)


def law_a_weighted_mean():
    """The new target is m times the old one plus 1 - m times z / ‖z‖."""
    for m, wanted in ((0.8, [[0.92, 0.16]]), (0.5, [[0.8, 0.4]])):
        demand(averaged([[1.0, 0.0]], [[3.0, 4.0]], m), wanted, f"eta [[1, 0]], z [[3, 4]], m ="
               f" {m}: the new target must be")


def law_the_length_of_z_does_not_matter():
    """z is normalised row by row, so its length does not matter."""
    for factor in (0.01, 100.0):
        z = [[3 * factor, 4 * factor], [0.0, factor]]
        demand(averaged([[1.0, 0.0], [1.0, 0.0]], z, 0.5), [[0.8, 0.4], [0.5, 0.5]],
               f"eta [[1, 0], [1, 0]], z {show(z)}, m = 0.5: the new targets must be")


def law_the_target_is_not_normalised_again():
    """The average is not normalised again: opposite views make it short."""
    demand(averaged([[1.0, 0.0]], [[-2.0, 0.0]], 0.8), [[0.6, 0.0]], "eta [[1, 0]], z [[-2, 0]],"
           " m = 0.8: the new target must be")
    demand(averaged([[0.5, 0.0]], [[2.0, 0.0]], 0.8), [[0.6, 0.0]], "eta [[0.5, 0]], z [[2, 0]],"
           " m = 0.8: the new target must be")


def law_without_memory():
    """With m = 0 the target is z / ‖z‖ on every visit."""
    demand(averaged([[1.0, 0.0]], [[3.0, 4.0]], 0.0), [[0.6, 0.8]], "eta [[1, 0]], z [[3, 4]],"
           " m = 0: the new target must be")


def law_every_image_has_its_own_target():
    """Each row of a batch is an image of its own, whatever its target was."""
    eta, z = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[3.0, 4.0], [3.0, 4.0], [0.0, 2.0]]
    demand(averaged(eta, z, 0.5), [[0.3, 0.4], [0.8, 0.4], [0.0, 1.0]], f"eta {show(eta)}, z"
           f" {show(z)}, m = 0.5: the new targets must be")


def law_no_gradient():
    """Targets are constants: no gradient flows through them."""
    z = torch.tensor([[3.0, 4.0], [3.0, 4.0]], requires_grad=True)
    got = moving_average(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), z, 0.8)
    assert not got.requires_grad, "For z with gradient the new targets must have none; yours do."
    assert z.requires_grad, ("z itself must keep its gradient, as the loss needs it; after the call"
                             " yours has none.")


def law_eta_and_z_stay():
    """eta and z stay as they are: the other view of the image needs the same old target."""
    eta, z = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[3.0, 4.0], [3.0, 4.0]])
    moving_average(eta, z, 0.8)
    demand(eta, [[1.0, 0.0], [0.0, 1.0]], "After the call eta must still be")
    demand(z, [[3.0, 4.0], [3.0, 4.0]], "After the call z must still be")


def law_many_visits():
    """After n visits the first target has the weight m to the power n."""
    eta = torch.tensor([[1.0, 0.0]])
    for n in range(1, 6):
        eta = moving_average(eta, torch.tensor([[0.0, 3.0]]), 0.8)
        demand(eta, [[0.8 ** n, 1 - 0.8 ** n]], "eta [[1, 0]], visits with z = [[0, 3]], m = 0.8:"
               f" after visit {n} the target must be")
