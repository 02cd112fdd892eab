"""One run in P processes, `torchrun --nproc-per-node P train.py`, such as 8 on 8 GPUs (Sec. 3).

Up to rounding they compute what one process computes on the whole batch. All draw the random
numbers of the whole batch; process r ("rank" r) works on the r-th of P equal slices. Three things
are computed across slices: BN's statistics (sync_bn.py), losses that compare images (gather), and
the mean gradient (PyTorch's DistributedDataParallel, DDP). In one process all of this does nothing.

Why the gradient needs no further factor: the batch's loss L is the mean of the ranks' losses L_r,
as slices are equal; after gather() every L_r is L itself. AllSum's backward adds up the
gradients of all L_r for a rank's rows, and DDP takes the mean over the ranks of the gradients that
follow: that is the gradient of L.
"""

import contextlib
import math
import os
import re
import signal
import sys
import time

import torch
import torch.distributed as dist
from torch import nn


def rank():
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size():
    """P, the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class AllSum(torch.autograd.Function):
    """Σ_r x_r on every rank; its gradient is the sum of the gradients on all ranks."""

    @staticmethod
    def forward(ctx, x):
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, grad):
        return AllSum.apply(grad)


def gather(x):
    """The rows of all ranks, in the order of the ranks, with gradient: (n, ...) -> (P n, ...)."""
    if world_size() == 1:
        return x
    # Again a sum: where one rank has its rows, the others have zeros.
    return AllSum.apply(torch.cat([x if r == rank() else x.new_zeros(x.shape)
                                   for r in range(world_size())]))


def shard(x, parts=1):
    """This rank's slice of a batch, or of each of its equal parts: (P n, ...) -> (n, ...)."""
    if world_size() == 1:
        return x
    return x.unflatten(0, (parts, world_size(), -1))[:, rank()].flatten(0, 1)


def spread(function, x):
    """function(x) by rows, shared out: each rank computes every P-th; (M, ...) -> (M, ...)."""
    if world_size() == 1:
        return function(x)
    y, n = function(x[rank() % len(x) :: world_size()]), -(-len(x) // world_size())
    y = torch.cat([y, y[: n - len(y)]])  # n rows, as gather() needs the same number from all
    return torch.stack(gather(y).chunk(world_size()), dim=1).flatten(0, 1)[: len(x)]


def agree(*flags):
    """For each flag, whether it is true in any process; waits for all of them."""
    flags = torch.tensor([0, *flags], dtype=torch.uint8)  # on the CPU: GPUs need not wait
    if world_size() > 1:
        dist.all_reduce(flags, dist.ReduceOp.MAX)
    return flags[1:].bool().tolist()


def averaged(model):
    """The model to call once per step, so that backward() leaves the mean gradient of all ranks."""
    if world_size() > 1:
        model = nn.parallel.DistributedDataParallel(model)
        # Once, by the constructor, but not at every step: SyncBN's statistics and MoCo's queue stay
        # equal, and those of --local-bn are shared by share_buffers().
        model.broadcast_buffers = False
    return model


def in_pieces(loss_fn, K):
    """--accumulate: a batch's loss as the mean over K pieces, one of them in memory at a time.

    loss_fn: as in train.pretrain()   returns: a function like it, which leaves the gradients of all
    pieces but the last in w.grad; the backward() of its loss adds the last piece's
    """
    # Not what one pass computes: BN normalises each piece by itself. Without BN it is the same.
    def loss_of_all(x1, x2):
        *pieces, last = zip(x1.chunk(K), x2.chunk(K))
        losses, outputs = [], []
        # Under torchrun the gradient is averaged once, with the last piece.
        with getattr(loss_fn, "no_sync", contextlib.nullcontext)():
            for views in pieces:
                L, z1 = loss_fn(*views)
                (L / K).backward()  # frees the piece's activations
                losses.append(L.detach())
                outputs.append(z1.detach())
        L, z1 = loss_fn(*last)
        return torch.stack([*losses, L]).mean(), torch.cat([*outputs, z1.detach()])

    return loss_of_all


def share_buffers(model):
    """Give all ranks rank 0's running statistics: with --local-bn each has its own."""
    for buffer in model.buffers() if world_size() > 1 else ():
        dist.broadcast(buffer, 0)


def is_first():
    """Whether this process is the one of its machine that one_first() lets go ahead."""
    return world_size() == 1 or os.environ.get("LOCAL_RANK", "0") == "0"


def one_first(function, *args):
    """function(*args), by rank 0 first, then by one process of each machine, then by the rest."""
    # The machines may share a disk that has no locks, on which two must not decode a folder.
    turn = 0 if rank() == 0 else 1 if is_first() else 2
    for now in range(3):
        if now == turn:
            found = function(*args)
        wait_for_all()
    return found


def from_rank_0(function):
    """What function() returns on rank 0; the others only wait for it."""
    found = [None if rank() else function()]
    if world_size() > 1:
        wait_for_all()
        dist.broadcast_object_list(found, device=torch.device("cpu"))
    return found[0]


def wait_for_all():
    """Wait for the slowest process, however long it takes: one may be decoding a large set."""
    # Not by an exchange of tensors: that gives up after minutes, and until then a process would
    # notice neither a signal nor that another one, perhaps of another machine, has failed.
    P = world_size()
    if P == 1:
        return
    arrived = count("arrived", 1)
    while count("arrived") < math.ceil(arrived / P) * P:
        if count("errors"):
            raise SystemExit("another process of this run has ended")
        time.sleep(0.1)


def count(what, more=0):
    """A number that all processes share, after adding to it."""
    return dist.distributed_c10d._get_default_store().add(what, more)


@contextlib.contextmanager
def group():
    """A context in which torchrun's processes are one run: rank 0 prints, one error is one line."""
    if not dist.is_available() or not dist.is_torchelastic_launched():
        yield
        return
    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % gpus)  # "cuda" from here on
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    loud, silent = (sys.stdout, sys.stderr), 2 * [open(os.devnull, "w")]
    sys.stdout, sys.stderr = silent if rank() else loud
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(getattr(error, "code", ""), str):  # a number: it has already said why
            # torchrun, too, notices the end of a process, and ends the others. Say why first.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            # The others fail because they miss this process; only the first error is news.
            first = count("errors", 1) == 1
            sys.stdout, sys.stderr = loud if first else silent
            # NCCL has a code for this; its other errors have other causes and keep their traceback.
            if isinstance(error, RuntimeError) and re.search("gloo|ncclRemoteError", str(error)):
                # Drop gloo's source location before the reason, and its jokes after it.
                reason = " ".join(str(error).split()).partition(". ")[0].rpartition("] ")[2][-100:]
                raise SystemExit(f"another process of this run has ended ({reason}): use --resume")
        raise
    dist.destroy_process_group()
