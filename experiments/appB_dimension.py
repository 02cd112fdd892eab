"""Appendix B: the output dimension d, with d / 4 channels in the predictor's hidden layer.

    python -m experiments.appB_dimension

What it printed (AMD EPYC, shapes; one thread per run, shared machine):

                  linear %         kNN %     s  n
    d = 64      99.3 ± 1.1    98.0 ± 1.5    82  3
    d = 128     99.5 ± 0.3    96.4 ± 1.7    78  3
    d = 256     99.7 ± 0.4    99.3 ± 0.5   117  3
    d = 512    100.0 ± 0.1    99.5 ± 0.2   103  3
    d = 1024   100.0 ± 0.1    99.1 ± 0.3   100  3
"""

import sys

from experiments.claims import below
from experiments.logs import SCALES
from experiments.table import Claim, Row, main

PAPER = {256: 65.3, 512: 67.2, 1024: 67.5, 2048: 68.1}


def ROWS(scale):
    sizes = PAPER if scale == "cifar" else (64, 128, 256, 512, 1024)
    own = SCALES[scale].recipe["dim"]
    return [Row(f"d = {d}", "" if d == own else f"--dim {d}",
                PAPER.get(d, "")) for d in sizes]


CLAIMS = [Claim("512 is better than 256", below("d = 256", "d = 512"),
                "From 256 on all are too close to 100 %")]

if __name__ == "__main__":
    main(sys.modules[__name__])
