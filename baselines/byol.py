"""BYOL (Grill et al., arXiv 2006.07733): the targets come from a slow copy of the encoder.

    python train.py --method byol

    w_t ← m w_t + (1 - m) w                       w_t, w: weights of f_t and f (BYOL's Eq. 1)
    L = D(p1, f_t(x2)) / 2 + D(p2, f_t(x1)) / 2   p = h(f(x)); no gradient flows into f_t

What differs: a target comes from f_t, a moving average of the encoder f, and not from f itself.
Otherwise, in this code, only the heads differ. The paper calls SimSiam "BYOL without the momentum
encoder", subject to many implementation differences (Sec. 6.2). With m = 0 (`--encoder-momentum 0`)
our runs did not collapse. For that BYOL reports 0.3 % (Table 5), in version 3 on arXiv also 5.5 %
(Table 21), and 66.6 or 66.9 % if the predictor's learning rate is ten times the encoder's (Tables
21 and 22; footnote 2 of SimSiam cites 66.9).

here: BYOL's loss is the squared distance between p / ‖p‖ and z / ‖z‖, which is 2 + 2 D, summed over
both views: 4 + 4 L. For SGD, scaling the loss is much like scaling the learning rate.
here: m = 0.95 on shapes, whose run has only 1280 steps, else 0.99 (BYOL's value for 100 epochs);
it is constant, where BYOL raises it to 1 in the course of a run.
here: except in Appendix D's recipe, h's learning rate does not decay (BYOL's does), so its ratio to
the encoder's grows in the course of a run. By BYOL's Table 21 a high ratio can replace momentum.
here: hidden layers of width 512 (BYOL: 4096), output layers with a bias (its code: without).
here: SimSiam's views, SGD and recipe (BYOL, for 100 epochs: one view blurred more than the other,
solarisation, LARS, base lr 0.45, weight decay 1e-6).
"""

import copy

import torch
from torch import nn

from simsiam import D, linear_bn_relu


def mlp(c_in, hidden, dim):
    """Either head: (N, c_in) -> (N, dim), with BN on the hidden layer only; Sec. 3.3 of BYOL."""
    layers = linear_bn_relu(c_in, hidden, bn=True, relu=True)
    layers += linear_bn_relu(hidden, dim, bn=False, relu=False)
    return nn.Sequential(*layers)


@torch.no_grad()
def momentum_update(target, online, m):
    """Move the weights of `target` towards those of `online`: w_t ← m w_t + (1 - m) w.

    target, online: modules with the same parameters in the same order; target changes in place
    m: in [0, 1]; 0 copies `online`, 1 leaves `target` as it is
    Buffers, such as BN's running statistics, are left alone.
    ValueError if one has more parameters than the other
    """
    # Not the buffers: the target's own statistics belong to its own outputs.
    for w_t, w in zip(target.parameters(), online.parameters(), strict=True):
        w_t.lerp_(w, 1 - m)  # w_t + (1 - m)(w - w_t)


class BYOL(nn.Module):
    """BYOL without its optimiser: two views in, loss and projections out.

    backbone: a network (N, 3, H, W) -> (N, backbone.num_features)   encoder_momentum: m in [0, 1)
    dim, pred_dim: width of both heads' outputs, and of their hidden layers
    """

    def __init__(self, backbone, encoder_momentum, dim=256, pred_dim=512):
        super().__init__()
        self.backbone = backbone
        self.projector = mlp(backbone.num_features, pred_dim, dim)
        self.h = mlp(dim, pred_dim, dim)
        # It has no gradient, so no optimiser ever moves it.
        # here: it starts as a copy of f; in the authors' code it has random weights of its own.
        self.target = copy.deepcopy(nn.Sequential(self.backbone, self.projector))
        self.target.requires_grad_(False)
        self.m = encoder_momentum

    def f(self, x):
        """The encoder, backbone and projector: (N, 3, H, W) -> (N, d)."""
        return self.projector(self.backbone(x))

    @torch.no_grad()
    def f_t(self, x):
        """The target encoder: (N, 3, H, W) -> (N, d)."""
        return self.target(x)  # in train mode, as f: its BN normalises by the batch's statistics

    def forward(self, x1, x2):
        """Two views x1, x2 (N, 3, H, W) -> the loss (), and z1 (N, d) to be measured."""
        # The update after a step is done here, before the next one: train.py need not know of it.
        momentum_update(self.target, nn.Sequential(self.backbone, self.projector), self.m)
        z1, z2 = self.f(x1), self.f(x2)  # (N, d)
        p1, p2 = self.h(z1), self.h(z2)  # (N, d)
        return D(p1, self.f_t(x2)) / 2 + D(p2, self.f_t(x1)) / 2, z1
