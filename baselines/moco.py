"""MoCo v2 (He et al., arXiv 1911.05722; Chen et al., 2003.04297): a queue of negative samples.

    python train.py --method moco                        symmetric, as in SimSiam's Table 4
    python train.py --method moco --symmetry asymmetric  as in its own papers

    q = f(x1) / ‖f(x1)‖, k = f_t(x2) / ‖f_t(x2)‖         a query and its key; f_t as in BYOL
    L = -log(exp(q·k / T) / (exp(q·k / T) + Σ_j exp(q·k_j / T)))   over the keys k_j of the queue

What differs: a query is not only pulled to its own key but also pushed away from the keys of other
images. It needs no predictor: constant outputs cost log(1 + K), far from the minimum. (On shapes
two of three seeds ended there: with a base lr of 0.5, and with 0.25 if the loss is asymmetric.) The
queue holds the last K keys, first in, first out. f_t must change slowly, so that old keys remain
comparable with new ones.

here: the symmetric loss is the mean of both directions (the demo for CIFAR-10 in
facebookresearch/moco has their sum).
here: K = 1024 on shapes (4096 images), 4096 on CIFAR-100 (8192 with a small network), else 8192 up
to 64 px (MoCo: 65536).
here: m = 0.99, as in that demo (MoCo: 0.999); SimSiam's SGD and recipe, except for the base lr:
0.03 with large networks, as in MoCo, 0.2 with small ones, and 0.25 on shapes.
here: no shuffling BN, which keeps a query from recognising its key by their BN statistics. It needs
a batch that BN normalises in several parts: shuffling within one part changes nothing.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from baselines.byol import momentum_update
from simsiam import linear_bn_relu
from utils.parallel import gather

T = 0.2  # temperature of MoCo v2; the first MoCo had 0.07


class MoCo(nn.Module):
    """MoCo without its optimiser: two views in, loss and projections out; h is the identity.

    backbone: a network (N, 3, H, W) -> (N, backbone.num_features)   queue: K   dim: d
    symmetry: "symmetric" or "asymmetric"   encoder_momentum: m in [0, 1)
    """

    def __init__(self, backbone, queue, dim=128, symmetry="symmetric", encoder_momentum=0.99):
        super().__init__()
        c = backbone.num_features
        self.backbone = backbone
        self.projector = nn.Sequential(*linear_bn_relu(c, c, bn=False, relu=True),
                                       *linear_bn_relu(c, dim, bn=False, relu=False))
        self.h = nn.Identity()
        self.target = copy.deepcopy(nn.Sequential(self.backbone, self.projector))
        self.target.requires_grad_(False)
        self.symmetric, self.m = symmetry == "symmetric", encoder_momentum
        # Buffers, not parameters: a checkpoint holds them, the optimiser does not.
        self.register_buffer("queue", F.normalize(torch.randn(queue, dim), dim=1))  # (K, d)
        self.register_buffer("next", torch.zeros((), dtype=torch.long))  # keys queued so far

    def f(self, x):
        """The encoder, backbone and projector: (N, 3, H, W) -> (N, d)."""
        return self.projector(self.backbone(x))

    @torch.no_grad()
    def f_t(self, x):
        """Keys, of length 1, from the target encoder: (N, 3, H, W) -> (N, d)."""
        return F.normalize(self.target(x), dim=1)

    def info_nce(self, z, k):
        """InfoNCE, averaged over the batch: -log(exp(q·k / T) / Σ exp(q·k' / T)), q = z / ‖z‖.

        k' runs over the query's own key k and the K keys of the queue
        z: (N, d) projections   k: (N, d) keys of length 1   returns: () > 0
        """
        q = F.normalize(z, dim=1)
        own = (q * k).sum(dim=1, keepdim=True)  # (N, 1)
        # A copy, because enqueue() overwrites the queue before backward() needs its values.
        others = q @ self.queue.clone().T  # (N, K)
        logits = torch.cat([own, others], dim=1) / T  # (N, 1 + K)
        # A classification into 1 + K classes, of which number 0 is right for every row.
        return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))

    @torch.no_grad()
    def enqueue(self, k):
        """Put the keys k (N, d) into the queue, in the places of the oldest."""
        k = k[-len(self.queue) :]  # if there are more than K, only the last K
        self.queue[(self.next + torch.arange(len(k), device=k.device)) % len(self.queue)] = k
        self.next += len(k)

    def forward(self, x1, x2):
        """Two views x1, x2 (N, 3, H, W) -> the loss (), and z1 (N, d) to be measured."""
        momentum_update(self.target, nn.Sequential(self.backbone, self.projector), self.m)
        z1, k2 = self.f(x1), self.f_t(x2)  # (N, d)
        L, keys = self.info_nce(z1, k2), [k2]
        if self.symmetric:
            z2, k1 = self.f(x2), self.f_t(x1)
            L, keys = L / 2 + self.info_nce(z2, k1) / 2, [k1, k2]
        # Only now: a key that was already in the queue would be its own query's negative. And not
        # at epoch 0, which only measures: the queue would start with the untrained network's keys.
        if torch.is_grad_enabled():
            for k in keys:
                self.enqueue(gather(k))  # the keys of the whole batch, in its order
        return L, z1
