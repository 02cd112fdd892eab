"""The laws of exercise 17: they test the student's own laws of D, in mylaws.py."""

import sys
import traceback
import types

import torch

import simsiam
from exercises import exercise

BLANKS = []
READ = "properties of the cosine; what exercise 1 asks of D, and what could go wrong there."
FILES = {"mylaws.py": '''\
"""Exercise 17: my laws of negative_cosine and D.

Each function law_... or test_... raises AssertionError, by `assert`, if a law is broken. It has no
arguments.
"""

import torch

from simsiam import D, negative_cosine


def law_p_itself_is_at_minus_one():
    raise NotImplementedError("exercise 17: write your laws in mylaws.py")
'''}


def run(D=simsiam.D, negative_cosine=simsiam.negative_cosine):
    """Run the student's laws with these functions; returns which is broken, and why, or None."""
    replaced = types.ModuleType("simsiam")
    vars(replaced).update(vars(simsiam), D=D, negative_cosine=negative_cosine)
    mylaws, name, text = types.ModuleType("mylaws"), "", exercise.submitted("mylaws.py")
    code = compile(text, "mylaws.py", "exec")
    sys.modules["simsiam"] = replaced
    try:
        exec(code, vars(mylaws))
        laws = {n: f for n, f in vars(mylaws).items() if n.startswith(("law_", "test_"))}
        for name, law in laws.items():
            for seed in range(5):  # a law that holds by chance is broken
                torch.manual_seed(seed)
                law()
        if len(laws) < 3:
            return f"the number of laws is {len(laws)}; write at least three, named law_NAME"
    except NotImplementedError:
        raise
    except Exception as error:
        where = f"{name} with seed {seed}" if name else "what is outside the laws"
        return f"{where}, {reason(error, text)}"
    finally:
        sys.modules["simsiam"] = simsiam


def reason(error, text):
    """The line of mylaws.py, whose text is given, that raised an error, and the error."""
    numbers = [f.lineno for f in traceback.extract_tb(error.__traceback__)
               if f.filename == "mylaws.py"]
    line = f"line {numbers[-1]}: {text.splitlines()[numbers[-1] - 1].strip()} " if numbers else ""
    kind = f"{type(error).__name__}: {str(error)[:300]}".removesuffix(": ")
    return f"{line}({kind})"


def law_they_hold_for_a_correct_D():
    """Your laws hold for a correct D; in your copy that is your own."""
    broken = run()
    assert broken is None, f"Broken: {broken}."


def law_they_allow_for_rounding():
    """Your laws hold for a correct D that rounds differently: 3 parts in ten million larger."""
    D, cosine = simsiam.D, simsiam.negative_cosine
    broken = run(lambda *a, **k: (1 + 3e-7) * D(*a, **k), lambda p, z: (1 + 3e-7) * cosine(p, z))
    assert broken is None, f"Broken, although the last digits depend on how D is written: {broken}."


def law_they_notice_gross_mistakes():
    """Your laws notice a D that is plainly wrong."""
    D = simsiam.D
    for what, wrong in (("-D", lambda *a, **k: -D(*a, **k)),
                        ("2 D", lambda *a, **k: 2 * D(*a, **k)),
                        ("D - 1", lambda *a, **k: D(*a, **k) - 1),
                        ("0", lambda *a, **k: 0 * D(*a, **k))):
        assert run(D=wrong), f"All of them still hold if D returns {what} instead of D."
