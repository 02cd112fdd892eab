"""Table 4: SimSiam beside the methods it is compared with, and two that came later.

    python -m experiments.tab4_comparisons

All have the same data, views, backbone, optimiser, lr (MoCo: a quarter), batch and steps; heads
and loss are each method's own (baselines/). The paper's numbers are of 100 epochs on ImageNet, the
original recipes but for symmetric MoCo and 3-layer projectors in SimCLR and SwAV.

What it printed (AMD EPYC, shapes; one thread a run, the machine shared):

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

from experiments.table import Claim, Row, below, main

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
    Claim("Every method beats an untrained network, of about 17 % kNN, by 40 points or more",
          lambda last: min(r["knn"] for records in last.values() for r in records) > 57),
    Claim("SimSiam is the best of Table 4's after few epochs",
          lambda last: all(below(other, "SimSiam", key="top1")(last)
                           for other in ("SimCLR", "MoCo v2", "BYOL", "SwAV")),
          "Accuracies close to 100 % leave little room for an order"),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
