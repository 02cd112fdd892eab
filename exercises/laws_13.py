"""The laws of exercise 13: the linear probe, and how its learning rate is chosen."""

import contextlib
import itertools
import math

import torch
from torch import nn

import lineval
from exercises.exercise import demand, show
from lineval import LRS, choose_lr, fit, fit_probe, topk_accuracy

BLANKS = ["lineval.py:fit", "lineval.py:fit_probe", "lineval.py:topk_accuracy",
          "lineval.py:choose_lr"]
READ = ("Sec. 3, linear evaluation, and App. A; the comment on the probe and the docstrings of fit,"
        " fit_probe, topk_accuracy and choose_lr in lineval.py.")


@contextlib.contextmanager
def replaced(**functions):
    """A context in which functions of lineval.py are replaced by these."""
    before = {name: getattr(lineval, name) for name in functions}
    vars(lineval).update(functions)
    try:
        yield
    finally:
        vars(lineval).update(before)


# ------------------------------------------------------------------------------------------------
# fit and fit_probe, with an optimizer that writes down what it is told.


class Notes:
    """An optimizer that never moves a weight."""

    last = None

    def __init__(self, param_groups, momentum=0.9, weight_decay=0.0):
        self.param_groups = [list(group) for group in self.checked(param_groups)]
        self.parameters = sum(self.param_groups, [])
        self.momentum, self.weight_decay = momentum, weight_decay
        self.lrs, self.gradients = [], []  # of each step; gradients of the weight (classes, c)
        Notes.last = self

    @staticmethod
    def checked(param_groups):
        groups = list(param_groups)
        assert not any(torch.is_tensor(group) for group in groups), (
            "The optimizer takes a list of groups, each a list of parameters; yours is given"
            " parameters that are in no group.")
        return groups

    def zero_grad(self):
        for w in self.parameters:
            w.grad = None

    def step(self, *lrs):
        self.lrs.append(lrs)
        self.gradients.append([w.grad.clone() for w in self.parameters if w.ndim == 2][0])


class TorchSGD(Notes):
    """torch's SGD, for a probe that must learn something."""

    def __init__(self, param_groups, momentum=0.9, weight_decay=0.0):
        super().__init__(param_groups)
        self.sgd = torch.optim.SGD(self.parameters, 1.0, momentum, weight_decay=weight_decay)

    def step(self, lr):
        self.sgd.param_groups[0]["lr"] = lr
        self.sgd.step()


CALLS = []  # the arguments with which the last run called cosine_lr


def schedule():
    """cosine_lr and scaled_lr are exercise 10; here lr rises, as in no answer by hand."""
    def cosine_lr(lr, step, total_steps, warmup_steps=0):
        CALLS.append((lr, step, total_steps) + (warmup_steps,) * bool(warmup_steps))
        return lr * (1 + step / total_steps)

    CALLS.clear()
    return replaced(scaled_lr=lambda base_lr, batch_size: base_lr * batch_size,
                    cosine_lr=cosine_lr)


def probed(n=8, base_lr=0.5, classes=2, epochs=2, batch_size=2, optimizer=Notes, seed=0):
    """fit_probe's probe of n rows, row i being 2 in column i, else 0; labels 0, 1, 0, 1, ..."""
    torch.manual_seed(seed)
    Notes.last = None
    with schedule():
        probe = fit_probe(2 * torch.eye(n), torch.arange(n) % 2, base_lr, classes, optimizer,
                          epochs, batch_size)
    assert Notes.last, ("fit_probe must make its optimizer from the class that it is given, the"
                        " argument `optimizer`.")
    return probe


def fitted(n=8, base_lr=0.5, epochs=2, batch_size=2, seed=0):
    """The same with fit() alone, for inputs (n, n, 1) that only the function `logits` can read."""
    torch.manual_seed(seed)
    probe = nn.Linear(n, 2)
    nn.init.zeros_(probe.weight), nn.init.zeros_(probe.bias)
    with schedule():
        fit(lambda x: probe(x.squeeze(2)), Notes([probe.parameters()]), 2 * torch.eye(n)[..., None],
            torch.arange(n) % 2, base_lr, epochs, batch_size)


WAYS = {"fit": fitted, "fit_probe": probed}  # fit_probe may have a loop of its own


def batches(way, n, epochs, batch_size, seed=0):
    """The rows of each batch: those whose column has a gradient."""
    WAYS[way](n, epochs=epochs, batch_size=batch_size, seed=seed)
    return [[i for i in range(n) if g[:, i].any()] for g in Notes.last.gradients]


def law_the_probe_is_linear():
    """The probe is one linear layer from the features to the classes, with a bias."""
    probe = probed(n=6, classes=3)
    assert isinstance(probe, nn.Linear), (
        f"fit_probe must return an nn.Linear; yours returns a {type(probe).__name__}.")
    got = probe.in_features, probe.out_features, probe.bias is not None
    assert got == (6, 3, True), ("For 6 features and 3 classes it must be nn.Linear(6, 3) with a"
                                 f" bias; yours is {probe}.")


