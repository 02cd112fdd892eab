"""Exercise 17, for the grader only: the planted mistakes are exercise 1's wrong answers."""

import simsiam
from exercises import exercise
from exercises.laws_17 import run

ANSWERS = {}
exec(exercise.read("tests/answers/01.py"), ANSWERS)
SHARE = 0.75  # of the mistakes that must be noticed


def functions(answer):
    """D and negative_cosine, one of them replaced by an answer, which is (place, source)."""
    names = vars(simsiam).copy()
    exec(answer[1], names)
    D, cosine = names["D"], names["negative_cosine"]
    if answer[0].endswith(":negative_cosine"):  # D's default is still the one from before
        def D(p, z, stopgrad=True, similarity=cosine):
            return simsiam.D(p, z, stopgrad, similarity)
    return {"D": D, "negative_cosine": cosine}


def law_they_hold_for_other_correct_answers():
    """Your laws hold for every correct D, however it is written."""
    for what, answer in ANSWERS["RIGHT"].items():
        broken = run(**functions(answer))
        assert broken is None, f"With a correct answer, {what}, this is broken: {broken}."


def law_they_notice_planted_mistakes():
    """Your laws notice three quarters of the planted mistakes."""
    missed = [what for what, answer in ANSWERS["WRONG"].items() if not run(**functions(answer))]
    total = len(ANSWERS["WRONG"])
    assert total - len(missed) >= SHARE * total, (
        f"They notice {total - len(missed)} of {total}. Not noticed: {'; '.join(missed)}.")
