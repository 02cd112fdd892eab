"""Figure 2: the stop-gradient is what prevents the collapse; nothing else differs.

    python -m experiments.fig2_stopgrad

Paper (ImageNet linear top-1): with 67.7 ± 0.1 (5 trials, the predictor's lr decayed), without 0.1.
here: the predictor's lr is constant in both, as from Sec. 4.3 on.
here: 12 epochs are too few for the accuracy to follow the outputs into collapse; 36 are enough.
The figure has the paper's three panels and, as a fourth, the effective rank, which it lacks.
"""

import sys

from experiments.table import Claim, Row, below, main, values

ROWS = [
    Row("with stop-gradient", "", 67.7),
    Row("without", "--no-stopgrad", 0.1),
    Row("with, 3 x the epochs", "", 67.7, times=3),
    Row("without, 3 x the epochs", "--no-stopgrad", 0.1, times=3),
]
CLAIMS = [
    Claim("Without stop-gradient the loss reaches its minimum of -1 (below -0.98)",
          lambda last: max(values(last["without"], "loss")) < -0.98),
    Claim("Without stop-gradient the std of the output vanishes (below 0.2), with it it does not"
          " (above 0.9)",
          lambda last: max(values(last["without"], "std")) < 0.2
          and min(values(last["with stop-gradient"], "std")) > 0.9),
    Claim("Without stop-gradient the features are worse", below("without", "with stop-gradient")),
    Claim("After three times the epochs they are hardly better than an untrained network's (kNN below 30 %)",
          lambda last: max(values(last["without, 3 x the epochs"], "knn")) < 30),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