def law_it_starts_near_zero():
    """Its weights start as Gaussian numbers with std 0.01, its biases at 0."""
    probe = probed(n=50, classes=20, epochs=1)
    demand(probe.weight.std(), 0.01, "Before any step the std of 1000 weights must be", atol=0.0015)
    assert probe.weight.abs().max() > 0.022, (
        "Of 1000 Gaussian numbers with std 0.01 some are beyond ±0.022; of your weights none is.")
    demand(probe.bias.abs().max(), 0.0, "Before any step the largest bias must be")


def law_an_epoch_is_every_row_once():
    """An epoch takes every row once, in batches of batch_size."""
    for way, epoch in itertools.product(WAYS, (0, 1)):
        got = batches(way, 6, 2, 2)[3 * epoch :][:3]
        assert [len(b) for b in got] == [2] * 3 and sorted(sum(got, [])) == [*range(6)], (
            f"{way}, for 6 rows and batches of 2: the batches of epoch {epoch} must take each of"
            f" the rows 0 to 5 once; by the gradients of their steps yours are {got}.")


def law_the_last_incomplete_batch_is_left_out():
    """A last, smaller batch is left out; but if all rows are fewer than a batch, they are one."""
    for way, (n, batch_size, wanted) in itertools.product(WAYS, ((5, 2, [2, 2]), (3, 8, [3]),
                                                                 (4, 4, [4]))):
        got = [len(b) for b in batches(way, n, 1, batch_size)]
        assert got == wanted, (f"{way}, for {n} rows and batch_size {batch_size}: an epoch must"
                               f" have batches of {wanted} rows; yours has {got}.")
    for way in WAYS:
        got = {*sum(batches(way, 5, 30, 2), [])}
        assert got == {*range(5)}, (f"{way}, for 5 rows, batches of 2 and 30 epochs: it must not"
                                    " always be the same row that is left out; yours never takes"
                                    f" the row {min({*range(5)} - got)}.")


def law_every_epoch_has_a_new_order():
    """Every epoch takes the rows in a new random order."""
    for way in WAYS:
        taken = batches(way, 8, 10, 2)
        orders = {str(taken[4 * epoch :][:4]) for epoch in range(10)}
        assert len(orders) > 5, (f"{way}, for 8 rows, batches of 2 and 10 epochs: the epochs must"
                                 " differ in what rows a batch has; yours have"
                                 f" {len(orders)} different orders.")


def law_the_order_follows_torch_s_seed():
    """The random order follows torch's seed, which --seed sets: same seed, same order."""
    for way in WAYS:
        first, again, other = (batches(way, 8, 5, 2, seed) for seed in (0, 0, 1))
        assert first == again, (f"{way}: after torch.manual_seed(0) the batches must be the same"
                                " each time; yours are not.")
        assert first != other, (f"{way}: after torch.manual_seed(0) and torch.manual_seed(1) the"
                                " batches must differ; yours are the same.")


def law_the_loss_is_the_mean_cross_entropy():
    """The loss is the cross-entropy, averaged over the batch, of the current batch alone."""
    # Both classes have a probability near 1/2, and the mean is over two rows, whose number is 2:
    # 2 (1/2 - 1) / 2 for a row's own class, 2 (1/2) / 2 for the other.
    for way in WAYS:
        WAYS[way](n=2, epochs=3, batch_size=2)
        for step, gradient in enumerate(Notes.last.gradients, start=1):
            demand(gradient, [[-0.5, 0.5], [0.5, -0.5]], f"{way}, for two rows [2, 0] and"
                   " [0, 2] with the labels 0 and 1, and weights near 0: the gradient of the"
                   f" weights must at step {step} be about", atol=0.04)


def law_all_of_the_probe_is_trained_without_weight_decay():
    """The optimizer gets weights and biases in one group, momentum 0.9, and no weight decay."""
    probe, notes = probed(), Notes.last
    assert {id(w) for w in notes.parameters} == {id(w) for w in probe.parameters()}, (
        "The optimizer must be given the probe's weight and bias; yours is given parameters of the"
        f" shapes {[list(w.shape) for w in notes.parameters]}.")
    got = notes.momentum, notes.weight_decay
    assert got == (0.9, 0.0), ("The optimizer must have momentum 0.9 and weight decay 0; yours has"
                               f" {got[0]} and {got[1]}.")
    got = len(notes.param_groups), {len(lrs) for lrs in notes.lrs}
    assert got == (1, {1}), ("The optimizer must have one group, and step() one learning rate;"
                             f" yours has {got[0]} and {', '.join(map(str, got[1]))}.")


