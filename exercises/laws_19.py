"""The laws of exercise 19: predict first, then run. Here: the form of predictions.txt."""

import re

from exercises import exercise

BLANKS = []
READ = "Sec. 3 and the sheet of exercise 19."
ABLATIONS = ["no stop-gradient", "no predictor", "fixed predictor", "no batch norm in the heads",
             "asymmetric loss", "cross-entropy"]
FILES = {"predictions.txt": '''\
# Exercise 19. Before you run an ablation, replace its first ? by collapses or survives, and the
# dots by a reason; after the run, replace its last ? by what you saw. Keep the rest of each line.
no stop-gradient: predicted ?, because ...; seen ?
no predictor: predicted ?, because ...; seen ?
fixed predictor: predicted ?, because ...; seen ?
no batch norm in the heads: predicted ?, because ...; seen ?
asymmetric loss: predicted ?, because ...; seen ?
cross-entropy: predicted ?, because ...; seen ?
'''}
FORM = r"predicted (collapses|survives), because (.+); seen (collapses|survives)\.?"


def lines():
    """What predictions.txt says about each ablation: {name: the rest of its line}."""
    text = exercise.submitted("predictions.txt")
    if text.strip() == FILES["predictions.txt"].strip():
        raise NotImplementedError("exercise 19: write your predictions in predictions.txt")
    split = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name.strip().lower(): rest.strip() for name, _, rest in split if name.strip()}


def law_six_predictions():
    """Each of the six lines says what was predicted, why, and what was seen."""
    found = lines()
    for name in ABLATIONS:
        assert name in found, f'There is no line "{name}: ...".'
        match = re.fullmatch(FORM, found[name])
        assert match, (f'The line "{name}" must read "predicted collapses, because ...; seen'
                       f' survives", with either word in either place; yours is "{found[name]}".')
        assert len(match[2].split()) >= 5, (f'"{name}" needs a reason of five words or more; yours'
                                            f' is "{match[2]}".')
