"""Appendix B: the output dimension d, with d / 4 channels in the predictor's hidden layer.

    python -m experiments.appB_dimension

In the paper h always has a bottleneck. It says that with a hidden layer as wide as the output
training can be less stable, or fail in some variants. In the last row h has no bottleneck.
here: the projector's hidden layers are as wide as its output, so their width changes, too; in the
official code it stays 2048.
"""

import sys

from experiments.claims import below, every_run, is_healthy
from experiments.logs import SCALES
from experiments.table import Claim, Row, main

WIDE = "no bottleneck in h"
PAPER = {256: 65.3, 512: 67.2, 1024: 67.5, 2048: 68.1}


def ROWS(scale):
    sizes = PAPER if scale == "cifar" else (64, 128, 256, 512, 1024)
    own = SCALES[scale].recipe["dim"]
    return [Row(f"d = {d}", "" if d == own else f"--dim {d}",
                PAPER.get(d, "")) for d in sizes] + [Row(WIDE, f"--pred-dim {own}")]


CLAIMS = [
    Claim("512 is better than 256", below("d = 256", "d = 512")),
    Claim("Without a bottleneck in h nothing collapses", every_run(WIDE, is_healthy)),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
