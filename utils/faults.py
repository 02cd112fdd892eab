"""What can be wrong with the options of a run: each fault with its complaint."""

import os

import torch

from utils import device, parallel


def of(args):
    """All that can be wrong with the options: [(whether it is wrong, a one-line complaint)]."""
    return [*batch_faults(args), *machine_faults(args), *value_faults(args)]


def batch_faults(args):
    """What can be wrong with the batch and its pieces."""
    P, K, N = parallel.world_size(), args.accumulate, args.batch_size
    fewer = f" or a smaller --accumulate than {K}" * (K > 1)
    return (
        (not 2 <= N <= args.n_train, f"--batch-size {N}: must be between 2 (BN needs two) and"
         f" {args.n_train}, the number of training images"),
        (N % (P * K), f"--batch-size {N}: must be a multiple of {P * K}, so that all processes (and"
         " pieces, --accumulate) have equal shares"),
        (N // (P * K if args.local_bn else K) < 2, f"--batch-size {N}: leaves BN fewer than the two"
         f" images that it needs; choose a larger one{fewer}"),
        (K > 1 and args.method != "simsiam", f"--accumulate: --method {args.method} takes only"
         " whole batches; leave it out"))


def machine_faults(args):
    """What this machine may lack."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # on this machine: torchrun sets it
    language, variable = ("C++", "CXX") if args.device == "cpu" else ("C", "CC")
    no_compiler = args.compile and device.broken_compiler(args.device)
    return (
        (args.device == "cuda" and processes > torch.cuda.device_count(), "--nproc-per-node: more"
         " processes than this machine has GPUs; choose fewer, or --device cpu"),
        (parallel.world_size() > 1 and args.device not in ("cpu", "cuda"),
         f"--device {args.device}: under torchrun, choose cpu or cuda, which is then each process's"
         " own GPU"),
        (args.bf16 and args.device != "cpu"
         and not torch.cuda.is_bf16_supported(including_emulation=False),
         "--bf16: this GPU has no arithmetic for bfloat16 and would be slower; leave it out"),
        (no_compiler, f"--compile: it needs a {language} compiler, and {no_compiler} does not run;"
         f" install it, set the variable {variable} to another one, or leave --compile out"))


def value_faults(args):
    """Values outside their ranges, and one that only simsiam takes."""
    return (
        (not 0 <= args.warmup_epochs < args.epochs, f"--warmup-epochs {args.warmup_epochs}: must be"
         f" at least 0 and below the {args.epochs} epochs"),
        (not 0 < args.crop_min <= 1, "--crop-min must be in (0, 1]"),
        (not 0 <= args.blur <= 1, "--blur must be in [0, 1]"),
        (not 0 <= args.lr < 1e30, "--lr must be at least 0 and below 1e30"),
        (not 0 <= args.weight_decay < 1e30, "--weight-decay must be at least 0 and below 1e30"),
        (not 0 <= (args.encoder_momentum or 0) < 1, "--encoder-momentum must be in [0, 1)"),
        (args.epsilon is not None and not 0.025 <= args.epsilon <= 1,
         "--epsilon must be in [0.025, 1]"),
        (not 0 <= (args.sigreg or 0) <= 1, "--sigreg must be in [0, 1]"),
        (args.predictor == "fixed" and args.method != "simsiam",
         "--predictor fixed is for --method simsiam only"))
