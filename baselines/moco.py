"""MoCo v2 (He et al., arXiv 1911.05722; Chen et al., 2003.04297): a queue of negative samples.

    python train.py --method moco                        symmetric, as in SimSiam's Table 4
    python train.py --method moco --symmetry asymmetric  as in its own papers

    q = f(x1) query, k = f_t(x2) key, both of length 1; f_t the momentum encoder
    L = -log(exp(q.k / T) / (exp(q.k / T) + sum over the queue of exp(q.k- / T)))

The queue holds the last K keys, first in, first out, two an image if symmetric; they are constants.
here: K = 1024 on shapes, which has 4096 images, 8192 on small photographs (65536 on ImageNet);
m = 0.99 (0.999); SimSiam's SGD and recipe at a quarter of its lr (base lr 0.03); BN is not shuffled
between GPUs, for there is one, so that a query might know its key by the batch's statistics.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from simsiam import fc

T = 0.2  # temperature of MoCo v2


class MoCo(nn.Module):
    """Two views in, loss out; there is no predictor.

    backbone: a network with (N, backbone.features) outputs   queue: K   dim: d of queries and keys
    symmetry: "symmetric" or "asymmetric"   encoder_momentum: m in [0, 1)
    """

    views = 2
    lr_scale = 0.25  # of SimSiam's lr, at which one seed of two collapsed: the head has no BN

    def __init__(self, backbone, queue, dim=128, symmetry="symmetric", encoder_momentum=0.99):
        super().__init__()
        c = backbone.features
        self.backbone = backbone
        self.projector = nn.Sequential(*fc(c, c, False, relu=True), *fc(c, dim, False, relu=False))
        self.h = nn.Identity()
        self.target = copy.deepcopy(nn.Sequential(self.backbone, self.projector))
        self.target.requires_grad_(False)
        self.symmetric, self.m = symmetry == "symmetric", encoder_momentum
        self.register_buffer("queue", F.normalize(torch.randn(queue, dim), dim=1))
        self.register_buffer("next", torch.zeros((), dtype=torch.long))  # place in the queue

    def f(self, x):
        """The encoder, backbone and projector: (N, 3, H, W) -> (N, d)."""
        return self.projector(self.backbone(x))

    @torch.no_grad()
    def f_t(self, x):
        """Keys, of length 1: (N, 3, H, W) -> (N, d)."""
        return F.normalize(self.target(x), dim=1)

    @torch.no_grad()
    def follow(self):
        """w_t <- m w_t + (1 - m) w, for the weights w that the last step has left."""
        online = nn.Sequential(self.backbone, self.projector).parameters()
        for w_t, w in zip(self.target.parameters(), online, strict=True):
            w_t.lerp_(w, 1 - self.m)

    def info_nce(self, z, k):
        """-log of the share of the own key among it and the queue.   z, k: (N, d)   returns: ()"""
        q = F.normalize(z, dim=1)
        own, others = (q * k).sum(dim=1, keepdim=True), q @ self.queue.clone().T  # (N, 1), (N, K)
        logits = torch.cat([own, others], dim=1) / T
        return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))

    @torch.no_grad()
    def enqueue(self, k):
        """The keys k, (N, d), take the places of the oldest."""
        k = k[-len(self.queue) :]
        self.queue[(self.next + torch.arange(len(k), device=k.device)) % len(self.queue)] = k
        self.next += len(k)

    def forward(self, x1, x2):
        """One pair of views, (N, 3, H, W) each -> loss (), projections z1 (N, d)."""
        self.follow()
        z1, k2 = self.f(x1), self.f_t(x2)
        L = self.info_nce(z1, k2)
        if self.symmetric:
            z2, k1 = self.f(x2), self.f_t(x1)
            L = L / 2 + self.info_nce(z2, k1) / 2
            self.enqueue(k1)
        self.enqueue(k2)
        return L, z1
