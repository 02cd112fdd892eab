"""The graders' grader: right answers pass, wrong ones do not.    pytest tests/test_exercises.py

pytest tests/test_exercises.py -m ""    also in processes of their own, as grade.py runs them
"""

import ast
import csv
import importlib.util
import inspect
import json
import linecache
import math
import operator
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import xml.etree.ElementTree
import zipfile
from types import SimpleNamespace

import pytest

import options
from exercises import check, exercise, grade, make, transplant
from exercises.exercise import HOME
from simsiam import collapsed
from strategies import ODD, Parsed, only_parse

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


def with_answer(number, place, source, text=None):
    """A submission that is the reference but for one function, or one file that a student writes.

    text: what the function's file is, if not the reference's
    """
    file, _, name = place.partition(":")
    files = solved(number)
    if not name:
        return {**files, file: source.encode()}
    text = text or files[file].decode()
    node = exercise.find(ast.parse(text), name)
    lines = text.splitlines(keepends=True)
    start = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    new = textwrap.indent(textwrap.dedent(source).strip("\n") + "\n", " " * node.col_offset)
    text = "".join([*lines[: start - 1], new, *lines[node.end_lineno :]])
    return {**files, file: text.encode()}


def outcome(number, files):
    status, text = transplant.judge(number, files)
    return status if status != "failed" else text


# ------------------------------------------------------------------------------------------------
# The laws.


@pytest.mark.parametrize("number", [n for n in NUMBERS if exercise.about(n).BLANKS])
def test_the_reference_passes(number):
    assert outcome(number, solved(number)) == "passed"


@pytest.mark.parametrize("number", NUMBERS)
def test_at_least_four_wrong_answers_are_refused_and_two_right_ones_of_another_form_accepted(
        number):
    wrong, right = ANSWERS[number].WRONG, ANSWERS[number].RIGHT
    assert len(wrong) >= 4 and len(right) >= 2
    for what, answer in wrong.items():
        assert outcome(number, with_answer(number, *answer)) not in ("passed", "blank"), what
    for what, answer in right.items():
        assert outcome(number, with_answer(number, *answer)) == "passed", what


@pytest.mark.parametrize("number", NUMBERS)
def test_every_blank_imports_and_fails_its_own_exercise_and_no_other(number):
    copy = make.copy_of([number])
    files = {name: text.encode() for name, text in copy.items()}
    assert outcome(number, files) == "blank"
    trees = {name: ast.parse(copy[file]) for name in ("simsiam", "options", "train", "lineval")
             if (file := f"{name}.py")}
    with transplant.imported(trees):
        importlib.import_module("train")
    files, touched = dict(solved(number)), {p.split(":")[0] for p in exercise.about(number).BLANKS}
    for place in exercise.about(number).BLANKS:
        file, name = place.split(":")
        files[file] = make.blank(files[file].decode(), name, "raise NotImplementedError").encode()
    for other in NUMBERS:
        info = exercise.about(other)
        if other != number and touched & {place.split(":")[0] for place in info.BLANKS}:
            assert outcome(other, {**solved(other), **files}) == "passed", other


def test_no_function_is_cut_out_by_two_exercises():
    places = [place for number in NUMBERS for place in exercise.about(number).BLANKS]
    assert len(places) == len(set(places))


@pytest.mark.parametrize("number", NUMBERS)
def test_every_law_is_a_sentence_and_says_what_to_read(number):
    assert exercise.about(number).READ
    laws = exercise.laws(number)
    assert laws
    for law in laws:
        assert re.fullmatch(r"[^\n]{10,98}\.", law.__doc__), law


def test_the_sheet_of_exercise_17_and_the_README_say_how_many_mistakes_must_be_noticed():
    from exercises import hidden_17

    n = len(hidden_17.ANSWERS["WRONG"])
    assert (n, math.ceil(hidden_17.SHARE * n)) == (18, 14)
    assert "by eighteen wrong" in exercise.sheet(17).read_text()
    assert "At least fourteen must" in exercise.sheet(17).read_text()
    assert "fourteen of eighteen planted" in " ".join(exercise.read("exercises/README.md").split())


def test_what_exercise_19_calls_seen_is_what_the_logs_of_shapes_end_with():
    from exercises import hidden_19

    for name, (verdict, log) in hidden_19.SEEN.items():
        found = [*HOME.glob(f"experiments/results/shapes/logs/{log}-seed-?.jsonl")]
        assert found, name
        for path in found:
            last = json.loads(path.read_text().splitlines()[-1])
            assert collapsed(last["std"], last["rank"]) == (verdict == "collapses"), path


def test_check_py_knows_which_exercises_have_laws_that_the_copy_lacks():
    hidden = {int(path.stem[-2:]) for path in HOME.glob("exercises/hidden_*.py")}
    assert exercise.HAVE_HIDDEN_LAWS == hidden


