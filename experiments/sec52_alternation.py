"""Section 5.2, multi-step alternation: the targets η are computed for k steps at once.

    python -m experiments.sec52_alternation

    L(θ, η) = E ‖F_θ(T(x)) - η_x‖²   η_x: a vector for each image x                      (Eq. 5)
    min over θ and η of L(θ, η)                                                          (Eq. 6)
    θ ← argmin_θ L(θ, η)             η is a constant: the stop-gradient                  (Eq. 7)
    η ← argmin_η L(θ, η)                                                                 (Eq. 8)
    η_x ← F_θ(T'(x))                 approximately so, from a single view T'(x)          (Eq. 10)

If SimSiam alternates after every SGD step (Eq. 11 is Eq. 10 put into Eq. 7), it is the case k = 1.
Then k steps on θ towards one η should also work. At the first of k steps η is computed from
views of the k batches and kept: the first batch trains on these very views, each later one on
fresh views. The predictor stays.

here: an epoch has fewer steps than the paper's 2502, which makes "an epoch" a shorter alternation.
Where it has no more than 100 there is no row of 100 steps.
"""

import contextlib
import math
import sys

import torch
from torch import nn

from experiments.claims import all_above, none_collapsed
from experiments.logs import SCALES
from experiments.table import Claim, Row, main


@contextlib.contextmanager
def running_statistics_kept(model):
    """Within this block BN normalises by the batch but does not update its running statistics."""
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0  # running ← (1 - momentum) running + momentum · batch
    yield
    for layer, momentum in zip(layers, before):
        layer.momentum = momentum


def targets(run, k, x1, x2):
    """Eq. 8 by a single view (Eq. 10): η for this batch and those after it, k batches in all.

    x1, x2: views of the batch of this step, run.state.step   k: a number, or math.inf
    returns: [(η1, η2), ...], of x1 and x2, then of fresh run.two_views(indices) of each later
    batch; all (N, d), by the encoder run.model.f as it is now, without gradient and with BN's
    running statistics kept
    If fewer than k are left in the epoch, only these. An epoch is run.steps_per_epoch steps, each
    on the next run.args.batch_size indices of run.state.order.
    """
    N, S = run.args.batch_size, run.steps_per_epoch
    i = run.state.step % S
    # The step itself updates BN's statistics; a second update would differ from SimSiam.
    with torch.no_grad(), running_statistics_kept(run.model):
        eta = [(run.model.f(x1), run.model.f(x2))]
        for j in range(i + 1, min(i + k, S)):
            x1, x2 = run.two_views(run.state.order[j * N : (j + 1) * N])
            eta.append((run.model.f(x1), run.model.f(x2)))
    return eta


def loss(model, x1, x2, eta1, eta2):
    """Eq. 5 for a step of Eq. 7: Eq. 4 with the targets η1 of x1, η2 of x2 in place of z1, z2.

    model: a SimSiam, of which only f, h and D are used   x1, x2: (N, 3, S, S)
    eta1, eta2: (N, d) constants   returns: the loss (), and z1 (N, d)
    """
    z1, z2 = model.f(x1), model.f(x2)
    return model.D(model.h(z1), eta2) / 2 + model.D(model.h(z2), eta1) / 2, z1


def alternation(k):
    """A study: Eq. 6 by turns: η for the next k batches (Eq. 8), then an SGD step on each (Eq. 7).

    k: 1 is Eq. 11, SimSiam; math.inf for all batches of an epoch, which η never outlives
    """
    def study(run):
        def loss_fn(x1, x2):
            # One pair for each batch to come; in the state, so that checkpoints hold it.
            eta = run.state.extra.setdefault("eta", [])
            if not eta:
                eta += targets(run, k, x1, x2)
            return loss(run.model, x1, x2, *eta.pop(0))

        return loss_fn

    study.__name__ = f"alternation-{'epoch' if k == math.inf else k}"
    return study


ONE, TEN, HUNDRED, EPOCH = "1 step (SimSiam)", "10 steps", "100 steps", "an epoch"


def ROWS(scale):
    images = 50_000 if scale in ("photographs", "cifar") else 4096
    longer = images // SCALES[scale].recipe["batch_size"] > 100  # else 100 steps are an epoch
    return [
        Row(ONE, "", 68.1),
        Row(TEN, "", 68.7, alternation(10)),
        *[Row(HUNDRED, "", 68.9, alternation(100))] * longer,
        Row(EPOCH, "", 67.0, alternation(math.inf)),
    ]


def CLAIMS(scale):
    steps = [row.label for row in ROWS(scale) if row.label in (TEN, HUNDRED)]
    return [
        Claim("Targets that are up to an epoch old cost at most two points (paper: 1.1)",
              all_above(ONE, *steps, EPOCH, by=-2)),
        Claim(f"{' and '.join(steps)} are better than 1 step", all_above(ONE, *steps)),
        Claim("No interval leads to collapse", none_collapsed),
    ]

if __name__ == "__main__":
    main(sys.modules[__name__])
