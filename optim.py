"""The optimisers, SGD and LARS, and the learning rate's schedule (Sec. 3, App. A), written out.

    v ← m v + (g + λ w)       velocity: m momentum, g gradient of the loss, λ weight decay
    w ← w - η v               η learning rate

    η = lr · batch size / 256                         linear scaling (Sec. 3)
    η_k = η / 2 · (1 + cos(π k / K))                  cosine decay, for the steps k = 0 ... K - 1

Sec. 3 pre-trains with plain SGD, where SimCLR and BYOL use LARS. For SimSiam the paper uses LARS
only for the linear classifier, whose batch is 4096 (App. A).

η is an argument of step(), one number per group of parameters. An optimiser here has no schedule
inside: train.py and lineval.py compute η from the number of the step, so a resumed run has
nothing to catch up on.
"""

import math

import torch


class SGD:
    """Stochastic gradient descent with momentum and weight decay.

    v ← m v + (g + λ w), then w ← w - η v; in the first step v is 0
    param_groups: lists of parameters w, one per learning rate that step() is given
    momentum: m in [0, 1), 0.9 in Sec. 3   weight_decay: λ ≥ 0
    It computes bit for bit what torch.optim.SGD computes.
    """

    def __init__(self, param_groups, momentum=0.9, weight_decay=0.0):
        self.param_groups = [list(group) for group in param_groups]
        self.momentum, self.weight_decay = momentum, weight_decay
        self.velocity = [[torch.zeros_like(w) for w in group] for group in self.param_groups]

    def direction(self, w):
        """g + λ w: the gradient of the loss and of the penalty λ / 2 · ‖w‖²; the shape of w."""
        # No exceptions: App. A decays biases and BN's γ and β too, which SimCLR and BYOL leave out.
        # What decay is for: BN cancels the length of the weights in front of it. Their gradient is
        # at right angles to them, so that every step makes them longer; and the longer they are,
        # the less a step turns them. Decay shortens them again.
        return w.grad.add(w, alpha=self.weight_decay)

    @torch.no_grad()
    def step(self, *lrs):
        """Move every parameter that has a gradient, and its velocity v in self.velocity.

        v becomes m v + self.direction(w).
        lrs: the learning rate η of each group; ValueError if their numbers differ
        A parameter without gradient (None) stays as it is, whatever the weight decay.
        """
        for group, velocities, lr in zip(self.param_groups, self.velocity, lrs, strict=True):
            # Decay alone would shrink weights without gradient, such as Table 1 (b)'s fixed h.
            moving = [(w, v) for w, v in zip(group, velocities) if w.grad is not None]
            if not moving:
                continue
            # torch._foreach_NAME_ calls NAME_ for all tensors of a list, on a GPU in few kernels:
            # launching one for each small tensor takes longer than the arithmetic.
            w, v = zip(*moving)
            torch._foreach_mul_(v, self.momentum)
            # A sum, not a mean: for a constant g it approaches g / (1 - m), here 10 g.
            torch._foreach_add_(v, [self.direction(w_i) for w_i in w])
            # η stays out of the sum, so a new η acts on all of v at once.
            torch._foreach_add_(w, v, alpha=-lr)

    def zero_grad(self):
        for group in self.param_groups:
            for w in group:
                w.grad = None  # backward() adds to what is there

    def state_dict(self):
        """What a checkpoint needs besides the parameters themselves."""
        return {"velocity": self.velocity}

    def load_state_dict(self, state):
        for own, saved in zip(self.velocity, state["velocity"], strict=True):
            for v, saved_v in zip(own, saved, strict=True):
                v.copy_(saved_v)


class LARS(SGD):
    """SGD with layer-wise adaptive rate scaling: steps in proportion to a matrix's own length.

    d = g + λ w, then v ← m v + t ‖w‖ / ‖d‖ · d and w ← w - η v   (You et al., arXiv 1708.03888).
    The trust ratio t ‖w‖ / ‖d‖ is 1 where ‖w‖ or ‖d‖ is 0. Vectors (biases, BN's γ and β) move as
    in SGD, without weight decay. App. A fits the linear classifier with it.
    param_groups, momentum, weight_decay: as in SGD   trust: t > 0
    """

    def __init__(self, param_groups, momentum=0.9, weight_decay=0.0, trust=0.001):
        super().__init__(param_groups, momentum, weight_decay)
        self.trust = trust

    def direction(self, w):
        """The trust ratio times d = g + λ w for a matrix, g for a vector; the shape of w.

        A matrix is anything with two dimensions or more.
        """
        # A bias starts at or near 0: steps in proportion to its length would hardly move it.
        # here: this is the form of MoCo v3 (arXiv 2104.02057). You et al. and the official code
        # (apex's LARC) make no exception for vectors and divide by ‖g‖ + λ ‖w‖; You et al. also
        # have η inside v. The paper does not say which form it uses.
        if w.ndim <= 1:
            return w.grad
        d = super().direction(w)
        w_norm, d_norm = w.norm(), d.norm()
        # Only the direction of d still matters: each step adds a matrix of length t ‖w‖ to the
        # velocity, so even at the high η of a large batch no layer runs away.
        ratio = self.trust * w_norm / d_norm
        # torch.where instead of if, which would wait for the device to compute the norms.
        return d * torch.where((w_norm > 0) & (d_norm > 0), ratio, 1.0)


def scaled_lr(base_lr, batch_size):
    """The learning rate for a batch: η = base_lr · batch_size / 256 (linear scaling, Sec. 3)."""
    # With k times the batch size an epoch has a k-th of the steps, and the gradient, a mean, is no
    # larger: to get as far in an epoch, each step must be k times as long.
    return base_lr * batch_size / 256


def cosine_lr(lr, step, total_steps, warmup_steps=0):
    """The learning rate of a step: linear warm-up to lr, then half a cosine down to 0.

    In the warm-up lr · (step + 1) / warmup_steps, then lr / 2 · (1 + cos(π · progress)), where
    progress runs from 0 at step = warmup_steps to 1 at step = total_steps.
    lr: the highest value   0 ≤ step < total_steps   returns: a float, at most lr
    Sec. 3 has no warm-up; Table 2 warms up batches of 1024 or more for ten epochs.
    """
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps  # + 1: a step of length 0 would be wasted
    # here: η changes at every step. The official code changes it once per epoch.
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return lr * 0.5 * (1 + math.cos(math.pi * progress))
