"""The optimisers and the learning rate, by hand: SGD, LARS, cosine decay with warm-up.

Sec. 3 pre-trains with plain SGD; LARS serves the linear classifier at its batch of 4096 (App. A).
The learning rate is an argument of step(), one number per group of parameters: nothing about the
schedule hides in the optimiser, train.py computes it from the number of the step.
"""

import math

import torch


class SGD:
    """SGD with momentum: v <- momentum v + (g + weight_decay w), w <- w - lr v.

    groups: lists of parameters, each with a learning rate of its own at every step.
    App. A decays all parameters, scale and offset of BN included. Bit for bit torch.optim.SGD.
    """

    def __init__(self, groups, momentum=0.9, weight_decay=0.0):
        self.groups = [list(group) for group in groups]
        self.momentum, self.weight_decay = momentum, weight_decay
        self.velocity = [[torch.zeros_like(w) for w in group] for group in self.groups]

    def direction(self, w):
        """g + weight_decay w, the gradient of the loss with the penalty; same shape as w."""
        return w.grad.add(w, alpha=self.weight_decay)

    @torch.no_grad()
    def step(self, *lrs):
        """Move every parameter that has a gradient; lrs: one learning rate per group."""
        for group, velocities, lr in zip(self.groups, self.velocity, lrs, strict=True):
            for w, v in zip(group, velocities):
                if w.grad is not None:
                    v.mul_(self.momentum).add_(self.direction(w))
                    w.sub_(v, alpha=lr)

    def zero_grad(self):
        for group in self.groups:
            for w in group:
                w.grad = None

    def state_dict(self):
        return {"velocity": self.velocity}

    def load_state_dict(self, state):
        for mine, saved in zip(self.velocity, state["velocity"], strict=True):
            for v, s in zip(mine, saved, strict=True):
                v.copy_(s)


class LARS(SGD):
    """SGD on directions of length trust ||w|| for each matrix w (You et al., arXiv 1708.03888).

    The ratio trust ||w|| / ||g + weight_decay w|| is applied before the momentum, and vectors
    (biases, BN) move as in SGD without decay: the form of MoCo v3 and MAE.
    """

    def __init__(self, groups, momentum=0.9, weight_decay=0.0, trust=0.001):
        super().__init__(groups, momentum, weight_decay)
        self.trust = trust

    def direction(self, w):
        if w.ndim <= 1:
            return w.grad
        g = super().direction(w)
        norms = w.norm(), g.norm()
        ratio = self.trust * norms[0] / norms[1]
        return g * torch.where((norms[0] > 0) & (norms[1] > 0), ratio, 1.0)


def scaled_lr(base_lr, batch_size):
    """Linear scaling, Sec. 3: lr = base lr x batch size / 256."""
    return base_lr * batch_size / 256


def cosine_lr(lr, step, steps, warmup_steps=0):
    """The learning rate of a step, 0 <= step < steps: linear warm-up, then half a cosine to 0.

    here: it changes at every step, where the official code changes it once an epoch.
    """
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / (steps - warmup_steps)
    return lr * 0.5 * (1 + math.cos(math.pi * progress))
