"""Figure D.1 and Appendix D: the kNN curve over the epochs of the CIFAR recipe.

    python -m experiments.figD1_cifar --scale cifar

Paper: 91.8 % linear (SimCLR 91.1), and a kNN curve from about 60 to about 90 % over 800 epochs; the
text gives no values, nor does it say whether the predictor's lr decays.
here: it decays. At the other scales there is nothing to run.
"""

import sys

from experiments.claims import every_run
from experiments.table import Claim, Row, main


def ROWS(scale):
    options = "--epochs 800 --predictor-lr cosine"
    return [Row("SimSiam", options, "91.8 (linear)")] if scale == "cifar" else []


CLAIMS = [Claim("kNN ends above 80 %", every_run("SimSiam", lambda record: record["knn"] > 80))]

if __name__ == "__main__":
    main(sys.modules[__name__])
