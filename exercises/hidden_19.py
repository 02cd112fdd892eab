"""Exercise 19, for the grader only: what the ablations did. A wrong prediction costs nothing."""

import re

from exercises.laws_19 import FORM, lines

# What `collapsed` in simsiam.py says of the end of a run; tests/test_exercises.py compares these
# with the logs in experiments/results/shapes.
SEEN = {  # ablation: (verdict, name of its logs)
    "no stop-gradient": ("collapses", "no-stopgrad"),
    "no predictor": ("collapses", "predictor-none"),
    "fixed predictor": ("survives", "predictor-fixed"),
    "no batch norm in the heads": ("collapses", "bn-none-warmup-epochs-1"),
    "asymmetric loss": ("survives", "symmetry-asymmetric"),
    "cross-entropy": ("survives", "similarity-cross-entropy"),
}


def law_what_was_seen():
    """What you saw is what others see: five of the six verdicts agree with our runs."""
    found = lines()
    other = [name for name, (verdict, _) in SEEN.items()
             if re.fullmatch(FORM, found[name])[3] != verdict]
    assert len(other) <= 1, f"Yours differ for: {', '.join(other)}."
