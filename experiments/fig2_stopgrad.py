"""Figure 2: the same run with stop-gradient and without.

    python -m experiments.fig2_stopgrad

Paper (ImageNet linear top-1): 67.7 ± 0.1 with stop-gradient (5 trials, the predictor's lr decayed),
0.1 (chance) without it; the outputs collapse.
here: the predictor's lr is constant in both, as from Sec. 4.3 on.
The figure shows the first two rows: the paper's three panels, and the effective rank as a fourth.
"""

import sys

from experiments.claims import below, every_run, has_collapsed, is_healthy, none_above
from experiments.references import UNTRAINED
from experiments.table import Claim, Row, main
from simsiam import COLLAPSED_STD

WITH, WITHOUT, LONGER = "with stop-gradient", "without", "without, 2 x the epochs"
ROWS = [
    Row(WITH, "", 67.7),
    Row(WITHOUT, "--no-stopgrad", 0.1),
    Row(LONGER, "--no-stopgrad", times=2),
]
CLAIMS = [
    Claim("Without stop-gradient the loss reaches its minimum of -1 (below -0.98)",
          every_run(WITHOUT, lambda record: record["loss"] < -0.98)),
    Claim("With stop-gradient the loss ends above -0.98",
          every_run(WITH, lambda record: record["loss"] >= -0.98)),
    Claim(f"Without stop-gradient the std of the outputs vanishes (below {COLLAPSED_STD})",
          every_run(WITHOUT, lambda record: record["std"] < COLLAPSED_STD)),
    Claim("With stop-gradient the std ends near 1 (above 0.9)",
          every_run(WITH, lambda record: record["std"] > 0.9)),
    Claim("With stop-gradient the outputs do not collapse", every_run(WITH, is_healthy)),
    Claim("Without stop-gradient the features are worse", below(WITHOUT, WITH)),
    Claim("Without stop-gradient the features are worse by kNN, too",
          below(WITHOUT, WITH, key="knn")),
    Claim("Without stop-gradient the features are no better than an untrained network's",
          none_above(UNTRAINED.label, WITHOUT)),
    Claim("After twice the epochs without stop-gradient the outputs are still collapsed",
          every_run(LONGER, has_collapsed)),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