def law_the_learning_rate_is_scaled_and_decays():
    """The learning rate is base_lr · batch_size / 256, and falls along a cosine over all steps."""
    for way, (n, size) in itertools.product(WAYS, ((8, 4), (5, 2))):
        WAYS[way](n=n, base_lr=256 / size, epochs=2, batch_size=size)
        got = [lr for lr, in Notes.last.lrs]
        what = f"{way}, for {n} rows, batches of {size}, 2 epochs and base_lr {256 / size:g}"
        assert len(got) == 4, f"{what}: there must be 4 steps; yours has {len(got)}."
        # base_lr · size is 256: what scaled_lr returns in this law. By hand it is 1.
        peak = (CALLS or [got])[0][0]
        peak = peak if peak in (1.0, 256.0) else 256.0
        if CALLS:
            wanted = [(peak, step, 4) for step in range(4)]
            assert CALLS == wanted, (
                f"{what}: cosine_lr must be called with {show(wanted)}; yours was called with"
                f" {show(CALLS)}. (In this law scaled_lr returns 256.)")
            demand(got, [peak * share for share in (1.0, 1.25, 1.5, 1.75)], f"{what}: in this law"
                   " cosine_lr returns numbers that rise in a line, and step() must be given")
        else:  # half of 1 + cos 0°, 45°, 90°, 135°
            demand(got, [peak * share for share in (1.0, 0.853553, 0.5, 0.146447)], f"{what} (in"
                   " this law scaled_lr returns 256): the learning rates must be")


def law_the_probe_learns():
    """The probe learns to tell apart two classes that a line separates."""
    torch.manual_seed(0)
    x = torch.randn(200, 2)
    labels = (x[:, 0] > 2 * x[:, 1]).long()
    with schedule():
        probe = fit_probe(x, labels, 0.02, 2, TorchSGD, 20, 20)
    right = (probe(x).argmax(dim=1) == labels).sum().item()
    assert right > 190, ("Of 200 points in a plane, of two classes on either side of a line, more"
                         " than 190 must be classified correctly after the fit; yours are"
                         f" {right}.")


# ------------------------------------------------------------------------------------------------
# topk_accuracy, with a probe whose logits are its inputs.


def identity(classes):
    probe = nn.Linear(classes, classes)
    nn.init.eye_(probe.weight), nn.init.zeros_(probe.bias)
    return probe


def law_the_label_is_among_the_k_largest():
    """A row counts if its label is among the k largest logits."""
    logits = [[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0], [4.0, 1.0, 3.0, 2.0]]
    labels = [0, 1, 3]  # the first, the third and the third in its row
    for k, wanted in ((1, 100 / 3), (2, 100 / 3), (3, 100.0), (4, 100.0)):
        got = topk_accuracy(identity(4), torch.tensor(logits), torch.tensor(labels), k)
        assert isinstance(got, float), ("topk_accuracy must return a float; yours returns a"
                                        f" {type(got).__name__}.")
        demand(got, wanted, f"Logits {show(logits)}, labels {labels}, k = {k}: the percentage must"
               " be")


def law_fewer_classes_than_k():
    """With fewer than k classes every row counts: 100 %."""
    got = topk_accuracy(identity(2), torch.tensor([[1.0, 2.0]]), torch.tensor([0]), 5)
    demand(got, 100.0, "Logits [1, 2], label 0, k = 5: the percentage must be")


def law_logits_that_are_not_finite():
    """A row with logits that are not finite does not count: its probe has diverged."""
    for bad in (math.nan, math.inf):
        probe = identity(2)
        nn.init.constant_(probe.bias, bad)
        got = topk_accuracy(probe, torch.tensor([[1.0, 2.0], [2.0, 1.0]]), torch.tensor([0, 1]), 2)
        demand(got, 0.0, f"Logits all {bad}, labels [0, 1], k = 2: the percentage must be")


# ------------------------------------------------------------------------------------------------
# choose_lr, with stand-ins for the two functions above.


class StandIn(float):
    """Stands for a probe: the learning rate with which it was fitted."""

    def eval(self):
        return self

    def __call__(self, *_):
        raise AssertionError("The probe must be tested by topk_accuracy, which this law replaces;"
                             " yours calls the probe itself.")


