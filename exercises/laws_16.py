"""The laws of exercise 16: alternating optimisation."""

import math
from types import SimpleNamespace

import torch
from torch import nn

from exercises.exercise import demand, show
from experiments.sec52_alternation import loss, targets

BLANKS = ["experiments/sec52_alternation.py:targets", "experiments/sec52_alternation.py:loss"]
READ = ("Sec. 5.1, Eq. 7, 8 and 10, and Sec. 5.2, multi-step alternation; the docstrings of"
        " experiments/sec52_alternation.py, of targets and of loss.")


class Doubling(nn.Module):
    """f doubles its input, h triples it, and D(p, z) is the mean of p² z."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(3.0))
        self.seen = []  # the inputs of f

    def f(self, x):
        self.seen.append(x)
        return self.a * x

    def h(self, z):
        return self.b * z

    def D(self, p, z):
        return (p**2 * z).mean()


class Normed(nn.Module):
    """f is a BN."""

    def __init__(self):
        super().__init__()
        self.f = nn.BatchNorm1d(1)


def a_run(step, model=None, order=(5, 3, 1, 0, 2, 4, 7, 6, 8), batch_size=2):
    """A run of 4 steps per epoch whose views of image i are i + 0.25 and i + 0.5.

    One image is left over, too few for a batch.
    """
    asked = []

    def two_views(indices):
        asked.append(indices.tolist())
        x = indices.float()[:, None]
        return x + 0.25, x + 0.5

    return SimpleNamespace(
        model=model or Doubling(), two_views=two_views, asked=asked, steps_per_epoch=4,
        state=SimpleNamespace(step=step, order=torch.tensor(order), extra={}),
        args=SimpleNamespace(batch_size=batch_size))


def views(run):
    """Views of the batch of this step."""
    i = run.state.step % 4 * 2
    x = run.state.order[i : i + 2].float()[:, None]
    return x + 0.125, x + 0.375


def computed(step, k):
    """A run, and its targets as lists of numbers [(η1, η2), ...]."""
    run = a_run(step)
    eta = targets(run, k, *views(run))
    pairs = all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in eta)
    assert pairs, f"targets must return a list of pairs (η1, η2); yours is {show(eta)}."
    return run, [tuple(v[:, 0].tolist() for v in pair) for pair in eta]


def law_the_first_pair_is_of_the_views_at_hand():
    """The first pair is the encoder's output for x1 and x2, without new views of that batch."""
    run, eta = computed(step=0, k=1)
    # The batch is images 5 and 3, f doubles.
    demand(eta[0], [[10.25, 6.25], [10.75, 6.75]], "f doubles its input; x1 = [[5.125], [3.125]],"
           " x2 = [[5.375], [3.375]], k = 1: the first pair must be")
    assert not run.asked, ("For k = 1 no new views are needed; yours asks for views of the images"
                           f" {run.asked}.")


def law_k_batches_in_all():
    """There is one pair for each of k batches, the current one included."""
    for k in (1, 2, 3, 4):
        _, eta = computed(step=0, k=k)
        assert len(eta) == k, (f"At step 0 of an epoch of 4, k = {k}: there must be {k} pairs;"
                               f" yours has {len(eta)}.")


def law_targets_end_with_the_epoch():
    """The targets end with the epoch, whatever k is: the order of the next is not known yet."""
    for step, k, wanted in ((0, 10, 4), (2, 10, 2), (3, 2, 1), (5, 2, 2), (5, 10, 3), (7, 10, 1),
                            (0, math.inf, 4), (6, math.inf, 2)):
        _, eta = computed(step, k)
        assert len(eta) == wanted, (f"At step {step}, of 4 steps per epoch, k = {k}: there must be"
                                    f" {wanted} pairs; yours has {len(eta)}.")


