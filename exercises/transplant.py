"""Put a student's functions into the reference, in memory: no file is written.

Only two things in a student's file count: the functions of the exercise, and whatever they use that
the reference lacks (helper functions, constants, imports, further methods of the class). If both
have something of the same name, the reference's is used. Line numbers in messages are the
student's. A file that does not parse is read in pieces, so that an open bracket costs only its own
exercise.
"""

import ast
import contextlib
import functools
import importlib.abc
import importlib.util
import linecache
import re
import symtable
import sys
from importlib.machinery import ModuleSpec

import torch

from exercises import exercise, make
from exercises.exercise import HOME, find

FOLDERS = "utils", "baselines", "experiments", "exercises"
FILES = {str(path.relative_to(HOME))[:-3].replace("/", "."): path
         for folder in (".", *FOLDERS) for path in HOME.glob(f"{folder}/*.py")}
# The modules that are imported anew. utils and the grader's own stay: they hold its state.
OURS = {name for name in FILES if not name.startswith("utils.")} - {
    f"exercises.{name}" for name in ("exercise", "transplant", "grade", "make", "check")}

# ------------------------------------------------------------------------------------------------
# Reading a student's file.


class Refused(Exception):
    """A file or a function is missing or cannot be read."""


def parse(text, name):
    """The syntax tree of a student's file and None; or that of what parses, and the error."""
    try:
        return ast.parse(text), None
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else error
        return ast.Module(list(pieces(text)), []), f"{name}{line} does not parse: {reason}"


def pieces(text):
    """The top-level statements that parse on their own; of a broken class, such methods."""
    lines = text.splitlines(keepends=True)
    for start, end in stretches(lines, 0, len(lines), r"[^\s#)\]}]"):
        try:
            yield from ast.parse("\n" * start + "".join(lines[start:end])).body
        except (SyntaxError, ValueError):
            if lines[start].startswith("class "):
                yield from methods(lines, start, end)


def methods(lines, start, end):
    """A class with only those of its methods that parse."""
    name, whole = re.match(r"class (\w+)", lines[start])[1], None
    for a, b in stretches(lines, start + 1, end, r"    (def|@)"):
        with contextlib.suppress(SyntaxError, ValueError):
            head = "\n" * (a - 1) + f"class {name}:\n"  # empty lines keep the line numbers
            one = ast.parse(head + "".join(lines[a:b])).body[0]
            whole = whole or ast.ClassDef(one.name, [], [], [], [], lineno=start + 1, col_offset=0)
            whole.body += one.body
    if whole:
        yield whole


def stretches(lines, start, end, pattern):
    """Where statements begin and end: (first line, line after the last), counted from 0."""
    starts = [i for i in range(start, end) if re.match(pattern, lines[i])]
    # A decorator belongs to what follows.
    starts = [i for i, before in zip(starts, [None, *starts])
              if before is None or not lines[before].lstrip().startswith("@")]
    return zip(starts, [*starts[1:], end])


# ------------------------------------------------------------------------------------------------
# The transplant.


DEFINITIONS = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef


def defined(tree):
    """What a module defines at its top level: {name: [the statements that define it]}."""
    found = {}
    for node in tree.body:
        # What is inside a function is its own; what is inside an if or try is the module's.
        for n in [node] if isinstance(node, DEFINITIONS) else ast.walk(node):
            name = ""
            if isinstance(n, DEFINITIONS):
                name = n.name
            elif isinstance(n, ast.alias):
                name = (n.asname or n.name).split(".")[0]
            elif isinstance(getattr(n, "ctx", None), ast.Store):
                name = root(n)  # of X = 1, X[0] = 1 and X.a = 1
            elif isinstance(n, ast.Expr) and isinstance(n.value, ast.Call):
                call = n.value.func  # X.append(1) changes X; print(X) does not
                name = root(call) if isinstance(call, ast.Attribute) else ""
            if name and node not in found.setdefault(name, []):
                found[name].append(node)
    return found


