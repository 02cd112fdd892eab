"""Table 4: SimSiam beside the methods the paper compares it with, and two later ones.

    python -m experiments.tab4_comparisons

All have the same data, views, backbone, optimiser, lr (MoCo: a quarter), batch and steps; heads
and loss are each method's own (baselines/). The paper's numbers are for 100 epochs on ImageNet with
the original recipes, except that MoCo is symmetric and SimCLR and SwAV have 3-layer projectors.

What it printed (AMD EPYC, shapes; one thread per run, shared machine):

                             linear %         kNN %     s  n
    SimCLR                 99.9 ± 0.1    99.8 ± 0.1    83  3
    MoCo v2                98.1 ± 1.1    85.1 ± 4.1   185  3
    MoCo v2, asymmetric    96.1 ± 1.8    74.0 ± 8.2   229  3
    BYOL                   97.9 ± 1.2    86.0 ± 2.7   201  3
    SwAV                   99.3 ± 0.7    94.7 ± 0.4   149  3
    SimSiam                99.7 ± 0.4    99.3 ± 0.5   117  3
    Barlow Twins          100.0 ± 0.1    98.6 ± 1.2   155  3
    VICReg                 99.9 ± 0.1    98.4 ± 0.2   155  3
"""

import sys

from experiments.claims import below
from experiments.table import Claim, Row, main

ROWS = [
    Row("SimCLR", "--method simclr", 66.5),
    Row("MoCo v2", "--method moco", 67.4),
    Row("MoCo v2, asymmetric", "--method moco --symmetry asymmetric"),
    Row("BYOL", "--method byol", 66.5),
    Row("SwAV", "--method swav", 66.5),
    Row("SimSiam", "", 68.1),
    Row("Barlow Twins", "--method barlow"),
    Row("VICReg", "--method vicreg"),
]
CLAIMS = [
    Claim("Every method beats an untrained network, which has about 17 % kNN, by 40 points or more",
          lambda last: min(r["knn"] for records in last.values() for r in records) > 57),
    Claim("After few epochs SimSiam is the best of the methods in Table 4",
          lambda last: all(below(other, "SimSiam", key="top1")(last)
                           for other in ("SimCLR", "MoCo v2", "BYOL", "SwAV")),
          "Accuracies close to 100 % leave little room for an order"),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
