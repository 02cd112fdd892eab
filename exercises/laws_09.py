"""The laws of exercise 9: stochastic gradient descent."""

import torch

from exercises.exercise import demand, show
from optim import SGD

BLANKS = ["optim.py:SGD.step"]
READ = ("Sec. 3, baseline settings (optimizer), and App. A on weight decay; the docstrings of"
        " optim.py, of SGD and of SGD.step.")


def parameter(*values, gradient=None):
    """Weights with a gradient."""
    w = torch.tensor(values, requires_grad=True)
    w.grad = None if gradient is None else torch.tensor(gradient)
    return w


def steps(sgd, *lrs):
    """One step per learning rate, of an optimizer with one group."""
    for lr in lrs:
        sgd.step(lr)


def law_a_step_goes_against_the_gradient():
    """The first step subtracts the learning rate times the gradient, whatever the momentum."""
    for momentum in (0.0, 0.9):
        w = parameter(1.0, 2.0, gradient=[0.5, 0.0])
        steps(SGD([[w]], momentum), 0.1)
        demand(w.detach(), [0.95, 2.0], f"Weights [1, 2], gradient [0.5, 0], lr 0.1, momentum"
               f" {momentum}: after the first step the weights must be")


def law_the_velocity_sums_up():
    """The velocity is m times the old one plus the gradient, undamped, and the step follows it."""
    # v = 1, 1.9, 2.71
    for n, wanted in ((2, -2.9), (3, -5.61)):
        w = parameter(0.0, gradient=[1.0])
        steps(SGD([[w]], 0.9), *[1.0] * n)
        demand(w.detach(), [wanted], f"Weight 0, gradient 1 every time, lr 1, momentum 0.9: after"
               f" {n} steps the weight must be")


def law_a_new_learning_rate_acts_on_all_of_the_velocity():
    """The learning rate stays out of the velocity: a new one acts on all of it at once."""
    w = parameter(0.0, gradient=[1.0])
    steps(SGD([[w]], 0.9), 1.0, 0.0)
    demand(w.detach(), [-1.0], "Weight 0, gradient 1 every time, momentum 0.9, one step at lr 1 and"
           " one at lr 0: the weight must be")
    steps(SGD([[w := parameter(0.0, gradient=[1.0])]], 0.9), 1.0, 0.1)
    demand(w.detach(), [-1.19], "Weight 0, gradient 1 every time, momentum 0.9, one step at lr 1"
           " and one at lr 0.1: the weight must be")


def law_weight_decay_is_part_of_the_gradient():
    """Weight decay adds λ w to the gradient, and so to the velocity as well."""
    w = parameter(1.0, gradient=[0.0])
    sgd = SGD([[w]], 0.9, weight_decay=0.1)
    # v = 0.1, then 0.9 · 0.1 + 0.1 · 0.9 = 0.18
    for n, wanted in ((1, 0.9), (2, 0.72)):
        steps(sgd, 1.0)
        demand(w.detach(), [wanted], f"Weight 1, gradient 0, lr 1, momentum 0.9, weight decay 0.1:"
               f" after {n} step{'s' * (n > 1)} the weight must be")


def law_every_parameter_has_its_own_velocity():
    """Every parameter of every group has its own velocity."""
    a, b, c = (parameter(0.0, gradient=[g]) for g in (1.0, 10.0, 100.0))
    sgd = SGD([[a, b], [c]], 0.9)
    sgd.step(1.0, 1.0), sgd.step(1.0, 1.0)
    demand([w.item() for w in (a, b, c)], [-2.9, -29.0, -290.0], "Three weights, 0, with the"
           " gradients 1, 10 and 100, lr 1, momentum 0.9: after two steps they must be")


def law_every_group_has_its_own_learning_rate():
    """Every group moves at its own learning rate, in the order of the groups."""
    a, b = (parameter(1.0, gradient=[1.0]) for _ in range(2))
    SGD([[a], [b]]).step(0.1, 0.5)
    demand([a.item(), b.item()], [0.9, 0.5], "Two groups of one weight 1 each, gradients 1,"
           " step(0.1, 0.5): the weights must be")


