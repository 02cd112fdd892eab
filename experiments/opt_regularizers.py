"""The course project's study of regularisers: weight decay, spectral norm, clipping, orthogonality.

    python -m experiments.opt_regularizers

The recipe's weight decay, 5e-4, acts on all parameters, BN's scale and offset and biases included,
as App. A's 1e-4 does.
Spectral norm divides each of the predictor's matrices by its largest singular value (one power
iteration per pass), once with and once without decay of the predictor. The BN after the first
matrix ignores its scale, as would the cosine after the second, if h had no last bias: norm and
decay change little more than the effective lr.
Clipping bounds the norm of the whole gradient. Orthogonality adds 0.01 ‖W Wᵀ - I‖² for both
matrices of the predictor (the tall one transposed), which is part of the loss in the table.
(The earlier course project's spectral norm switched off the predictor's decay, and had no result.)
"""

import sys

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from experiments.claims import none_above, none_collapsed
from experiments.table import Claim, Row, main
from optim import SGD

CLIP = 0.5  # the largest norm of a gradient: about the median of a run of the recipe


class Sparing(SGD):
    """SGD without weight decay on the parameters for which spared(w) is true."""

    def __init__(self, optimizer, spared):
        super().__init__(optimizer.param_groups, optimizer.momentum, optimizer.weight_decay)
        self.spared = {id(w) for group in self.param_groups for w in group if spared(w)}

    def direction(self, w):
        # SGD's direction is g + λ w; these parameters move along g.
        return w.grad if id(w) in self.spared else super().direction(w)


class Clipped(SGD):
    """SGD on a gradient whose norm, over all parameters together, is at most CLIP."""

    def step(self, *lrs):
        nn.utils.clip_grad_norm_([w for group in self.param_groups for w in group], CLIP)
        super().step(*lrs)


def matrices_decayed(run):
    """A study: no decay of BN and biases."""
    run.optimizer = Sparing(run.optimizer, lambda w: w.ndim <= 1)
    return run.model


def spectral_predictor(run):
    """A study: spectral norm on the predictor's matrices."""
    for layer in run.model.h:
        if isinstance(layer, nn.Linear):
            # The optimiser's parameter stays; layer.weight becomes a function of it.
            spectral_norm(layer)
    return run.model


def spectral_predictor_undecayed(run):
    """A study: the same, without weight decay of the predictor."""
    loss_fn, h = spectral_predictor(run), set(run.model.h.parameters())
    run.optimizer = Sparing(run.optimizer, lambda w: w in h)
    return loss_fn


def clipped(run):
    """A study: gradient clipping."""
    sgd = run.optimizer
    run.optimizer = Clipped(sgd.param_groups, sgd.momentum, sgd.weight_decay)
    return run.model


def deviation(W):
    """‖W Wᵀ - I‖² (Frobenius), or ‖Wᵀ W - I‖² if W is tall; 0 if all singular values are 1."""
    # The rows of a tall matrix cannot all be orthogonal; its columns can.
    W = W if W.shape[0] <= W.shape[1] else W.T
    return (W @ W.T - torch.eye(len(W), device=W.device, dtype=W.dtype)).square().sum()


def orthogonal_predictor(run):
    """A study: a penalty on predictor matrices that are not orthogonal."""
    matrices = [w for w in run.model.h.parameters() if w.ndim == 2]

    def loss_fn(x1, x2):
        L, z1 = run.model(x1, x2)
        return L + 0.01 * sum(map(deviation, matrices)), z1

    return loss_fn


RECIPE = "weight decay 5e-4 (the recipe)"
ROWS = [
    Row("weight decay 0", "--weight-decay 0"),
    Row("weight decay 1e-5", "--weight-decay 1e-5"),
    Row("weight decay 1e-4", "--weight-decay 1e-4"),
    Row(RECIPE),
    Row("weight decay 1e-3", "--weight-decay 1e-3"),
    Row("5e-4, but not on BN and biases", study=matrices_decayed),
    Row("spectral norm on h", study=spectral_predictor),
    Row("spectral norm on h, h not decayed", study=spectral_predictor_undecayed),
    Row("gradient clipped", study=clipped),
    Row("orthogonal h", study=orthogonal_predictor),
]
CLAIMS = [
    Claim("Nothing collapses", none_collapsed),
    Claim("Nothing is better than the recipe",
          none_above(RECIPE, *(row.label for row in ROWS if row.label != RECIPE))),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
