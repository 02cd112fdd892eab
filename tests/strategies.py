"""What several test files share: Hypothesis strategies, tiny models and runs, and messages."""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import sys
import time

import pytest
import torch
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import train
from simsiam import SimSiam
from utils import data, plot

seeds = st.integers(0, 2**31)
# For file names: a byte that is not UTF-8, which macOS refuses.
ODD = "\udcff" if sys.platform == "linux" else "ü"

# A run of two epochs, seconds long: the options that make it so.
TINY = "--epochs 2 --batch-size 64 --dim 16 --device cpu --checkpoint-every 1".split()


def normal(seed, *shape):
    """Gaussian numbers in float64, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Elsewhere(torch.Tensor):
    """A tensor on an imaginary device: nothing can be computed with it before it is copied."""

    ALLOWED = "contiguous", "split", "__getitem__", "__get__", "__len__"

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            if function.__name__ in ("cpu", "to"):
                return args[0].as_subclass(torch.Tensor)
            assert function.__name__ in cls.ALLOWED, f"{function.__name__} on another device"
            found = function(*args, **kwargs or {})
        wrap = lambda v: v.as_subclass(cls) if isinstance(v, torch.Tensor) else v
        return tuple(map(wrap, found)) if isinstance(found, (tuple, list)) else wrap(found)


class Parsed(BaseException):
    """The command line was accepted."""


def only_parse(monkeypatch):
    """Let every script stop with Parsed once it has accepted its command line."""
    parse = argparse.ArgumentParser.parse_args

    def stop(*args):
        parse(*args)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)


class NeverWaits(TorchDispatchMode):
    """Refuses copies to another device that wait until that device has finished its work."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten._to_copy.default and not kwargs.get("non_blocking"):
            assert torch.device(kwargs.get("device") or args[0].device) == args[0].device
        # copy_() waits, and so does looking up rows by indices on another device.
        tensors = [v for v in tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor) and v.ndim]
        if function is not torch.ops.aten._to_copy.default:
            assert len({v.device for v in tensors}) <= 1, function
        return function(*args, **kwargs)


def numbered_images(n, labels):
    """A set of n images that are all different, of which the first have labels."""
    x = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, 2, 2).contiguous()
    return data.Data(x, labels, x[:1], labels[:1], [*range(2)])


def tiny(seed=0, **options):
    """A SimSiam in float64 whose backbone is one linear layer on 4 x 4 images."""
    torch.manual_seed(seed)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(48, 10, bias=False))
    backbone.num_features = 10
    return SimSiam(backbone, **{"dim": 8, "pred_dim": 4, "proj_layers": 2, **options}).double()


def views(seed):
    """Two views for a model of tiny()."""
    return [normal(seed + i, 6, 3, 4, 4) for i in range(2)]


def gradients(model, loss):
    """The gradient of the loss by the name of each parameter that gets one."""
    model.zero_grad()
    loss.backward()
    return {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}


def records(out):
    """The records of a run folder, one per epoch."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def message(*argv):
    """The one plain line with which train.py refuses a command line."""
    with pytest.raises(SystemExit) as stop:
        train.main([str(a) for a in argv])
    assert isinstance(stop.value.code, str) and "\n" not in stop.value.code
    return stop.value.code


# Its processes start with these imported, for which a Python of its own takes seconds.
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["train", "torchvision", "hypothesis", "pytest"])


def forked(function, *args, log=os.devnull):
    """A process that calls a function; it is running already, and writes its messages to a file."""
    process = FORKSERVER.Process(target=in_process, args=(log, function, *args))
    process.start()
    return process


def in_process(log, function, *args):
    multiprocessing.set_start_method(None, force=True)  # its own processes start as anywhere else
    torch.set_num_threads(1)  # as in conftest.py: sums of several threads differ in the last bit
    for number, name in enumerate(("stdout", "stderr"), 1):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        setattr(sys, name, open(number, "w", buffering=1, closefd=False))
    function(*args)


def wait_for(condition, seconds=60):
    """Returns as soon as a condition holds."""
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, "waited in vain"
        time.sleep(0.01)


def shrink_shapes(monkeypatch, figures=False):
    """192 + 64 shapes of 12 px instead of 4096 + 1000 of 24 px; no curves.png unless asked for."""
    if not figures:
        monkeypatch.setattr(plot, "plot_curves", lambda *_, **__: None)
    n = {0: 192, 1: 64}  # by seed: training and test images
    draw = data.draw_shapes
    monkeypatch.setattr(data, "draw_shapes", lambda _, size, tint, seed: draw(
        n[seed], 12 if size == 24 else size, tint, seed))


def decode_in_a_thread(monkeypatch):
    """For laws that do not depend on who decodes a folder: starting processes takes longer."""
    thread = lambda *_: concurrent.futures.ThreadPoolExecutor(1)
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", thread)


def make_folder(path, classes=("cat", "dog"), splits=("train", "test"), n=3, size=(10, 8)):
    """A small folder of PNG images; each image is of one colour, different from the others'."""
    for s, split in enumerate(splits):
        for c, name in enumerate(classes):
            (path / split / name).mkdir(parents=True)
            for i in range(n):
                Image.new("RGB", size, (100 * s, 50 * c, 10 * i)).save(
                    path / split / name / f"{i}.png"
                )
    return path
