"""Put a student's functions into the reference, in memory: no file is written.

Only two things in a student's file count: the functions of the exercise, and whatever they use that
the reference lacks (helper functions, constants, imports, further methods of the class). If both
have something of the same name, the reference's is used. Line numbers in messages are the
student's. A file that does not parse is read in pieces, so that an open bracket costs only its own
exercise.
"""

import ast
import contextlib
import copy
import functools
import importlib.abc
import importlib.util
import re
import symtable
import sys
from importlib.machinery import ModuleSpec

import torch

from exercises import exercise
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


DEFINITIONS = ast.FunctionDef, ast.ClassDef


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
            elif isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store):
                name = n.id
            if name and node not in found.setdefault(name, []):
                found[name].append(node)
    return found


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


def transplant(reference, student, names, hidden=()):
    """Put functions of the student's tree into the reference's; Refused if one is not there.

    hidden: functions that the student's copy lacks, and that the reference must not lend either
    """
    missing = ast.parse("def missing(*_, **__): raise NameError('left out of your copy')").body[0]
    for name in (*names, *hidden):
        new, outer = find(student, name), name.rpartition(".")[0]
        if new is None and name in hidden:
            new = copy.deepcopy(missing)
            new.name = name.rpartition(".")[2]
        if not isinstance(new, ast.FunctionDef):
            raise Refused(f"there is no function {name}.")
        place = find(reference, outer) if outer else reference
        place.body[place.body.index(find(reference, name))] = new
        top = reference.body.index(find(reference, name.split(".")[0]))
        nodes = [new]
        if isinstance(place, ast.ClassDef):
            extra = helpers(new, find(student, outer), place, ast.Attribute)
            place.body += extra
            nodes += extra
        for node in nodes:
            extra = helpers(node, student, reference)
            reference.body[top:top] = extra
            top += len(extra)


def changed(number, files):
    """The modules that an exercise changes: {module name: tree}; Refused says why there are none.

    files: {"simsiam.py": bytes, or None if it was not handed in}
    """
    info, trees = exercise.about(number), {}
    texts = {name: decoded(name, content) for name, content in files.items()}
    for name in info.FILES:
        exercise.SUBMITTED[name] = texts[name]
    for file in dict.fromkeys(place.split(":")[0] for place in info.BLANKS):
        names, hidden = ([place.split(":")[1] for place in places if place.startswith(file + ":")]
                         for places in (info.BLANKS, info.HIDE))
        student, error = parse(texts[file], file)
        tree = ast.parse(exercise.read(file))
        try:
            transplant(tree, student, names, hidden)
        except Refused as refused:
            raise Refused(error or f"{file}: {refused}")
        trees[file.removesuffix(".py").replace("/", ".")] = tree
    return trees


def decoded(name, content):
    if content is None:
        raise Refused(f"{name} was not handed in (or is a link, or larger than a megabyte).")
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


HINTS = {  # part of a message of Python's: what it means here, where check.py may have passed
    "File too large": "In the grader an exercise may not write files.",
    "No module named": "The grader takes nothing but the exercise's own files.",
    "EOFError": "In the grader there is no input: remove input().",
    "BdbQuit": "There is a breakpoint() in it: remove it.",
    "start new thread": "In the grader an exercise may not start threads or processes.",
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
    return status, "\n".join([text, *(hint for what, hint in HINTS.items() if what in text)])


def warm_up(numbers):
    """Read and import, once for all children, what the exercises need."""
    with imported({}):
        for number in numbers:
            exercise.laws(number)
            for place in exercise.about(number).BLANKS:
                exercise.read(place.split(":")[0])
    for name in FILES:  # laws may import any of them while they run
        compiled(name)
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # the first use imports for seconds
