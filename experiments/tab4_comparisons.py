"""Table 4: SimSiam beside the methods the paper compares it with, and two later ones.

    python -m experiments.tab4_comparisons

All have the same data, views, backbone, optimiser, lr (MoCo: a quarter), batch and steps; heads
and loss are each method's own (baselines/). The paper's numbers are for 100 epochs on ImageNet with
the original recipes, except that MoCo is symmetric and SimCLR and SwAV have 3-layer projectors.
"""

import sys

from experiments.claims import all_above, none_above
from experiments.references import UNTRAINED
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
NOTE = "This does not rank the methods: SimSiam's recipe was searched for, the others' were not."
CLAIMS = [
    Claim("Every method is better than the untrained network",
          all_above(UNTRAINED.label, *(row.label for row in ROWS))),
    Claim("After few epochs SimSiam is the best of the methods in Table 4",
          none_above("SimSiam", "SimCLR", "MoCo v2", "BYOL", "SwAV")),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
