"""Synchronised BN: the mean and variance of the whole batch, in P processes (Sec. 3).

In every process BN sees only a slice of the batch. If it normalised by the slice, the network would
not be that of one process; `--local-bn` shows what changes. The gradient is that of the whole
batch, too, because AllSum is differentiable.
"""

import torch
import torch.nn.functional as F
from torch import nn

from utils.parallel import AllSum, world_size


class SyncBN(nn.modules.batchnorm._BatchNorm):
    """BN with the whole batch's statistics: (n, C) or (n, C, H, W). PyTorch's needs a GPU."""

    def forward(self, x):
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
                                eps=self.eps)
        x, dtype, dims = x.to(self.running_mean.dtype), x.dtype, [0, *range(2, x.ndim)]
        mean = AllSum.apply(x.mean(dims, keepdim=True)) / world_size()  # (1, C, 1, 1)
        # First the mean, then the squares around it. E[x²] - E[x]² needs only one exchange, but in
        # float32 it is rounding noise, even negative, if the mean is 10,000 times the std.
        x = x - mean
        var = AllSum.apply(x.square().mean(dims, keepdim=True)) / world_size()
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.flatten(), self.momentum)
            # `var` divides by M, the running variance by M - 1.
            M = world_size() * x.numel() / x.shape[1]
            self.running_var.lerp_(var.flatten() * (M / (M - 1)), self.momentum)
        scale, shift = (var + self.eps).rsqrt(), torch.zeros_like(mean)
        if self.affine:
            scale, shift = scale * self.weight.view_as(mean), self.bias.view_as(mean)
        return torch.addcmul(shift, x, scale).to(dtype)


def synchronise(model):
    """Make every BN of a model a SyncBN, with the same weights, statistics and names."""
    for m in model.modules():
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            m.__class__ = SyncBN
