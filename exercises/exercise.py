"""What make.py, check.py and grade.py share: reading an exercise and running its laws.

An exercise NN is two files:
    NN_name.md     its sheet
    laws_NN.py     BLANKS  the functions to write, as "simsiam.py:SimSiam.forward"
                   READ    what to read when a law is broken
                   FILES   whole files to write, {name: what the copy starts with} (optional)
                   HIDE    functions elsewhere that would give the answer away (optional)
                   law_*   functions; the docstring is the law, the AssertionError has the
                           counter-example and usually comes from demand()
hidden_NN.py, if there is one, has laws for grade.py only.
"""

import ast
import functools
import importlib
import pathlib
import re
import traceback
from types import SimpleNamespace

HOME = pathlib.Path(__file__).resolve().parent.parent
HAVE_HIDDEN_LAWS = {17, 19}  # hidden_NN.py, which is in no copy
SUBMITTED = {}  # {name: text} of the files of a submission that grade.py has read

if not __debug__:  # every answer would pass
    raise SystemExit("the laws are assertions, which python -O and PYTHONOPTIMIZE leave out: run"
                     " without them")


def numbers():
    """The numbers of all exercises in this folder."""
    return sorted(int(path.stem[5:]) for path in HOME.glob("exercises/laws_*.py"))


def sheet(number):
    """The path of an exercise's sheet."""
    found = sorted(HOME.glob(f"exercises/{number:02}_*.md"))
    if not found:
        raise SystemExit(f"exercises/{number:02}_*.md, the sheet of exercise {number}, is missing:"
                         " copy it from the original folder")
    return found[0]


def title(number):
    return sheet(number).read_text("utf-8").partition("\n")[0].partition(". ")[2]


@functools.cache
def about(number):
    """BLANKS, READ, FILES and HIDE of an exercise, read without running its laws file."""
    found, name = {"FILES": {}, "HIDE": []}, f"exercises/laws_{number:02}.py"
    try:
        tree = ast.parse(read(name))
    except SyntaxError as error:
        raise SystemExit(f"{name}, line {error.lineno}: {error.msg}; copy it from the original"
                         " folder")
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id in ("BLANKS", "READ", *found):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return SimpleNamespace(**found)


def find(tree, name):
    """The last definition of a name such as "SimSiam.forward"; None if there is none.

    tree: a module's   A part of the name may be a class or a function: functions can be nested.
    """
    for part in name.split("."):
        kinds = ast.ClassDef, ast.FunctionDef
        found = [n for n in tree.body if isinstance(n, kinds) and n.name == part]
        if not found:
            return None
        tree = found[-1]
    return tree


@functools.cache
def read(name):
    """The text of a file of the repository."""
    return (HOME / name).read_text("utf-8")


def submitted(name):
    """The text of a file that the student wrote from scratch."""
    return SUBMITTED[name] if name in SUBMITTED else (HOME / name).read_text("utf-8")


# ------------------------------------------------------------------------------------------------
# Running the laws.


class OutOfTime(BaseException):  # not Exception: a student's `except Exception` would catch it
    """A student's function has taken longer than check.py waits."""


MODULES = {path.stem for path in HOME.glob("exercises/*.py")}


def laws(number):
    """The laws of an exercise in order; where they are, in no copy, also the hidden ones."""
    found = []
    for name in (f"laws_{number:02}", f"hidden_{number:02}"):
        if name in MODULES:
            module = importlib.import_module(f"exercises.{name}")
            found += [law for name, law in vars(module).items() if name.startswith("law_")]
    return found


def outcome(number):
    """Run the laws until one is broken; returns a status and a message for the student.

    status: "passed", "failed", "blank" (a function of this exercise is not written yet)
    """
    law, i, every = None, 0, []
    try:
        every = laws(number)
        for i, law in enumerate(every, start=1):
            law()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a student's function may raise anything, SystemExit too
        status, reason = explain(error, number)
        if status == "failed" and law:
            reason = f"Law {i} of {len(every)} is broken:\n{law.__doc__}\n{reason}"
        return status, reason
    return "passed", f"All {len(every)} laws hold."


def explain(error, number):
    """The status that an exception means, and the reason in plain words."""
    text = str(error)
    blank = re.fullmatch(r"exercise (\d+): (.*)", text, re.S)
    if isinstance(error, NotImplementedError) and blank:
        if int(blank[1]) == number:
            return "blank", f"Not written yet: {blank[2]}."
        return "failed", f"It needs exercise {blank[1]}, which is not written yet: {blank[2]}."
    if "NoneType" in text:
        text += " (A function without `return` returns None; an attribute can be None, too.)"
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) and error.filename:
        return "failed", f"{within(error.filename)}, line {error.lineno}: {error.msg}"
    # A law's own assertion has the counter-example; for any other error the line matters.
    if isinstance(error, AssertionError) and within(frames[-1].filename).startswith("exercises/"):
        return "failed", text
    own = [f for f in frames if not within(f.filename).startswith(("/", "<", "exercises/"))
           and within(f.filename).count("/") < 2]  # deeper down, in a .venv, lies torch
    place = f"{within(own[-1].filename)}, line {own[-1].lineno}: " if own else ""
    kind = "" if isinstance(error, OutOfTime) else f"{type(error).__name__}: "
    return "failed", (place + kind + text).removesuffix(": ")


def within(filename):
    """A file's name relative to the repository, if it is in there."""
    path = pathlib.Path(filename)
    return str(path.relative_to(HOME)) if path.is_relative_to(HOME) else filename


def show(v, digits=4):
    """A small tensor or number as a person would write it: [3, 4], 0.5."""
    v = v.tolist() if hasattr(v, "tolist") else v
    if isinstance(v, (list, tuple)):
        return f"[{', '.join(show(each, digits) for each in v)}]"
    return f"{v:.{digits}g}" if isinstance(v, float) else str(v)


def demand(got, wanted, what, rtol=1e-5, atol=1e-6):
    """Assert that got is wanted: numbers, tensors or nested lists of numbers.

    what: how the message begins, such as "For x = ... it must be"
    """
    import torch  # make.py does without

    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    try:
        got = torch.as_tensor(got, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(f"{what} {show(wanted)}; yours is a {type(got).__name__}.")
    same = got.shape == wanted.shape and torch.allclose(got, wanted, rtol, atol)
    got = torch.where(got.abs() < min(atol, 1e-6), 0.0, got)  # not 1.2e-09
    digits = 4 if show(got) != show(wanted) else 8
    assert same, f"{what} {show(wanted, digits)}; yours is {show(got, digits)}."
