"""Figure D.1 and Appendix D: the kNN curve over the epochs of the CIFAR recipe.

    python -m experiments.figD1_cifar --scale cifar

Paper: 91.8 % linear (SimCLR 91.1), and a kNN curve from about 60 to about 90 % in 800 epochs, of
which its text gives no value. At the scale of shapes the run is the default one.
"""

import sys

from experiments.table import Claim, Run, main


def RUNS(scale):
    return [Run("SimSiam", "--epochs 800" if scale == "cifar" else "", "91.8 (linear)")]


def climbs(last):
    return all(record["knn"] > 80 for record in last["SimSiam"])


CLAIMS = [Claim("kNN climbs steadily, to above 80 %", climbs)]

if __name__ == "__main__":
    main(sys.modules[__name__])
