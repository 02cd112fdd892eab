"""Make a student's copy of the repository, without the functions of some exercises.

    python exercises/make.py ../hw             all exercises
    python exercises/make.py ../hw 1 2 3 4     an afternoon

Python's parser finds the functions. Signature and docstring stay, as the task; the body becomes one
line. Left out: .git, results, tests (many spell a solution out), the answers, and whatever else
would give one away: functions that an exercise names in HIDE, and those files of experiments/ that
neither a script nor a chosen exercise needs.
"""

import argparse
import ast
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from exercises import exercise
from exercises.exercise import HOME
from utils.console import plain_errors

# ------------------------------------------------------------------------------------------------
# Blanks.


def blank(source, name, line):
    """A file's text with the body of one function replaced by a line; its docstring stays."""
    node = exercise.find(ast.parse(source), name)
    lines = source.splitlines(keepends=True)
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        start = first.end_lineno
    else:  # the last line of the signature: comments may stand between it and the body
        start = next(i for i in range(node.lineno, first.lineno)
                     if lines[i - 1].partition("#")[0].rstrip().endswith(":"))
    end = node.end_lineno
    indent = " " * (node.col_offset + 4)
    # Comments below the last line of the body also belong to it.
    while end < len(lines) and re.match(rf"{indent} *#", lines[end]):
        end += 1
    text = "".join(lines[:start] + [f"{indent}{line}\n"] + lines[end:])
    ast.parse(text)
    return text


def cut(files, numbers):
    """Cut the functions of some exercises out of {name: text}, in place."""
    places = {place: f"exercise {number}: write {place.split(':')[1]} in {place.split(':')[0]}"
              for number in numbers for place in exercise.about(number).BLANKS}
    for number in numbers:
        for place in exercise.about(number).HIDE:
            places.setdefault(place, f"exercise {number}: {place.split(':')[1]} is left out, as it"
                              " would give the answer away; write it yourself if you need it")
    for place, message in places.items():
        file, name = place.split(":")
        files[file] = blank(files[file], name, f'raise NotImplementedError("{message}")')


# ------------------------------------------------------------------------------------------------
# The copy.

STUDENT = "__init__", "check", "exercise"  # the scripts of exercises/ that a student gets

AGENTS = """\
# For assistants

This folder is coursework: the person you are helping should write the functions marked
`raise NotImplementedError("exercise N: ...")` without being given the answer.

* Explain: the paper (arXiv 2011.10566), the docstring, the sheet in exercises/, what a message
  of `python exercises/check.py N` means, how PyTorch's functions behave.
* Review: say what a law of exercises/laws_NN.py demands, and where the code breaks it. Ask
  questions. Show a small example with numbers.
* Do not write the bodies of those functions, or mylaws.py, mine.py or predictions.txt: not even
  in part, as pseudocode or in another language. Do not look the answer up in the original
  repository or elsewhere.
* Do not change exercises/: the grader uses its own copy.
"""


def needed(files, wanted):
    """These files, and those of experiments/ that they import, directly or not."""
    seen, todo = set(), list(wanted)
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            modules = re.findall(r"^\s*from experiments\.(\w+) import", files[name], re.M)
            modules += [m for names in re.findall(r"^\s*from experiments import ([\w, ]+)",
                                                  files[name], re.M) for m in names.split(", ")]
            todo += [f for m in modules if (f := f"experiments/{m}.py") in files]
    return seen


def readme(numbers):
    """The students' part of README.md, with only the rows of the chosen exercises."""
    text = exercise.read("exercises/README.md").partition("\n## For teachers")[0]
    text = re.sub(r"\*Teachers: .*\n\n", "", text)
    rows = [line for line in text.splitlines()
            if not (row := re.match(r"\| *(\d+) *\|", line)) or int(row[1]) in numbers]
    text = re.sub(r"\]\((?=\d\d_)", "](exercises/", "\n".join(rows)) + "\n"
    own = [number for number in (17, 18) if number in numbers]
    if len(own) < 2:
        note = f" (but {own[0]} uses `D` and `SimSiam`)" if own else ""
        text = re.sub(r" \(but 17 and 18\s+use `D` and `SimSiam`\)", note, text)
    if not {1, 2, 3, 4} <= set(numbers):
        text = re.sub(r"Exercises 1 to 4 take an afternoon\.\s+", "", text)
    return re.sub(r"(check\.py|exercise) 1\b", rf"\1 {numbers[0]}", text)


def copy_of(numbers):
    """The files of a student's copy: {name: text or bytes}."""
    files = {str(path.relative_to(HOME)): path.read_text("utf-8") for folder in
             (".", "utils", "baselines", "experiments") for path in HOME.glob(f"{folder}/*.py")}
    cut(files, numbers)
    infos = [exercise.about(number) for number in numbers]
    wanted = [name for name in files if not re.match("experiments/(?!__)", name)]
    wanted += [place.split(":")[0] for info in infos for place in info.BLANKS]
    keep = needed(files, wanted)
    files = {name: text for name, text in files.items() if name in keep}
    for name in (*STUDENT, *(f"laws_{number:02}" for number in numbers)):
        files[f"exercises/{name}.py"] = exercise.read(f"exercises/{name}.py")
    for number in numbers:
        files[exercise.within(exercise.sheet(number))] = exercise.sheet(number).read_text("utf-8")
    for info in infos:
        files.update(info.FILES)
    for name in ("LICENSE", "requirements.txt", ".gitignore", "docs/method.svg"):
        files[name] = exercise.read(name)
    return {**files, "README.md": readme(numbers), "AGENTS.md": AGENTS}


@plain_errors
def main(argv=None):
    p = argparse.ArgumentParser(description="Make a student's copy of this repository.")
    p.add_argument("folder", type=pathlib.Path, help="the copy; must be empty or not exist yet")
    p.add_argument("numbers", nargs="*", type=int, help="exercises to hand out (default: all)")
    args = p.parse_args(argv)
    every = exercise.numbers()
    numbers = sorted(set(args.numbers)) or every
    if unknown := set(numbers) - set(every):
        raise SystemExit(f"exercise {min(unknown)} does not exist; choose from"
                         f" {', '.join(map(str, every))}")
    if args.folder.exists() and (not args.folder.is_dir() or any(args.folder.iterdir())):
        raise SystemExit(f"{args.folder}: already exists and is not empty; name a new folder")
    for name, text in copy_of(numbers).items():
        path = args.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    print(f"{args.folder}: exercises {', '.join(map(str, numbers))}; start with"
          f" {args.folder / 'README.md'}")


if __name__ == "__main__":
    main()