def law_the_number_of_learning_rates_must_fit():
    """More or fewer learning rates than groups are a ValueError; no group is left out silently."""
    for lrs in ((0.1,), (0.1, 0.1, 0.1)):
        sgd = SGD([[parameter(1.0, gradient=[1.0])], [parameter(1.0, gradient=[1.0])]])
        call = f"step({', '.join(map(str, lrs))})"
        try:
            sgd.step(*lrs)
        except ValueError:
            continue
        raise AssertionError(f"With two groups {call} must raise a ValueError; yours does not.")


def law_no_gradient_no_step():
    """A parameter whose gradient is None stays as it is, in spite of decay and momentum."""
    frozen, w = parameter(1.0), parameter(1.0, gradient=[1.0])
    sgd = SGD([[frozen, w]], 0.9, weight_decay=0.1)
    steps(sgd, 1.0)
    demand(frozen.detach(), [1.0], "Weight 1, no gradient (None), weight decay 0.1: after a step it"
           " must be")
    demand(w.detach(), [-0.1], "The next weight of the same group, 1 with gradient 1, lr 1 and"
           " weight decay 0.1, must be")
    w.grad = None  # now the whole group has no gradient
    steps(sgd, 1.0)
    demand(w.detach(), [-0.1], "After a second step, for which its gradient is None, it must still"
           " be")


def law_the_velocity_follows_direction():
    """What is added to m v is self.direction(w), which LARS overrides."""
    class Sign(SGD):
        def direction(self, w):
            return w.grad.sign()

    w = parameter(1.0, gradient=[5.0])
    steps(Sign([[w]], 0.9), 0.1)
    demand(w.detach(), [0.9], "Weight 1, gradient 5, lr 0.1, and a class derived from SGD whose"
           " direction() is the gradient's sign: after a step the weight must be")


def law_the_velocity_is_where_checkpoints_find_it():
    """self.velocity holds the velocities, which a checkpoint saves and restores."""
    w = parameter(0.0, gradient=[1.0])
    sgd = SGD([[w]], 0.9)
    steps(sgd, 1.0, 1.0)
    demand(sgd.velocity[0][0], [1.9], "Weight 0, gradient 1, momentum 0.9: after two steps"
           " velocity[0][0] must be")
    w = parameter(0.0, gradient=[1.0])
    resumed = SGD([[w]], 0.9)
    resumed.load_state_dict(sgd.state_dict())
    steps(resumed, 1.0)
    demand(w.detach(), [-2.71], "An optimizer that has loaded the velocity 1.9, weight 0, gradient"
           " 1, lr 1, momentum 0.9: after a step the weight must be")


def law_the_weights_stay_parameters():
    """The weights change in place, and no step becomes part of a later gradient."""
    w = parameter(1.0, 2.0, gradient=[1.0, 1.0])
    steps(SGD([[w]], 0.9, weight_decay=0.1), 0.1, 0.1)
    assert w.requires_grad and w.is_leaf, (
        "After two steps the weights must still be a parameter (requires_grad, and a leaf of the"
        " graph); yours have become the result of a computation.")
    demand(w.grad, [1.0, 1.0], "Gradient [1, 1], weight decay 0.1: after two steps it must be")


def law_torch_agrees():
    """With random numbers the weights are those of torch.optim.SGD."""
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        numbers = torch.randn(7, 2, generator=generator)
        ours, theirs = (numbers[0].clone().requires_grad_() for _ in range(2))
        a = SGD([[ours]], 0.5, weight_decay=0.01)
        b = torch.optim.SGD([theirs], 0.1, 0.5, weight_decay=0.01)
        for n, g in enumerate(numbers[1:], start=1):
            ours.grad, theirs.grad = g.clone(), g.clone()
            a.step(0.1), b.step()
            demand(ours.detach(), theirs.detach(), f"Weights {show(numbers[0])}, gradients"
                   f" {show(numbers[1 : n + 1])}, lr 0.1, momentum 0.5, weight decay 0.01: the"
                   " weights must be")