@pytest.mark.parametrize("modules, told", [({"laws_17"}, True), ({"laws_17", "hidden_17"}, False)])
def test_who_passes_17_is_told_of_the_grader_s_laws_where_they_have_not_been_run(
        modules, told, monkeypatch, capsys):
    monkeypatch.setattr(check, "outcome", lambda number: ("passed", ""))
    monkeypatch.setattr(exercise, "MODULES", modules)
    check.check(17)
    assert ("further laws" in capsys.readouterr().out) == told


# ------------------------------------------------------------------------------------------------
# The copy.


COPY = make.copy_of(NUMBERS)


# Lines that other functions have, too, and that give nothing away.
STANDS_ELSEWHERE = {"r, g, b = x.unbind(dim=1)", "return w.grad", "optimizer.zero_grad()",
                    "nn.init.zeros_(probe.bias)"}


def test_no_line_of_a_solution_stands_anywhere_in_the_copy():
    for number in NUMBERS:
        # A copy with all exercises has fewer functions that are not cut out, but more files.
        everything = "\n".join([*COPY.values(), *make.copy_of([number]).values()])
        for place in exercise.about(number).BLANKS:
            file, name = place.split(":")
            node = exercise.find(ast.parse(exercise.read(file)), name)
            start = node.body[ast.get_docstring(node) is not None].lineno
            for line in exercise.read(file).splitlines()[start - 1 : node.end_lineno]:
                code = line.partition("  #")[0].strip()
                known = len(code) < 13 or code.startswith("#") or code in STANDS_ELSEWHERE
                assert known or code not in everything, (number, code)


def test_what_is_to_be_written_says_so_even_if_another_exercise_would_leave_it_out():
    for number in NUMBERS:
        for place in exercise.about(number).BLANKS:
            file, name = place.split(":")
            body = ast.unparse(exercise.find(ast.parse(COPY[file]), name))
            assert f"exercise {number}: write {name} in {file}" in body


def test_the_copy_has_no_tests_answers_results_or_grader():
    for name in COPY:
        assert not re.match(r"tests/|\.git/|experiments/results|exercises/(hidden|grade|make|ans)",
                            name), name
    assert "For teachers" not in COPY["README.md"]


def test_the_README_of_a_copy_speaks_only_of_exercises_that_it_has():
    for numbers in [1, 2, 3, 4], [1, 5], [2, 17], [17, 18]:
        text = make.readme(numbers)
        for n in 17, 18:
            assert bool(re.search(rf"\b{n}\b", text)) == (n in numbers)
        named = re.findall(r"(?:check\.py|exercise) (\d+)\b(?! s )", text)  # not "10 s and 256 MB"
        assert {*map(int, named)} <= {*numbers}
        assert [int(n) for n in re.findall(r"^\| *(\d+) *\|", text, re.M)] == numbers
        assert ("1 to 4 take" in text) == ({1, 2, 3, 4} <= {*numbers})


def test_every_python_file_of_the_copy_parses_and_nothing_but_bodies_has_changed():
    cut = [place.split(":") for number in NUMBERS for place in (
        *exercise.about(number).BLANKS, *exercise.about(number).HIDE)]
    for name, text in COPY.items():
        if name.endswith(".py") and (HOME / name).exists():
            trees = [ast.parse(t) for t in (text, exercise.read(name))]
            for place in [place for file, place in cut if file == name]:
                for node in [exercise.find(tree, place) for tree in trees]:
                    del node.body[ast.get_docstring(node) is not None :]
            theirs, ours = map(ast.dump, trees)
            assert theirs == ours, name


def test_every_module_that_the_copy_imports_is_in_it():
    for copy in (COPY, make.copy_of([1])):
        for name in [name for name in copy if name.endswith(".py")]:
            for node in ast.walk(ast.parse(copy[name])):
                if not isinstance(node, (ast.Import, ast.ImportFrom)):
                    continue
                modules = [each.name for each in node.names]
                if isinstance(node, ast.ImportFrom):  # from a module, or a module of a folder
                    modules = [node.module, *(f"{node.module}.{each}" for each in modules)]
                for file in [f"{module.replace('.', '/')}.py" for module in modules]:
                    assert file in copy or not (HOME / file).exists(), (name, file)


