"""Two settings that make PyTorch faster on a CPU."""

import contextlib
import ctypes

import torch


def tune_cpu():
    """Make the rest of this process faster on a CPU, at the cost of some memory."""
    # A collapsed network is full of denormals, numbers below 1e-38, which are slow: make them 0.
    torch.set_flush_denormal(True)
    # glibc returns large blocks to the system as soon as they are free, so that every step pays
    # for its pages again, an eighth of a step of resnet8: make it keep them.
    with contextlib.suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: all blocks come from the heap,
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: which never shrinks
