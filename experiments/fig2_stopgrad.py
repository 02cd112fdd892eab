"""Figure 2: without stop-gradient the outputs collapse; nothing else differs.

    python -m experiments.fig2_stopgrad

Paper (ImageNet linear top-1): 67.7 ± 0.1 with stop-gradient (5 trials, the predictor's lr decayed),
0.1 without.
here: the predictor's lr is constant in both, as from Sec. 4.3 on.
here: a run this short ends before the accuracy has followed the outputs into collapse; see the last
claim. In trials of 48 epochs (seed 0) kNN ended at 21 % without stop-gradient, and at 10 %, which
is chance, without predictor; an untrained network has 17 %.
The figure shows the first two rows: the paper's three panels, and the effective rank as a fourth.

What it printed (AMD EPYC, shapes; one thread per run, shared machine):

                                 linear %         kNN %     s  n
    with stop-gradient         99.7 ± 0.4    99.3 ± 0.5   117  3
    without                   39.3 ± 15.6   46.9 ± 17.2   110  3
    with, 3 x the epochs       99.9 ± 0.1    99.6 ± 0.3   363  3
    without, 3 x the epochs    22.6 ± 8.0   32.5 ± 11.1   463  3
"""

import sys

from experiments.claims import below, values
from experiments.table import Claim, Row, main
from utils.plot import plot_curves

ROWS = [
    Row("with stop-gradient", "", 67.7),
    Row("without", "--no-stopgrad", 0.1),
    Row("with, 3 x the epochs", "", 67.7, times=3),
    Row("without, 3 x the epochs", "--no-stopgrad", 0.1, times=3),
]
CLAIMS = [
    Claim("Without stop-gradient the loss reaches its minimum of -1 (below -0.98)",
          lambda last: max(values(last["without"], "loss")) < -0.98),
    Claim("Without stop-gradient the std of the outputs vanishes (below 0.2); with it, it does not"
          " (above 0.9)",
          lambda last: max(values(last["without"], "std")) < 0.2
          and min(values(last["with stop-gradient"], "std")) > 0.9),
    Claim("Without stop-gradient the features are worse", below("without", "with stop-gradient")),
    Claim("After three times the epochs all outputs agree (std below 0.01, rank below 2)",
          lambda last: all(r["std"] < 0.01 and r["rank"] < 2
                           for r in last["without, 3 x the epochs"])),
    Claim("The features are then no better than an untrained network's (kNN below 20 %)",
          lambda last: max(values(last["without, 3 x the epochs"], "knn")) < 20,
          "Once all outputs agree there is no gradient, and the backbone keeps what it has learned"
          " by then; only weight decay wears that away, and it takes more steps than these"),
]


def figure(logs, path):
    """The curves of the two runs of 12 epochs."""
    two = {row.label: logs[row.label][1] for row in ROWS[:2] if row.label in logs}
    plot_curves(path, two, logs[ROWS[0].label][0]["dim"])


if __name__ == "__main__":
    main(sys.modules[__name__])