def test_every_link_of_the_copy_leads_to_a_file_of_it():
    for page in [name for name in COPY if name.endswith(".md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", COPY[page]):
            assert str(pathlib.PurePath(page).parent / link) in COPY, (page, link)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_sheet_says_what_to_read_to_write_to_check_to_run_and_asks_a_question(number):
    sheet = exercise.sheet(number).read_text()
    wanted = rf"# {number}\. .+\n\n\* Read: (.|\n)+\* Difficulty: .+ Minutes: (.|\n)+\* Write: "
    assert re.match(wanted, sheet)
    parts = ["<details><summary>Hint", f"python exercises/check.py {number}\n", "Then run",
             "Question: "]
    places = [sheet.index(part) for part in parts]
    assert places == sorted(places)
    assert f"\n{number}. " in exercise.read("exercises/answers.md")
    assert f"| {number} | [{exercise.title(number)}]({exercise.sheet(number).name})" in (
        exercise.read("exercises/README.md"))
    assert max(map(len, sheet.splitlines())) <= 100


@pytest.mark.parametrize("number", NUMBERS)
def test_the_commands_on_a_sheet_run(number, small_shapes, capsys, monkeypatch):
    sheet = exercise.sheet(number).read_text()
    for code in re.findall(r'^python -c "\n(.*?)"$', sheet, re.S | re.M):
        run = compile(code, f"sheet {number}", "exec")
        if "train.train" not in code:  # that takes minutes
            exec(run, {})
    only_parse(monkeypatch)
    for script, flags in re.findall(r"python (train|lineval|augment)\.py ?([^`\n#]*)", sheet):
        if "mine" not in flags:
            monkeypatch.setattr(sys, "argv", [f"{script}.py", *flags.split()])
            with pytest.raises(Parsed):
                importlib.import_module(script).main()


def test_an_unwritten_function_is_named_in_a_friendly_line_and_all_fits_80_columns(capsys):
    unwritten = ("def D(p, z, stopgrad=True, similarity=None):\n"
                 '    raise NotImplementedError("exercise 1: write D in simsiam.py")')
    for answer in (with_answer(1, "simsiam.py:D", unwritten),
                   with_answer(1, *ANSWERS[1].WRONG["no eps in the normalisation"])):
        with transplant.imported(transplant.changed(1, answer)):
            assert not check.check(1)
    printed = capsys.readouterr().out
    assert "Not written yet: write D in simsiam.py." in printed and "Traceback" not in printed
    assert "A row of zeros counts as cosine 0" in printed and "Read: Sec. 3" in printed
    assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.parametrize("number, code", [("1", 0), ("18", 1)])
def test_check_ends_with_0_if_the_exercise_passes_and_with_1_if_not(number, code, capsys):
    with pytest.raises(SystemExit) as end:
        check.main([number])
    assert end.value.code == code
    capsys.readouterr()


def test_an_endless_loop_is_stopped_and_its_line_is_named(monkeypatch, capsys):
    monkeypatch.setattr(check, "SECONDS", 0.2)
    endless = """def random_boxes(n, size, scale):
    while True:
        try:
            1 / 0
        except Exception:
            pass"""
    with transplant.imported(transplant.changed(8, with_answer(8, "augment.py:random_boxes",
                                                               endless))):
        assert not check.check(8)
    said = " ".join(capsys.readouterr().out.split())
    found = re.search(r"augment.py, line (\d+): your function did not return within 0.2 s", said)
    start = exercise.read("augment.py").splitlines().index("def random_boxes(n, size, scale):") + 1
    assert start + 1 <= int(found[1]) <= start + 5


def test_the_alarm_of_an_exercise_ends_with_it(monkeypatch):
    assert check.outcome(1)[0] == "passed"
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    monkeypatch.setattr(exercise, "outcome", lambda number: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        check.outcome(1)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_missing_sheet_and_broken_laws_end_in_a_plain_line(monkeypatch, tmp_path):
    monkeypatch.setattr(exercise, "HOME", tmp_path)
    with pytest.raises(SystemExit, match="exercises/01_.*is missing"):
        exercise.sheet(1)
    monkeypatch.setattr(exercise, "read", lambda name: "x = (")
    with pytest.raises(SystemExit, match="laws_01.py, line 1"):
        exercise.about.__wrapped__(1)


@pytest.mark.parametrize("got, said", [(2.5, "2.5."), (1.00002, "1.00002."), (None, "a NoneType."),
                                       ([1.0], "[1].")])
def test_a_counter_example_differs_visibly_from_what_is_demanded(got, said):
    exercise.demand(1.000001, 1, "D must be")
    with pytest.raises(AssertionError) as raised:
        exercise.demand(got, 1.0, "D must be")
    assert str(raised.value) == f"D must be 1; yours is {said}"


# ------------------------------------------------------------------------------------------------
# The transplant.


def test_helpers_constants_imports_and_methods_that_a_student_added_come_along():
    files = solved(1)
    text = files["simsiam.py"].decode()
    text = text.replace("import torch\n", "import math as m\nimport torch\n")
    text = text.replace("def negative_cosine(p, z):", '''TINY = m.pow(10, -8)


def unit(v):
    return v / (v.norm(dim=1, keepdim=True) + TINY)


def negative_cosine(p, z):
    return -(unit(p) * unit(z)).sum(dim=1)


def _(p, z):''')
    assert outcome(1, {"simsiam.py": text.encode()}) == "passed"
    text = solved(3)["simsiam.py"].decode().replace("z1, z2 = self.f(x1), self.f(x2)  # (N, d)\n",
                                                    "z1, z2 = self.both(x1, x2)\n")
    text = text.replace("    def forward(self, x1, x2):\n", '''    def both(self, x1, x2):
        return self.f(x1), self.f(x2)

    def forward(self, x1, x2):
''')
    assert outcome(3, {"simsiam.py": text.encode()}) == "passed"


@pytest.mark.parametrize("added, similarity", [
    ("from torch.nn.functional import *", "cosine_similarity(p, z)"),
    ("try:\n    from torch.nn.functional import cosine_similarity as cs\nexcept ImportError:\n"
     "    cs = None", "cs(p, z)"),
    ("if True:\n    EPS = 1e-8\n    def short(v):\n        return EPS * v.norm()",
     "F.cosine_similarity(p, z) + 0 * short(p)"),
    ("with torch.no_grad():\n    ONE = torch.ones(())", "ONE * F.cosine_similarity(p, z)"),
    ("EPS = 1e-12\nif EPS:\n    EPS = 1e-8", "F.cosine_similarity(p, z, eps=EPS)"),
    ("EPS = 1e-9\nEPS += 1e-8", "F.cosine_similarity(p, z, eps=EPS)"),
    ("for p in range(3):\n    z = print(D, p)", "F.cosine_similarity(p, z)"),
    ("EPS = 1e-8\nclass Conf:\n    EPS = EPS", "F.cosine_similarity(p, z, eps=Conf.EPS)"),
    ("SCALE = {}\nSCALE['one'] = 1", "SCALE['one'] * F.cosine_similarity(p, z)"),
    ("SCALE = [{}]\nfor name in ['one']:\n    SCALE[0][name] = 1",
     "SCALE[0]['one'] * F.cosine_similarity(p, z)"),
    ("SCALE = []\nif not SCALE:\n    SCALE.append(1)", "SCALE[0] * F.cosine_similarity(p, z)"),
    ("def half(v):\n    return v / 2\nhalf('a try')", "F.cosine_similarity(half(p), z)"),
    ("async def later():\n    return 1", "F.cosine_similarity(p, z) * callable(later)"),
    ("def negative_cosine(p, z):\n    1 / 0\ndef same(f):\n    return f\n@same",
     "F.cosine_similarity(p, z)"),
    ("calls = [0]\ndef half(v):\n    global calls\n    calls = [1 + calls[0]]\n    return v / 2",
     "F.cosine_similarity(half(p), (lambda half: half)(z))")])
def test_what_a_student_adds_comes_along_in_whatever_statement_it_stands(added, similarity):
    text = solved(1)["simsiam.py"].decode()
    text = text.replace("def negative_cosine(p, z):", f"""{added}


def negative_cosine(p, z):
    return -({similarity})


def _(p, z):""")
    assert outcome(1, {"simsiam.py": text.encode()}) == "passed"


def test_what_a_student_adds_keeps_its_place_above_or_below_the_functions():
    line = "return similarity(p, z).mean()  # (N,) -> ()"
    text = solved(1)["simsiam.py"].decode().replace(line, line + "\n\n\nTABLE = {'D': D}\n")
    assert outcome(1, with_answer(1, "simsiam.py:negative_cosine", """
def negative_cosine(p, z):
    assert TABLE["D"] is D
    return -F.cosine_similarity(p, z)
""", text)) == "passed"


def test_an_import_for_type_checkers_may_be_missing_if_annotations_are_not_evaluated():
    text = solved(1)["simsiam.py"].decode().replace("def negative_cosine(p, z):", """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from torch import Tensor


def negative_cosine(p: Tensor, z):""")
    assert "NameError" in outcome(1, {"simsiam.py": text.encode()})
    text = text.replace("from functools", "from __future__ import annotations\nfrom functools")
    assert outcome(1, {"simsiam.py": text.encode()}) == "passed"


def test_the_source_that_torch_jit_compiles_is_the_student_s():
    assert outcome(1, with_answer(1, "simsiam.py:negative_cosine", """
def negative_cosine(p, z):
    import inspect
    assert "cosine_similarity" in inspect.getsource(negative_cosine)
    return -F.cosine_similarity(p, z)
""")) == "passed"


@pytest.mark.parametrize("number", [n for n in NUMBERS if exercise.about(n).HIDE])
def test_what_an_exercise_leaves_out_is_not_lent_by_the_reference_either(number):
    hidden, files = [place.split(":") for place in exercise.about(number).HIDE], {}
    for file in solved(number):  # from which the student has deleted it
        tree = ast.parse(make.copy_of([number])[file])
        tree.body = [node for node in tree.body if [file, getattr(node, "name", "")] not in hidden]
        files[file] = ast.unparse(tree).encode()
    with transplant.imported(transplant.changed(number, files)):
        for file, name in hidden:
            module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
            function = operator.attrgetter(name)(module)
            with pytest.raises(NotImplementedError, match="left out, as it would give the answer"):
                function(*inspect.signature(function).parameters)


def test_who_uses_what_is_left_out_is_told_where_to_write_it():
    status, text = transplant.judge(2, with_answer(2, "simsiam.py:prediction_mlp", """
def prediction_mlp(dim=2048, hidden=512, bn="default"):
    from baselines.byol import mlp
    return mlp(dim, hidden, dim)
"""))
    assert status == "blank" and "mlp is left out" in text
    assert "takes yours only from the exercise's own files" in text


def test_after_a_judgement_imports_and_tracebacks_find_the_repository_s_own_modules_again():
    before = dict(sys.modules)
    with transplant.imported(transplant.changed(16, solved(16))):
        from experiments import logs, sec52_alternation

        assert logs is not before.get("experiments.logs")
    assert sec52_alternation.__file__ not in linecache.cache
    for name in transplant.OURS:
        package, _, child = name.rpartition(".")
        assert sys.modules.get(name) is before.get(name), name
        if package in sys.modules:
            assert vars(sys.modules[package]).get(child) is before.get(name), name


def test_an_open_bracket_costs_its_own_function_only():
    text = solved(3)["simsiam.py"].decode()
    for line in ("    return similarity(p, z).mean()", "        z1, z2 = self.f(x1), self.f(x2)"):
        assert line in text
        files = {"simsiam.py": text.replace(line, line + " + (").encode()}
        found = [outcome(number, files) for number in (1, 2, 3, 4)]
        broken = 0 if "similarity(p" in line else 2
        assert "does not parse: '(' was never closed" in found.pop(broken)
        assert found == ["passed"] * 3


def test_what_is_not_asked_for_is_not_taken():
    """A law, another function or a constant that a student edits has no effect."""
    wrong = with_answer(1, *ANSWERS[1].WRONG["no stop-gradient"])
    wrong["exercises/laws_01.py"] = b""
    assert "no gradient" in outcome(1, wrong)
    assert outcome(3, wrong) == "passed"


@pytest.mark.parametrize("content, said", [
    (None, "was not handed in"), (None, "lies in several folders"), (b"\xff\xfe", "not UTF-8"),
    (b"\0", "does not parse"), (b"(" * 10_000, "does not parse"),
    (b"", "no `def negative_cosine` at the top level of the file"),
    (b"D = negative_cosine = 1", "no `def negative_cosine`"),
    (b"if True:\n def negative_cosine(p, z): 1", "no `def negative_cosine`"),
    (b"def negative_cosine(p, z): 1 / 0\ndef D(p, z, x=1 / 0): 1", "ZeroDivisionError"),
    (b"def negative_cosine(p, z): 1\ndef D(p, z): 1", "without `return` returns None"),
    (b"def negative_cosine(p, z): p.grad.add(1)\ndef D(p, z): 1", "an attribute can be None"),
    (b"\n" * 50 + b"def negative_cosine(p, z): global p\ndef D(p, z): 1", "simsiam.py, line 51"),
    (b"def negative_cosine(p, z): raise SystemExit\ndef D(p, z): 1", "SystemExit")])
def test_what_cannot_be_read_or_run_is_refused_with_a_reason(content, said):
    assert said in transplant.judge(1, {"simsiam.py": content})[1]


def test_a_missing_method_is_named_with_its_class():
    said = outcome(3, {"simsiam.py": b"class SimSiam:\n    forward = print"})
    assert said == "simsiam.py: there is no `def forward` at the top level of the class SimSiam."


def test_a_link_a_pipe_or_a_huge_file_is_not_read(tmp_path):
    (tmp_path / "link.py").symlink_to(HOME / "simsiam.py")
    (tmp_path / "experiments").symlink_to(HOME / "experiments")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "huge.py").write_bytes(b"#" * (grade.LARGEST + 1))
    (tmp_path / "good.py").write_bytes(b"#")
    for name in ("link.py", "experiments/table.py", "pipe.py", "huge.py", "none.py"):
        assert grade.read_file(tmp_path, name) is None
    assert grade.read_file(tmp_path, "good.py") == b"#"


def test_a_file_in_place_of_a_folder_is_an_empty_submission_and_a_missing_one_an_error(
        tmp_path, capsys):
    (tmp_path / "ben.zip").write_bytes(b"PK")
    folder = grade.root(tmp_path / "ben.zip", ["simsiam.py"])
    assert "not a folder" in capsys.readouterr().err
    assert grade.read_file(folder, "simsiam.py") is None
    with pytest.raises(SystemExit, match="not found"):
        grade.root(tmp_path / "typo", ["simsiam.py"])


@pytest.mark.parametrize("written, place", [
    (["simsiam.py", "hw/simsiam.py"], ""), (["hw/simsiam.py", "plots/a.png"], "hw"),
    (["a/hw/simsiam.py", "a/hw/plots/a.png"], "a/hw"), (["baselines/byol.py"], ""),
    (["hw/simsiam.py", "hw/old/simsiam.py", "venv/lib/a.py"], "hw"),
    (["hw/simsiam.py", "__MACOSX/simsiam.py", ".git/simsiam.py"], "hw")])
def test_a_submission_is_found_by_its_files_up_to_two_folders_down(
        written, place, tmp_path, capsys):
    folder = tmp_path / ".class" / "anna"
    for name in written:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("#")
    assert grade.root(folder, ["simsiam.py", "baselines/byol.py"]) == folder / place
    assert not capsys.readouterr().err


@pytest.mark.parametrize("written", [
    [], ["hw.zip"], ["anna/simsiam.py", "ben/simsiam.py"], ["a/b/c/simsiam.py"], ["byol.py"]])
def test_a_submission_that_is_not_found_is_named_and_graded_like_an_empty_one(
        written, tmp_path, capsys):
    for name in written:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("#")
    (tmp_path / "link").symlink_to(HOME)
    assert grade.root(tmp_path, ["simsiam.py", "baselines/byol.py"]) == tmp_path
    assert str(tmp_path) in capsys.readouterr().err


def test_what_only_the_grader_forbids_is_explained(tmp_path):
    reference, line = solved(1)["simsiam.py"].decode(), "return similarity(p, z).mean()"
    explained = {
        "__import__('tempfile').TemporaryFile(buffering=0).write(b'x')": "may not write files",
        "input()": "no input",
        "torch.save(p, 'debug.pt')": "may not write files",
        "__import__('subprocess').run(['ls'])": "may not start threads or processes",
        "import scipy.myhelpers": "packages of requirements.txt",
        "breakpoint()": "There is a breakpoint()",
        "__import__('threading').Thread(target=print).start()": "may not start threads"}
    for i, code in enumerate(explained):
        (tmp_path / str(i)).mkdir()
        text = reference.replace(line, f"{code}\n    {line}")
        (tmp_path / str(i) / "simsiam.py").write_text(text)
    command = [sys.executable, "exercises/grade.py", *sorted(tmp_path.iterdir()), "--exercises",
               "1", "--json", tmp_path / "marks.json"]
    subprocess.run(command, cwd=HOME, check=True)
    marks = json.loads((tmp_path / "marks.json").read_text())
    for mark, said in zip(marks.values(), explained.values(), strict=True):
        assert said in mark["exercises"]["1"]["text"]


@pytest.mark.parametrize("number, line, code, told", [
    (9, "for group, velocities, lr in", "self.steps", True),  # as if set in __init__
    (1, "return similarity(p, z)", "from simsiam import unit", True),
    (1, "return similarity(p, z)", "import simsiam; simsiam.unit", True),
    (1, "return similarity(p, z)", "p.unit()", False),
    (1, "return similarity(p, z)", "from torch import unit", False)])
def test_who_misses_what_the_grader_does_not_take_is_told_so_and_nobody_else(
        number, line, code, told):
    (name, text), = solved(number).items()
    text = re.sub(rf"^( +)({re.escape(line)})", rf"\1{code}\n\1\2", text.decode(), flags=re.M)
    status, text = transplant.judge(number, {name: text.encode()})
    assert status == "failed" and ("are the original's" in text) == told, text


def test_names_in_the_table_can_be_told_apart_and_it_has_at_most_80_columns():
    for n in (1, 19):
        lines = grade.table({f"simsiam-homework-1-{name}": jobs(*["passed"] * n)
                             for name in ("anna", "andy")})
        assert "-anna " in lines and "-andy " in lines
    lines = grade.table({"x" * 100: jobs(*["passed"] * 19)}).splitlines()
    assert max(map(len, lines)) <= 80


def test_gradescope_shows_what_hidden_laws_say_only_after_publication():
    found = json.loads(grade.as_gradescope(jobs(*["failed"] * 19)))["tests"]
    assert [test["number"] for test in found if test["visibility"] != "visible"] == ["17", "19"]


# ------------------------------------------------------------------------------------------------
# Reports.


def jobs(*statuses):
    return [grade.Job("a", 1 + i, pathlib.Path(), status, '<"&\x1b>', 0.5)
            for i, status in enumerate(statuses)]


def test_the_reports_have_the_forms_that_others_read():
    classes = {"=a": jobs("passed", "failed"), "b,c": jobs("passed", "time")}
    assert [row for row in csv.reader(grade.as_csv(classes).splitlines())] == [
        ["submission", "score", "1", "2"], ["'=a", "1", "1", "0"], ["b,c", "1", "1", "0"]]
    suites = xml.etree.ElementTree.fromstring(grade.as_junit(classes))
    assert [suite.get("failures") for suite in suites] == ["1", "1"]
    assert suites.find(".//failure").get("message") == '<"&?>'
    results = json.loads(grade.as_gradescope(jobs("passed", "died")))
    assert [sorted(test) for test in results["tests"]] == [
        ["max_score", "name", "number", "output", "score", "status", "visibility"]] * 2
    assert [test["score"] for test in results["tests"]] == [1.0, 0.0]
    assert json.loads(grade.as_json(classes))["b,c"]["exercises"]["2"]["status"] == "time"
    assert max(map(len, grade.table(classes).splitlines())) <= 80


def test_every_submission_has_a_line_of_its_own_whatever_its_folder_is_called(
        tmp_path, monkeypatch):
    monkeypatch.setattr(grade, "grade", lambda jobs, at_once, report: [
        setattr(job, "status", "passed") for job in jobs])
    monkeypatch.chdir(tmp_path)
    folders = ["hw", "a/hw", "b/hw", f"M{ODD}ller"]
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    classes = grade.main([*folders, "--exercises", "1", "--csv", "marks.csv"])
    assert len(classes) == 4 and {jobs[0].folder for jobs in classes.values()} == {
        pathlib.Path(folder) for folder in folders}
    assert len((tmp_path / "marks.csv").read_text().splitlines()) == 5
    for twice in ["hw", "./hw"], ["hw", "b/hw", "b/hw"]:
        with pytest.raises(SystemExit, match="is named twice"):
            grade.main(twice)


def test_the_options_of_the_grader_reach_the_grading_and_every_file_has_its_own_form(
        tmp_path, monkeypatch):
    def graded(jobs, at_once, report):
        asked.append(at_once)
        for job in jobs:
            job.status = "passed" if job.number == 3 else "failed"

    asked = []
    monkeypatch.setattr(grade, "grade", graded)
    monkeypatch.setattr(grade.transplant, "warm_up", lambda numbers: None)
    monkeypatch.chdir(tmp_path)
    chosen = [".", "--exercises", "3", "1", "--at-once", "5"]
    grade.main([*chosen, "--json", "a", "--csv", "b", "--junit", "c"])
    grade.main([*chosen, "--gradescope", "d"])
    assert asked == [5, 1]  # on Gradescope one at a time
    a, b, c, d = (pathlib.Path(name).read_text() for name in "abcd")
    (marks,) = json.loads(a).values()
    assert {n: each["status"] for n, each in marks["exercises"].items()} == {
        "1": "failed", "3": "passed"}
    assert [row[1:] for row in csv.reader(b.splitlines())] == [
        ["score", "1", "3"], ["1", "0", "1"]]
    assert [len(case) for case in xml.etree.ElementTree.fromstring(c).iter("testcase")] == [1, 0]
    assert [test["score"] for test in json.loads(d)["tests"]] == [0, 1]


@pytest.mark.parametrize("number", ["0", "-1"])
def test_a_grader_that_would_run_nothing_at_once_is_refused(number, capsys):
    with pytest.raises(SystemExit):
        grade.main([".", "--at-once", number])
    assert "--at-once" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["check.py", "grade.py", "make.py"])