def chosen(n=100, accuracies=(20.0, 40.0, 30.0, 10.0), beyond=()):
    """What choose_lr returns and what it did: (lr, rows fitted, rows tested, arguments).

    accuracies: for the lrs of LRS   beyond: {lr: accuracy} of others; the rest have 0
    """
    fits, tests, arguments = [], [], []
    known = {f"{lr:g}": v for lr, v in {**dict(zip(LRS, accuracies)), **dict(beyond)}.items()}

    def fit(x, labels, base_lr, classes, optimizer, epochs, batch_size):
        assert x[:, 0].tolist() == labels.tolist(), (
            "fit_probe is given rows of x with the labels of other rows.")
        fits.append((base_lr, labels.tolist()))
        arguments.append((classes, optimizer, epochs, batch_size))
        return StandIn(base_lr)

    def test(probe, x, labels, k):
        assert x[:, 0].tolist() == labels.tolist(), (
            "topk_accuracy is given rows of x with the labels of other rows.")
        assert k == 1, f"The learning rate is chosen by top-1 accuracy; yours asks for top-{k}."
        tests.append((probe, labels.tolist()))
        return known.get(f"{probe:g}", 0.0)

    torch.manual_seed(0)
    with replaced(fit_probe=fit, topk_accuracy=test):
        rows = torch.arange(n)
        lr = choose_lr(rows[:, None].float(), rows, 10, "optimizer", 3, 4)
    return lr, fits, tests, arguments


def law_every_learning_rate_is_tried():
    """Every learning rate of LRS is tried, with the settings that choose_lr was given."""
    _, fits, tests, arguments = chosen()
    for name, v in (("fitted", fits), ("tested", tests)):
        got = sorted(lr for lr, _ in v)
        assert got == list(LRS), (f"With the best lr inside the learning rates {list(LRS)}, one"
                                  f" probe for each must be {name}; yours are for {got}.")
    assert set(arguments) == {(10, "optimizer", 3, 4)}, (
        "fit_probe must be given the settings (10, 'optimizer', 3, 4) after base_lr; yours is"
        f" given {arguments[0]}.")


def law_the_best_on_the_held_out_rows_wins():
    """The learning rate with the best accuracy is chosen; among equals, the first."""
    for accuracies, wanted in (((20.0, 40.0, 30.0, 10.0), 1.0), ((5.0, 6.0, 7.0, 8.0), 100.0),
                               ((9.0, 6.0, 7.0, 8.0), 0.1), ((7.0, 9.0, 9.0, 8.0), 1.0),
                               ((9.0, 9.0, 7.0, 8.0), 0.1)):
        got = chosen(accuracies=accuracies)[0]
        demand(got, wanted, f"If the accuracies for {list(LRS)} are {list(accuracies)}, the chosen"
               " lr must be")


def law_the_search_goes_on_at_an_edge():
    """While the best lr is the lowest or highest tried, a tenth or ten times it is tried, too."""
    for accuracies, beyond, wanted in (
            ((5.0, 6.0, 7.0, 8.0), {1e3: 9.0, 1e4: 10.0, 1e5: 9.0, 1e6: 50.0}, 1e4),
            ((9.0, 6.0, 7.0, 8.0), {1e-2: 10.0, 1e-3: 11.0, 1e-4: 3.0, 1e-5: 50.0}, 1e-3),
            ((5.0, 6.0, 7.0, 8.0), {1e3: 8.0, 1e4: 50.0}, 100.0),
            ((9.0, 8.0, 7.0, 6.0), {1e-2: 9.0, 1e-3: 50.0}, 0.1)):
        got = chosen(accuracies=accuracies, beyond=beyond)[0]
        known = dict(zip(LRS, accuracies)) | beyond
        demand(got, wanted, f"If the accuracies are {known}, the chosen lr must be")


def law_no_row_is_both_fitted_and_tested():
    """A tenth of the rows is held out: the probe is tested on rows that it was not fitted to."""
    for n, held_out in ((100, 10), (59, 5), (5, 1)):
        _, fits, tests, _ = chosen(n)
        for (lr, fitted_rows), (_, tested) in zip(fits, tests):
            both = set(fitted_rows) & set(tested)
            assert not both, (f"Of {n} rows {len(both)} are both fitted and tested at lr {lr}, such"
                              f" as row {min(both)}; none may be.")
            got = len(fitted_rows), len(tested)
            assert got == (n - held_out, held_out), (
                f"Of {n} rows {n - held_out} must be fitted and {held_out} held out; at lr {lr}"
                f" yours are {got[0]} and {got[1]}.")


def law_the_tenth_is_random_and_the_same_for_all():
    """The held-out rows are drawn at random, once for all learning rates."""
    _, _, tests, _ = chosen()
    rows = [sorted(tested) for _, tested in tests]
    assert all(r == rows[0] for r in rows), (
        "All learning rates must be tested on the same rows; yours are tested on"
        f" {rows[0]} and on {next(r for r in rows if r != rows[0])}, for example.")
    again = sorted(chosen()[2][0][1])
    assert again == rows[0], ("After torch.manual_seed(0) the held-out rows must be the same each"
                              " time; yours are not.")
    gaps = {b - a for a, b in zip(rows[0], rows[0][1:])}
    assert len(gaps) > 1, ("The held-out rows must be drawn at random, as a data set may be sorted"
                           f" by class; yours are {rows[0]}.")
