"""Section 6.2: SimCLR, SwAV and BYOL with parts of SimSiam added, or with parts removed.

    python -m experiments.sec62_methodology

In the paper SimCLR gains nothing from SimSiam's predictor and stop-gradient. SwAV gains nothing
from the predictor, and diverges (NaN) without its stop-gradient. BYOL without its momentum encoder
is SimSiam except for its heads; BYOL's own paper reports that this fails (0.3 %), and a later
version of it 66.9 % after 300 epochs with ten times the predictor's lr.

What it printed (AMD EPYC, shapes; one thread per run, shared machine):

                                          linear %         kNN %     s  n
    SimCLR                              99.9 ± 0.1    99.8 ± 0.1    83  3
    SimCLR, predictor                  100.0 ± 0.0    99.9 ± 0.2   152  3
    SimCLR, predictor, stop-gradient   100.0 ± 0.1    99.8 ± 0.3   130  3
    SwAV                                99.3 ± 0.7    94.7 ± 0.4   149  3
    SwAV, predictor                     99.9 ± 0.1    98.8 ± 0.7   148  3
    SwAV, no stop-gradient             50.1 ± 15.6   47.2 ± 18.3    89  3
    BYOL                                97.9 ± 1.2    86.0 ± 2.7   201  3
    BYOL, no momentum encoder           97.5 ± 1.2   82.1 ± 13.1   101  3
    SimSiam                             99.7 ± 0.4    99.3 ± 0.5   117  3
"""

import math
import sys

from experiments.claims import none_above, not_collapsed
from experiments.table import Claim, Row, main

ROWS = [
    Row("SimCLR", "--method simclr", 66.5),
    Row("SimCLR, predictor", "--method simclr --predictor mlp", 66.4),
    Row("SimCLR, predictor, stop-gradient", "--method simclr --predictor mlp --stopgrad", 66.0),
    Row("SwAV", "--method swav", 66.5),
    Row("SwAV, predictor", "--method swav --predictor mlp", 65.2),
    Row("SwAV, no stop-gradient", "--method swav --no-stopgrad", "NaN"),
    Row("BYOL", "--method byol", 66.5),
    Row("BYOL, no momentum encoder", "--method byol --encoder-momentum 0",
        "0.3; 66.9 (10 x lr of h)"),
    Row("SimSiam", "", 68.1),
]
CLAIMS = [
    Claim("No gain of SimCLR from predictor and stop-gradient is seen",
          none_above("SimCLR", "SimCLR, predictor", "SimCLR, predictor, stop-gradient",
                     key="top1"),
          "The gain is a tenth of a point close to 100 %, where two standard errors mean little"),
    Claim("No gain of SwAV from a predictor is seen",
          none_above("SwAV", "SwAV, predictor", key="top1")),
    Claim("SwAV without stop-gradient diverges", lambda last: all(
        math.isnan(r["loss"]) for r in last["SwAV, no stop-gradient"]),
          "It collapses instead, to one or two dimensions"),
    Claim("BYOL without its momentum encoder does not collapse",
          not_collapsed("BYOL, no momentum encoder")),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