def test_without_assertions_nothing_is_checked_graded_or_copied(script):
    """Under python -O every answer would pass."""
    done = subprocess.run([sys.executable, "-O", HOME / "exercises" / script, "."],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "python -O" in done.stderr and not done.stdout


@pytest.mark.parametrize("system, peak", [("darwin", 7), ("linux", 7 * 1024)])
def test_on_macOS_a_process_that_has_ended_is_no_error_and_memory_is_in_bytes(
        system, peak, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    usage = SimpleNamespace(ru_maxrss=7, ru_utime=0.0, ru_stime=0.0)
    for name, stand_in in (("killpg", refuse), ("kill", refuse), ("close", print),
                           ("wait4", lambda pid, _: (pid, 0, usage))):
        monkeypatch.setattr(os, name, stand_in)
    monkeypatch.setattr(sys, "platform", system)
    job = grade.Job("hw", 1, HOME)
    job.finish(late=False)
    assert (job.status, job.peak) == ("died", peak)


# ------------------------------------------------------------------------------------------------
# In processes of their own.


def test_who_writes_now_and_then_is_stopped_at_the_limit_too(monkeypatch):
    def child(number, files, nonce, pipe, nobody, scratch):
        for _ in range(30):
            os.write(pipe, b".")
            time.sleep(0.1)
        os._exit(0)

    monkeypatch.setattr(grade, "child", child)
    monkeypatch.setattr(grade, "WALL_SECONDS", 0.5)
    job = grade.Job("hw", 1, HOME)
    grade.grade([job], 1, lambda: None)
    assert job.status == "time"


def test_a_submission_that_computes_for_too_long_is_told_so(monkeypatch):
    monkeypatch.setattr(grade, "child", lambda *_: os.kill(os.getpid(), signal.SIGXCPU))
    job = grade.Job("hw", 1, HOME)
    grade.grade([job], 1, lambda: None)
    assert job.status == "time" and "s of computing" in job.text


HOSTILE = {  # what D does: what becomes of exercise 1
    "while True: pass": "time",
    "__import__('time').sleep(1000)": "time",
    "__import__('os').write(3, b'5'); __import__('os')._exit(0)": "died",
    "raise SystemExit(0)": "failed",
    "torch.zeros(10**10); return p": "memory",
    "return [0] * 10**9": "memory",
    "__import__('os').close(3); __import__('time').sleep(1000)": "died",
    "[__import__('os').write(fd, b'[\"\", \"passed\", \"\"]') for fd in (1, 2, 3)]": "died",
    "__import__('ctypes').string_at(0)": "died",
    "open('/tmp/simsiam-was-here', 'w').write('x' * 10**6)": "failed",
    "__import__('subprocess').run(['sleep', '1000'])": "failed",
    "__import__('os').fork(); __import__('time').sleep(1)": "failed",
}


def write_class(folder):
    """Thirty submissions; returns what must become of exercises 1 to 4 in each."""
    reference, expected = solved(1)["simsiam.py"].decode(), {}

    def write(name, text, *statuses):
        (folder / name).mkdir(parents=True)
        (folder / name / "simsiam.py").write_text(text)
        expected[name] = list(statuses)

    def mix(pick):
        text = reference
        for number in (1, 2, 3, 4):
            kind, i = pick(number)
            place, source = list(getattr(ANSWERS[number], kind).values())[i]
            text = with_answer(number, place, source, text)["simsiam.py"].decode()
        return text

    for i in range(8):  # right, in other forms
        write(f"right{i}", mix(lambda number: ("RIGHT", (i + number) % 2)), *["passed"] * 4)
    for i in range(7):  # one exercise wrong
        bad = 1 + i % 4
        text = mix(lambda number: ("WRONG", i) if number == bad else ("RIGHT", i % 2))
        write(f"wrong{i}", text, *["passed"] * (bad - 1), "failed", *["passed"] * (4 - bad))
    line = "    return similarity(p, z).mean()  # (N,) -> ()"
    for i, (body, status) in enumerate(HOSTILE.items()):
        write(f"hostile{i:02}", reference.replace(line, f"    {body}"), status, *["passed"] * 3)
    write("blank", make.copy_of([1, 2, 3, 4])["simsiam.py"], *["blank"] * 4)
    write("bracket", reference.replace(line, line.replace(")  #", "  #")), "failed",
          *["passed"] * 3)
    (folder / "empty").mkdir()
    expected["empty"] = ["blank"] * 4
    return expected


@pytest.mark.slow
def test_a_class_of_thirty_gets_the_marks_it_deserves_whatever_one_of_them_does(tmp_path):
    expected = write_class(tmp_path / "class")
    assert len(expected) == 30
    command = [sys.executable, "exercises/grade.py", *sorted((tmp_path / "class").iterdir()),
               "--exercises", "1", "2", "3", "4", "--json", tmp_path / "marks.json"]
    subprocess.run(command, cwd=HOME, check=True)
    marks = json.loads((tmp_path / "marks.json").read_text())
    for name, statuses in expected.items():
        got = [each["status"] for each in marks[name]["exercises"].values()]
        assert got == statuses, (name, marks[name])


@pytest.mark.slow
def test_the_zip_for_gradescope_grades_a_submission_without_the_rest_of_the_repository(tmp_path):
    subprocess.run([sys.executable, "exercises/gradescope.py", tmp_path / "a.zip", "1", "17"],
                   cwd=HOME, check=True)
    source, results = tmp_path / "source", tmp_path / "results/results.json"
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert all(file.getinfo(n).external_attr >> 16 & 0o100 for n in ("setup.sh",
                                                                         "run_autograder"))
        file.extractall(source)
    for folder in "submission", "results", "venv/bin":
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "venv/bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "venv/bin/python").chmod(0o755)
    shutil.copy(HOME / "simsiam.py", tmp_path / "submission")
    (tmp_path / "submission/mylaws.py").write_text(list(ANSWERS[17].RIGHT.values())[0][1])
    # Both scripts know one place, /autograder; here it is this test's folder.
    for name in "setup.sh", "run_autograder":
        script = (source / name).read_text()
        (source / name).write_text(script.replace("/autograder", str(tmp_path)))
        subprocess.run(["bash", "-n", source / name], check=True)
        paths = re.findall(rf"{tmp_path}/source(?:/[\w.]+)*", (source / name).read_text())
        assert paths and all(pathlib.Path(path).exists() for path in paths), name
    subprocess.run(["bash", source / "run_autograder"], check=True, cwd=tmp_path)
    assert [t["score"] for t in json.loads(results.read_text())["tests"]] == [1, 1]


@pytest.mark.slow
def test_a_copy_made_and_solved_in_a_shell_passes_its_own_check(tmp_path):
    run = lambda *command: subprocess.run([sys.executable, *command], capture_output=True,
                                          text=True)
    made = run(HOME / "exercises/make.py", tmp_path / "hw", "1", "3")
    assert made.returncode == 0, made.stderr
    check = tmp_path / "hw/exercises/check.py"
    assert "Not written yet" in run(check, "3").stdout
    shutil.copy(HOME / "simsiam.py", tmp_path / "hw/simsiam.py")
    assert run(check, "3").returncode == 0 and run(check, "1").returncode == 0
    assert "choose" in run(HOME / "exercises/make.py", tmp_path / "hw2", "99").stderr
    assert "already" in run(HOME / "exercises/make.py", tmp_path / "hw").stderr
