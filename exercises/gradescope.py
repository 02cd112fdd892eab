"""Write autograder.zip, to upload to Gradescope under Configure Autograder.

    python exercises/gradescope.py                     autograder.zip: all exercises
    python exercises/gradescope.py week1.zip 1 2       the exercises you handed out

Gradescope unpacks it to /autograder/source and runs setup.sh once, then run_autograder for each
submission, both as root; grade.py therefore runs every exercise as the user "nobody".
"""

import argparse
import pathlib
import sys
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from exercises import exercise
from exercises.exercise import HOME
from utils.arguments import ending
from utils.console import plain_errors

SETUP = """\
#!/usr/bin/env bash
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
python=python3
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || python=python3.11
apt-get update -q
apt-get install -yq --no-install-recommends "$python" "$python-venv"
"$python" -m venv /autograder/venv
# The build without CUDA takes 0.8 GB instead of 5.6, and half the memory.
/autograder/venv/bin/pip install -q torch torchvision \\
    --index-url https://download.pytorch.org/whl/cpu
/autograder/venv/bin/pip install -q -r /autograder/source/requirements.txt
# "nobody" runs the submissions and must not read the solutions.
chmod -R go= /autograder/source
"""

RUN = """\
#!/usr/bin/env bash
exec /autograder/venv/bin/python /autograder/source/exercises/grade.py /autograder/submission \\
    --gradescope /autograder/results/results.json --exercises {numbers}
"""


def contents():
    """The files of this repository that grading needs."""
    for folder in (".", "utils", "baselines", "experiments", "exercises"):
        yield from sorted(HOME.glob(f"{folder}/*.py"))
    yield from sorted(HOME.glob("exercises/*.md"))  # the titles
    yield HOME / "tests/answers/01.py"  # the mistakes that exercise 17 plants
    yield HOME / "requirements.txt"


@plain_errors
def main(argv=None):
    p = argparse.ArgumentParser(description="Write a zip for Gradescope's autograder.")
    p.add_argument("zip", nargs="?", type=ending(".zip"), default="autograder.zip",
                   help="the file to write (default: autograder.zip)")
    p.add_argument("numbers", nargs="*", type=int, help="exercises to grade (default: all)")
    args = p.parse_args(argv)
    every = exercise.numbers()
    numbers = sorted(set(args.numbers)) or every
    if unknown := set(numbers) - set(every):
        p.error(f"exercise {min(unknown)} does not exist")
    run = RUN.format(numbers=" ".join(map(str, numbers)))
    with zipfile.ZipFile(args.zip, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in (("setup.sh", SETUP), ("run_autograder", run)):
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o100755 << 16  # executable
            file.writestr(info, text)
        for path in contents():
            file.write(path, path.relative_to(HOME))
    print(f"{args.zip}: exercises {', '.join(map(str, numbers))}; upload it to Gradescope")


if __name__ == "__main__":
    main()