def root(node):
    """The name that an expression such as X[0].a starts with; "" if it starts with none."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def used(node, kind):
    """The names that a statement takes from its module; kind: as in helpers()."""
    if kind is ast.Attribute:
        return {n.attr for n in ast.walk(node) if isinstance(n, kind)}
    try:
        found, tables = set(), [symtable.symtable(ast.unparse(node), "", "exec")]
    except SyntaxError:  # compile() will find it, too, and name the student's own line
        return set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        # A function's own names hide the module's; a class can still read them: EPS = EPS.
        outside = table.get_type() in ("module", "class")
        found |= {symbol.get_name() for symbol in table.get_symbols()
                  if (symbol.is_referenced() if outside else symbol.is_global())}
    return found


def helpers(node, student, reference, kind=ast.Name):
    """The student's statements that `node` uses, directly or not, and that the reference lacks.

    student, reference: two modules; or a class of each, with ast.Attribute as kind
    """
    own, theirs, found, todo = defined(student), defined(reference), [], [node]
    while todo:
        names = used(todo.pop(), kind) | {"*"}  # any name may come from a starred import
        for name in sorted(names & own.keys() - theirs.keys()):
            new = [statement for statement in own[name] if statement not in found]
            found += new
            todo += new
    return sorted(found, key=lambda statement: statement.lineno)


def place_of(extra, student, reference):
    """The index in the reference's body of the first statement that the student has below `extra`.

    For the reference's own statements that is where the student first defines one of their names.
    """
    first = {name: found[0].lineno for name, found in defined(student).items()}
    for i, node in enumerate(reference.body):
        names = defined(ast.Module([node], [])).keys() & first.keys()
        lines = [node.lineno] if node in student.body else [first[name] for name in names]
        if any(line > extra.lineno for line in lines):
            return i
    return len(reference.body)


def transplant(reference, student, names):
    """Put functions of the student's tree into the reference's; Refused if one is not there."""
    # `from __future__ import` holds for a whole file, and only the docstring may stand above it.
    reference.body[1:1] = [node for node in student.body if isinstance(node, ast.ImportFrom)
                           and node.module == "__future__"]
    for name in names:
        new, (outer, _, own) = find(student, name), name.rpartition(".")
        if not isinstance(new, ast.FunctionDef):
            where = f"class {outer}" if outer else "file"
            raise Refused(f"there is no `def {own}` at the top level of the {where}.")
        place = find(reference, outer) if outer else reference
        place.body[place.body.index(find(reference, name))] = new
        nodes = [new]
        if isinstance(place, ast.ClassDef):
            extra = helpers(new, find(student, outer), place, ast.Attribute)
            place.body += extra
            nodes += extra
        for node in nodes:
            for extra in helpers(node, student, reference):
                reference.body.insert(place_of(extra, student, reference), extra)


@functools.cache
def handed_out(number):
    """The files of an exercise's functions as a student gets them: {name: text}."""
    info = exercise.about(number)
    names = [place.split(":")[0] for place in (*info.BLANKS, *info.HIDE)]
    files = {name: exercise.read(name) for name in names}
    make.cut(files, [number])
    return files


def changed(number, files):
    """The modules that an exercise changes: {module name: tree}; Refused says why there are none.

    files: {"simsiam.py": bytes, or None if it was not handed in}
    """
    info, trees = exercise.about(number), {}
    texts = {name: decoded(name, content) for name, content in files.items()}
    for name in info.FILES:
        exercise.SUBMITTED[name] = texts[name]
    # Not the reference itself: it would lend what a student's copy lacks.
    for file, text in handed_out(number).items():
        tree = trees[file.removesuffix(".py").replace("/", ".")] = ast.parse(text)
        names, hidden = ([place.split(":")[1] for place in places if place.startswith(file + ":")]
                         for places in (info.BLANKS, info.HIDE))
        if names:
            take(tree, file, texts[file], names, hidden)
    return trees


def take(tree, file, text, names, hidden):
    """Put these functions of a student's file into a tree, and of the hidden ones those it has."""
    student, error = parse(text, file)
    try:
        transplant(tree, student, [*names, *(name for name in hidden if find(student, name))])
    except Refused as refused:
        raise Refused(error or f"{file}: {refused}")
    # torch.jit.script compiles the lines that it finds there.
    lines = [line + "\n" for line in text.split("\n")]
    linecache.cache[str(HOME / file)] = len(text), None, lines, str(HOME / file)