def law_later_batches_are_those_to_come():
    """Later pairs come from fresh views of the following batches, in the epoch's order."""
    for step, k, wanted in ((0, 3, [[1, 0], [2, 4]]), (1, 10, [[2, 4], [7, 6]]), (6, 10, [[7, 6]])):
        run, eta = computed(step, k)
        assert run.asked == wanted, (
            f"Order of the images {run.state.order.tolist()}, batches of 2, at step {step} with 4"
            f" steps per epoch, k = {k}: views are needed of the images {wanted}; yours asks for"
            f" {run.asked}.")
        for pair, images in zip(eta[1:], wanted):
            demand(pair, [[2 * i + 0.5 for i in images], [2 * i + 1.0 for i in images]],
                   f"f doubles its input; the views of the images {images} are i + 0.25 and"
                   " i + 0.5: their pair must be")


def law_targets_have_no_gradient():
    """Targets are constants: they are computed without gradient."""
    run = a_run(0)
    for i, pair in enumerate(targets(run, 2, *views(run))):
        assert not any(v.requires_grad for v in pair), (
            f"Pair {i} of the targets must have no gradient; yours has one.")


def law_each_view_on_its_own():
    """Each view goes through the encoder on its own, so that BN normalises each by itself."""
    run = a_run(0)
    targets(run, 2, *views(run))
    loss(run.model, *views(run), torch.zeros(2, 1), torch.zeros(2, 1))
    sizes = [len(x) for x in run.model.seen]
    assert sizes == [2] * 6, ("For two batches of 2 images f must be called four times by targets"
                              f" and twice by loss, with 2 rows each; yours: with {sizes} rows.")


def law_BN_normalises_by_the_batch_but_keeps_its_statistics():
    """BN works in train mode, by each batch's own statistics, and its running ones stay."""
    run = a_run(0, Normed())
    eta = targets(run, 2, *views(run))
    demand(eta[0][0], [[1.0], [-1.0]], "f is a BN; x1 = [[5.125], [3.125]]: η1 must be",
           atol=1e-5)  # BN adds 1e-5 to the variance
    demand(run.model.f.running_mean[0], 0.0, "After targets() BN's running mean, 0 before, must be")
    demand(run.model.f.running_var[0], 1.0, "After targets() BN's running variance, 1 before, must"
           " be")
    got = run.model.f.training, run.model.f.momentum
    assert got == (True, 0.1), ("After targets() the network must be in train mode, with BN's"
                                f" momentum at 0.1, as before; yours has {got}.")


def law_each_prediction_meets_the_other_views_target():
    """The loss is Eq. 4 with given targets: each prediction meets the target of the other view."""
    x1, x2 = torch.tensor([[1.0]]), torch.tensor([[2.0]])
    got = loss(Doubling(), x1, x2, torch.tensor([[10.0]]), torch.tensor([[100.0]]))
    assert isinstance(got, (tuple, list)) and len(got) == 2, (
        f"loss must return two things, the loss and z1; yours returns a {type(got).__name__}.")
    L, z1 = got
    # p1 = 6, p2 = 12: 36 · 100 / 2 + 144 · 10 / 2
    demand(L.item(), 2520.0, "f doubles, h triples and D(p, z) is the mean of p² z; x1 = [[1]],"
           " x2 = [[2]], η1 = [[10]], η2 = [[100]]: the loss must be")
    demand(z1.detach(), [[2.0]], "f doubles; x1 = [[1]], x2 = [[2]]: the second result, z1, must"
           " be")


def law_the_gradient_reaches_f_and_h():
    """The gradient of the loss reaches the encoder and the predictor through both predictions."""
    model = Doubling()
    loss(model, torch.tensor([[1.0]]), torch.tensor([[2.0]]), torch.tensor([[10.0]]),
         torch.tensor([[100.0]]))[0].backward()
    # The loss grows with the square of each factor: its slope is 2 · 2520 / 2 and 2 · 2520 / 3.
    for name, w, wanted in (("f's factor", model.a, 2520.0), ("h's factor", model.b, 1680.0)):
        assert w.grad is not None, f"The loss must have a gradient in {name}; yours has none."
        demand(w.grad, wanted, "f multiplies by 2, h by 3 and D(p, z) is the mean of p² z;"
               " x1 = [[1]], x2 = [[2]], η1 = [[10]], η2 = [[100]]: the slope of the loss in"
               f" {name} must be")
