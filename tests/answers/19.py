"""Answers to exercise 19, right and wrong."""

FILE = "predictions.txt"
GOOD = '''
# Mine
no stop-gradient: predicted collapses, because nothing holds the two branches apart; seen collapses
no predictor: predicted survives, because the stop-gradient is still there; seen collapses
fixed predictor: predicted collapses, because it cannot adapt to the targets; seen survives
no batch norm in the heads: predicted survives, because BN only helps the optimiser; seen collapses
asymmetric loss: predicted survives, because each term has its stop-gradient; seen survives
cross-entropy: predicted survives, because the similarity is not the reason; seen survives
'''

WRONG = {
    "a line is missing": (FILE, GOOD.replace("cross-entropy", "# cross-entropy")),
    "no reason": (FILE, GOOD.replace("the similarity is not the reason", "so")),
    "nothing was run": (FILE, GOOD.replace("seen survives", "seen ?")),
    "all seen to collapse": (FILE, GOOD.replace("seen survives", "seen collapses")),
    "two slips": (FILE, GOOD.replace("targets; seen survives", "targets; seen collapses").replace(
        "reason; seen survives", "reason; seen collapses")),
    "another word": (FILE, GOOD.replace("predicted survives", "predicted fine")),
}

RIGHT = {
    "wrong predictions, right observations": (FILE, GOOD),
    "no comment, capitals, one slip": (FILE, GOOD.replace("# Mine\n", "").replace(
        "asymmetric loss", "Asymmetric loss").replace("targets; seen survives",
                                                      "targets; seen collapses.")),
}