def decoded(name, content):
    if content is None:
        raise Refused(f"{name} was not handed in (or is a link, or larger than a megabyte, or lies"
                      " in several folders).")
    try:
        return content.decode("utf-8-sig")
    except UnicodeError:
        raise Refused(f"{name} is not UTF-8 text.")


# ------------------------------------------------------------------------------------------------
# Importing this repository from memory.


@functools.cache
def compiled(name):
    """The compiled code of an unchanged module of this repository."""
    return compile(FILES[name].read_text("utf-8"), str(FILES[name]), "exec")


class Importer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports this repository's modules: some with a student's functions, the others as they are.

    All come from memory: once the process runs as another user, it may not read the files.
    """

    def __init__(self, trees):
        self.code = {name: compile(ast.fix_missing_locations(tree), str(FILES[name]), "exec")
                     for name, tree in trees.items()}

    def find_spec(self, name, path=None, target=None):
        if name in FOLDERS:
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(HOME / name)]
            return spec
        return importlib.util.spec_from_loader(name, self) if name in FILES else None

    def exec_module(self, module):
        name = module.__name__
        module.__file__ = str(FILES[name])
        exec(self.code.get(name) or compiled(name), vars(module))


def load_only(modules):
    """Of OURS, let `import` find just these as already loaded: {name: module}."""
    for name in OURS:
        package, _, child = name.rpartition(".")
        sys.modules.pop(name, None)
        if package in sys.modules:  # a package has its modules as attributes, too
            vars(sys.modules[package]).pop(child, None)
    for name, module in modules.items():
        package, _, child = name.rpartition(".")
        sys.modules[name] = module
        if package:
            setattr(sys.modules[package], child, module)


@contextlib.contextmanager
def imported(trees):
    """A context in which `import` finds these trees instead of this repository's modules."""
    importer = Importer(trees)
    before = {name: sys.modules[name] for name in OURS & sys.modules.keys()}
    load_only({})
    sys.meta_path.insert(0, importer)
    try:
        yield
    finally:
        sys.meta_path.remove(importer)
        load_only(before)
        linecache.clearcache()


# This repository's modules, and the classes (or functions) that the exercises ask for.
OWN = "|".join([*(name for name in FILES if not name.startswith("exercises.")),
                *(place.split(":")[1].split(".")[0] for number in exercise.numbers()
                  for place in exercise.about(number).BLANKS)])
HINTS = {  # a pattern of Python's messages: what it means here, where check.py may have passed
    "File too large|iostream error": "In the grader an exercise may not write files.",
    "No module named": "The grader has only the exercise's own files, Python's library and the"
                       " packages of requirements.txt.",
    "is left out, as": "The grader takes yours only from the exercise's own files.",
    "EOFError": "In the grader there is no input: remove input().",
    "BdbQuit": "There is a breakpoint() in it: remove it.",
    "start new thread|Resource temporarily unavailable":
        "In the grader an exercise may not start threads or processes.",
    rf"'({OWN})'( object)? has no attribute|cannot import name .* from .*'({OWN})'":
        "The grader takes only the functions of the exercise, and what they use by its plain name"
        " from their own file; `__init__` and all other functions are the original's.",
}


def judge(number, files):
    """The result of an exercise with a student's files: a status and a message."""
    try:
        with imported(changed(number, files)):
            status, text = exercise.outcome(number)
    except Refused as refused:
        return "blank" if "handed in" in str(refused) else "failed", str(refused)
    except MemoryError:
        status, text = "memory", ""
    except Exception as error:  # a default argument or a decorator of theirs raised it
        status, text = "failed", f"{type(error).__name__}: {error}"
    if "MemoryError" in text or "can't allocate memory" in text:
        return "memory", f"It needs too much memory. {text}"
    hints = [hint for what, hint in HINTS.items() if re.search(what, text)]
    return status, "\n".join([text, *hints])


def warm_up(numbers):
    """Read and import, once for all children, what the exercises need."""
    with imported({}):
        for number in numbers:
            exercise.laws(number)
            handed_out(number)
    for name in FILES:  # laws may import any of them while they run
        compiled(name)
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # the first use imports for seconds
