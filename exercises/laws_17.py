"""The laws of exercise 17: they test the student's own laws of D, in mylaws.py."""

import sys
import types

import torch

import simsiam
from exercises import exercise

BLANKS = []
READ = "properties of the cosine; what exercise 1 asks of D, and what could go wrong there."
FILES = {"mylaws.py": '''\
"""Exercise 17: my laws of negative_cosine and D.

Each function law_... raises AssertionError, by `assert`, if a law is broken. It has no arguments.
"""

import torch

from simsiam import D, negative_cosine


def law_p_itself_is_at_minus_one():
    raise NotImplementedError("exercise 17: write your laws in mylaws.py")
'''}


def run(D=simsiam.D, negative_cosine=simsiam.negative_cosine):
    """Run the student's laws with these functions; returns the first broken one, or None."""
    replaced = types.ModuleType("simsiam")
    vars(replaced).update(vars(simsiam), D=D, negative_cosine=negative_cosine)
    mylaws, name = types.ModuleType("mylaws"), "its first lines"
    code = compile(exercise.submitted("mylaws.py"), str(exercise.HOME / "mylaws.py"), "exec")
    sys.modules["simsiam"] = replaced
    try:
        exec(code, vars(mylaws))
        laws = {n: f for n, f in vars(mylaws).items() if n.startswith(("law_", "test_"))}
        for name, law in laws.items():
            for seed in range(5):  # a law that holds by chance is broken
                torch.manual_seed(seed)
                law()
        name = "the number of laws"
        assert len(laws) >= 3, f"{len(laws)} laws: write at least three, named law_..."
    except NotImplementedError:
        raise
    except Exception as error:
        return f"{name} ({type(error).__name__}: {str(error)[:300]})"
    finally:
        sys.modules["simsiam"] = simsiam


def law_they_hold_for_a_correct_D():
    """Your laws hold for a correct D; in your copy that is your own."""
    broken = run()
    assert broken is None, f"Broken: {broken}."


def law_they_notice_gross_mistakes():
    """Your laws notice a D that is plainly wrong."""
    D = simsiam.D
    for what, wrong in (("-D", lambda *a, **k: -D(*a, **k)),
                        ("2 D", lambda *a, **k: 2 * D(*a, **k)),
                        ("D - 1", lambda *a, **k: D(*a, **k) - 1),
                        ("0", lambda *a, **k: 0 * D(*a, **k))):
        assert run(D=wrong), f"All of them still hold if D returns {what} instead of D."
