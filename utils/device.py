"""Settings that make PyTorch faster on a device, and the compiler that --compile needs."""

import contextlib
import ctypes
import os
import subprocess
import sys

import numpy
import torch


def tune(device):
    """Make the rest of this process faster on this device."""
    if device == "cpu":
        tune_cpu()
    else:
        # Float32 matrix products in TF32, as PyTorch computes convolutions by default.
        torch.set_float32_matmul_precision("high")


def tune_cpu():
    """Make the rest of this process faster on a CPU, at the cost of some memory."""
    # NumPy before 2.4 measures a type when first asked about it, and warns if denormals are 0.
    numpy.finfo(numpy.float32), numpy.finfo(numpy.float64)
    # A collapsed network is full of denormals, numbers below 1e-38, which are slow: make them 0, in
    # this thread and those that it starts from now on.
    torch.set_flush_denormal(True)
    # glibc returns large blocks to the system as soon as they are free, so that every step pays
    # for its pages again, an eighth of a step of resnet8: make it keep them.
    with contextlib.suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: all blocks come from the heap,
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: which never shrinks


def broken_compiler(device):
    """The compiler that torch.compile would call, C++ for a CPU, C for a GPU; "" if it runs."""
    if device == "cpu":
        names = [os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")]
    else:  # Triton, which compiles each kernel's launcher, takes either
        names = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    return "" if any(map(runs, names)) else names[0]


def runs(program):
    """Whether a program can be started and ends well."""
    try:
        return subprocess.run([program, "--version"], capture_output=True).returncode == 0
    except OSError:
        return False
