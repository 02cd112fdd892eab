"""Section 5.2, multi-step alternation: the targets eta are computed for the next k steps at once.

    python -m experiments.sec52_alternation

If SimSiam is the alternation of Eq. 7 and 8, then k = 1 is SimSiam, and k SGD steps on theta
against targets that stay as they were must work too. The two views of the next k batches are drawn,
eta is computed from each by the network as it is (Eq. 10), and then every batch is trained on: the
prediction for one view against the eta of the other. The predictor stays.

here: an epoch has 32 steps, where the paper's has 2502; so there is no row of 100.

What it printed (AMD EPYC, shapes; one thread a run, the machine shared):

                          linear %         kNN %     s  n
    1 step (SimSiam)    99.7 ± 0.4    99.3 ± 0.5   117  3
    10 steps            99.8 ± 0.2    98.8 ± 0.8    97  3
    an epoch            99.5 ± 0.2    94.6 ± 6.8    99  3
"""

import contextlib
import sys

import torch
from torch import nn

from experiments.table import Claim, Row, collapsed, main, spread, values


@contextlib.contextmanager
def running_statistics_kept(model):
    """BN normalises by the batch, and lets it leave no trace in the running statistics."""
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    yield
    for layer, momentum in zip(layers, before):
        layer.momentum = momentum


def alternation(k=None):
    """Eq. 8 for k batches, or an epoch, at once, then Eq. 7 by a step on each: a make_step."""

    def make_step(run):
        model, state = run.model, run.state

        def targets(indices):
            """x1, x2 and eta of each, by the network of now."""
            x1, x2 = run.views(indices)
            with torch.no_grad(), running_statistics_kept(model):
                return x1, x2, model.f(x1), model.f(x2)

        def loss_of(indices):
            if not state.setdefault("eta", []):  # in the state, so that a checkpoint holds it
                first = state["step"] % run.per_epoch  # eta does not outlive its epoch
                batches = state["order"].split(len(indices))[first : run.per_epoch]
                state["eta"] += map(targets, batches[:k])
            x1, x2, eta1, eta2 = state["eta"].pop(0)
            z1 = model.f(x1)
            p1, p2 = model.h(z1), model.h(model.f(x2))
            return model.D(p1, eta2) / 2 + model.D(p2, eta1) / 2, z1

        return loss_of

    make_step.__name__ = f"alternation-{k or 'epoch'}"
    return make_step


ROWS = [
    Row("1 step (SimSiam)", "", 68.1),
    Row("10 steps", "", 68.7, alternation(10)),
    Row("an epoch", "", "100 steps: 68.9, an epoch: 67.0", alternation()),
]


def close(last):
    means = [spread(values(records, "knn"))[0] for records in last.values()]
    return max(means) - min(means) <= 3


CLAIMS = [
    Claim("All lie within three points (the paper's within 1.9)", close,
          "One of the epoch's seeds has a kNN of 87 %; linear accuracies lie within half a point"),
    Claim("None collapses",
          lambda last: not any(collapsed(r) for records in last.values() for r in records)),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
