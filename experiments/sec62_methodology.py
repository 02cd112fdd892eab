"""Section 6.2: what becomes of SimCLR, SwAV and BYOL if parts of SimSiam are put in or taken out.

    python -m experiments.sec62_methodology

SimCLR gains nothing by SimSiam's predictor and stop-gradient. SwAV gains nothing by the predictor;
without its stop-gradient it diverges (NaN). BYOL without its momentum encoder is SimSiam, but for
its heads, and works (the paper's footnote: 66.9 % in BYOL's own later version, with ten times the
predictor's lr).
"""

import sys

from experiments.table import Claim, Row, below, collapsed, main

ROWS = [
    Row("SimCLR", "--method simclr", 66.5),
    Row("SimCLR, predictor", "--method simclr --predictor mlp", 66.4),
    Row("SimCLR, predictor, stop-gradient", "--method simclr --predictor mlp --stopgrad", 66.0),
    Row("SwAV", "--method swav", 66.5),
    Row("SwAV, predictor", "--method swav --predictor mlp", 65.2),
    Row("SwAV, no stop-gradient", "--method swav --no-stopgrad", "NaN"),
    Row("BYOL", "--method byol", 66.5),
    Row("BYOL, no momentum encoder", "--method byol --encoder-momentum 0", "66.9 (300 epochs)"),
    Row("SimSiam", "", 68.1),
]


def no_gain(plain, changed):
    """A claim's test: the second row is not better than the first."""
    def holds(last):
        gain = below(plain, changed, key="top1")(last)
        return None if gain is None else not gain

    return holds


CLAIMS = [
    Claim("SimCLR gains nothing by predictor and stop-gradient",
          no_gain("SimCLR", "SimCLR, predictor, stop-gradient")),
    Claim("SwAV gains nothing by a predictor", no_gain("SwAV", "SwAV, predictor")),
    Claim("BYOL without its momentum encoder does not collapse",
          lambda last: not any(map(collapsed, last["BYOL, no momentum encoder"]))),
]

if __name__ == "__main__":
    main(sys.modules[__name__])
