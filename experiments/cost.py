"""What a run of train.py costs in time and memory, by batch size and data set.

    python -m experiments.cost    on a GPU if there is one; else on the CPU, in
                                  two minutes on two cores (Linux only)

Each row is a process of its own that trains for two epochs on a folder of JPEGs
of 32 px. The images/s are those of the second epoch, kNN not counted. The
memory is a peak: on a GPU, of what PyTorch has allocated; on a CPU, of what the
process has in RAM. The rows are appended to results/speed.md.
"""

import argparse
import datetime
import importlib.metadata
import pathlib
import subprocess
import sys
import tempfile

import torch

from experiments.benchmark import report, write_folder
from experiments.logs import HERE, machine
from utils.console import plain_errors
from utils.runs import read_metrics

# For a CPU and for a GPU: options; batch sizes, and the one with which the number of images varies;
# numbers of images, and the one with which the batch size varies.
CPU = "--arch resnet8", (16, 32, 64, 128, 256, 512), 64, (512, 1024, 2048, 4096), 2048
GPU = ("--arch resnet18 --bf16 --compile", (128, 256, 512, 1024, 2048, 4096), 512,
       (12500, 25000, 50000), 50000)

RUN = """
import sys, torch, train
if len(sys.argv) > 1:
    train.main(sys.argv[1:])
# not getrusage: its maximum starts from that of the process that started this one
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
cuda = torch.cuda.is_available()
print(torch.cuda.max_memory_allocated() / 1e6 if cuda else int(peak.split()[1]) * 1.024e-3)
"""


def megabytes(*argv):
    """The peak memory of a process that trains with these options, or only imports train.py."""
    done = subprocess.run([sys.executable, "-c", RUN, *argv], cwd=HERE.parent, check=True,
                          stdout=subprocess.PIPE, text=True)
    return float(done.stdout.splitlines()[-1])


def cost(options, batch_size, folder):
    """images/s and megabytes of a run on this folder of images."""
    with tempfile.TemporaryDirectory() as out:
        memory = megabytes("--data", str(folder), *options.split(), "--batch-size", str(batch_size),
                           "--epochs", "2", "--out", out)
        # the second epoch's: the first one pays for memory, and on a GPU for the choice of kernels
        return read_metrics(pathlib.Path(out))[-1]["images_per_s"], memory


@plain_errors
def main():
    argparse.ArgumentParser(prog="python -m experiments.cost", description=__doc__,
                            formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.manual_seed(0)
    options, batches, batch, amounts, amount = GPU if torch.cuda.is_available() else CPU
    points = [(b, amount) for b in batches] + [(batch, n) for n in amounts if n != amount]
    version = importlib.metadata.version("torch")
    report(f"\n## {datetime.date.today()}, {machine()}, torch {version}: `train.py {options}`\n",
           "| batch | images | images/s | an epoch, s | memory, MB |", "|---|---|---|---|---|",
           f"| | imports only | | | {megabytes():.0f} |")
    with tempfile.TemporaryDirectory() as home:
        for b, n in points:
            folder = pathlib.Path(home, str(n))
            if not folder.exists():
                write_folder(folder, n)
            speed, memory = cost(options, b, folder)
            report(f"| {b} | {n} | {speed:.0f} | {n // b * b / speed:.2f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
