"""The graders' grader: right answers pass, wrong ones do not.    pytest tests/test_exercises.py

pytest tests/test_exercises.py -m ""    also in processes of their own, as grade.py runs them
"""

import ast
import importlib.util
import pathlib
import textwrap

import pytest

from exercises import exercise, make, transplant
from exercises.exercise import HOME

NUMBERS = exercise.numbers()


def answers(number):
    """tests/answers/NN.py as a module."""
    path = HOME / f"tests/answers/{number:02}.py"
    spec = importlib.util.spec_from_file_location(f"answers_{number:02}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ANSWERS = {number: answers(number) for number in NUMBERS}


def solved(number):
    """The reference's files, as a submission: {name: bytes}."""
    info = exercise.about(number)
    files = {place.split(":")[0] for place in info.BLANKS}
    return {name: exercise.read(name).encode() for name in files}


def with_answer(number, place, source):
    """A submission that is the reference but for one function, or one file that a student writes.

    As an answer may need what a file does not import, math is added.
    """
    file, _, name = place.partition(":")
    files = solved(number)
    if not name:
        return {**files, file: source.encode()}
    text = files[file].decode()
    node = exercise.find(ast.parse(text), name)
    lines = text.splitlines(keepends=True)
    start = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    new = textwrap.indent(textwrap.dedent(source).strip("\n") + "\n", " " * node.col_offset)
    text = "".join([*lines[: start - 1], new, *lines[node.end_lineno :]])
    return {**files, file: text.encode()}
