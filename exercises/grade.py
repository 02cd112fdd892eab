"""Grade submissions, one exercise at a time: the student's functions within the reference.

    python exercises/grade.py ../class/*                           all exercises, a table
    python exercises/grade.py ../class/* --exercises 1 2 3 4 --csv marks.csv
    python exercises/grade.py /autograder/submission --gradescope /autograder/results/results.json

For each exercise the student's functions, with the helpers and imports they use, replace those of
this repository; then the laws of that exercise are run, and all must hold. Each exercise of each
submission runs in a process of its own, with limits, forked from this one, which has imported
torch, so it starts in a hundredth of a second. Nothing of a submission is parsed or run in this
process. README.md says what this does not stop.
"""

import argparse
import contextlib
import csv
import ctypes
import io
import json
import os
import pathlib
import pwd
import resource
import secrets
import select
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

os.environ["OMP_NUM_THREADS"] = "1"  # a forked process has none of its parent's threads
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import torch

from exercises import exercise, transplant
from utils import runs
from utils.arguments import positive
from utils.console import plain_errors

# Of one exercise; the reference needs a second at most. 19 times 25 s are within Gradescope's 10
# minutes, in which a process that computes has half a CPU.
CPU_SECONDS, WALL_SECONDS = 10, 25
MEMORY = 256 << 20  # bytes of address space, on top of what torch takes
LARGEST = 1 << 20  # bytes of one file of a submission
SYMBOLS = {"passed": "+", "failed": "x", "blank": ".", "time": "t", "memory": "m", "died": "!"}

# ------------------------------------------------------------------------------------------------
# A submission. Only its bytes are read here.


def named(folders, files):
    """The roots of submissions by their names, which are the folders', or the paths of namesakes.

    files: as in root()
    SystemExit: a folder does not exist, or is named twice
    """
    found, paths = {}, [folder.resolve() for folder in folders]
    for folder, path in zip(folders, paths):
        if paths.count(path) > 1:
            raise SystemExit(f"{folder}: is named twice; name each submission once")
        found[path.name if path.name not in found else str(path)] = root(folder, files)
    return found


def root(folder, files):
    """The folder of a submission that has one of these files: often there are others around it.

    files: names relative to it   Where none is found, as in a zip, nothing will be read.
    """
    if not folder.exists():
        raise SystemExit(f"{folder}: not found; name a folder for each submission")
    if not folder.is_dir():
        print(f"{folder}: not a folder, so graded like an empty one; does it need unpacking?",
              file=sys.stderr)
        return folder
    found = []
    for level in [folder], folder.glob("*"), folder.glob("*/*"):
        found = found or [path for path in level if has(path, folder, files)]
    if len(found) != 1:
        print(f"{folder}: {'several folders have' if found else 'no folder has'} files of these"
              " exercises, so graded like an empty one; name one unpacked folder per submission",
              file=sys.stderr)
    return found[0] if len(found) == 1 else folder


def has(path, folder, files):
    """Whether path, a folder in `folder` or itself, has one of the files; no link is followed."""
    below = path.relative_to(folder)
    hidden = any(part[0] in "._" for part in below.parts)
    return (not hidden and path.resolve() == folder.resolve() / below
            and any(read_file(path, name) is not None for name in files))


def files_of(number):
    """The names of the files that an exercise asks for, relative to the repository."""
    info = exercise.about(number)
    return {place.split(":")[0] for place in info.BLANKS} | set(info.FILES)


def read_file(folder, name):
    """The bytes of a file of a submission; None if there is none, or it is a link or too large."""
    path = folder / name
    try:
        # A link could lead to the reference: root may read anything.
        inside = path.parent.resolve() == folder.resolve() / pathlib.PurePath(name).parent
        small = inside and os.lstat(path).st_size <= LARGEST
        return runs.read_regular(path) if small else None
    except OSError:
        return None


# ------------------------------------------------------------------------------------------------
# The child: one exercise of one submission.


def another_user():
    """The user "nobody" if this process may become it and it can read Python and torch, else None.

    Other users cannot read a Python below /root, for example: imports within a law would fail.
    """
    files = [pathlib.Path(module.__file__) for module in (os, torch)]
    readable = all(path.stat().st_mode & (0o001 if path.is_dir() else 0o004)
                   for file in files for path in (file, *file.parents))
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("nobody") if os.geteuid() == 0 and readable else None


def give_up_rights(nobody, scratch):
    """Limit what this process may use and do from here on."""
    os.setsid()
    os.chdir(scratch)
    if nobody:
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
    elif os.geteuid() == 0 and sys.platform == "linux":
        # RLIMIT_NPROC does not stop root, so the process counts as nobody's (65534) and gives up
        # root's powers, all but the one to read any file (4): Python may belong to another user.
        # 0x20080522 is the version of the system call's structures.
        os.setresuid(65534, 0, 0)
        ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522), (ctypes.c_uint32 * 6)(4, 4))
    used = 0
    if sys.platform == "linux":
        used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # not a byte into any file
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # no new process that could outlive it
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing fails instead
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def child(number, files, nonce, pipe, nobody, scratch):
    """Run the laws of an exercise and write the result into the pipe. Does not return."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        os.dup2(pipe, 3)
        os.closerange(4, 4096)  # other submissions' pipes
        try:
            give_up_rights(nobody, scratch)
        except (OSError, ValueError) as error:
            result = "died", f"The grader could not set its limits: {error}"
        else:
            result = transplant.judge(number, files)
        # A result counts only with the nonce: what a submission writes by accident does not.
        os.write(3, json.dumps([nonce, result[0], result[1][:4000]]).encode())
    finally:
        os._exit(0)


# ------------------------------------------------------------------------------------------------
# The parent.


@dataclass
class Job:
    """One exercise of one submission; without a process until it is started."""

    name: str  # of the submission
    number: int
    folder: pathlib.Path
    status: str = ""  # empty: not graded yet
    text: str = "Not graded: time ran out."
    seconds: float = 0.0
    peak: int = 0  # bytes of memory
    pid: int = 0
    pipe: int = -1
    nonce: str = field(default_factory=secrets.token_hex)
    written: bytes = b""
    started: float = 0.0

    def start(self, nobody, scratch):
        files = {name: read_file(self.folder, name) for name in files_of(self.number)}
        self.started, (self.pipe, out) = time.time(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            child(self.number, files, self.nonce, out, nobody, scratch)
        os.close(out)

    def listen(self):
        """Read what the child has written; if that is nothing, it has ended."""
        chunk = os.read(self.pipe, 65536)
        self.written = (self.written + chunk)[-65536:]
        if not chunk:
            self.finish(late=False)

    def finish(self, late):
        """End the process and record the result of the exercise."""
        # Even if it is not late: it may have closed its pipe and gone to sleep.
        for kill in (os.killpg, os.kill):
            # macOS refuses to signal a process that has ended.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)
        os.close(self.pipe)
        _, code, usage = os.wait4(self.pid, 0)
        self.seconds, self.pipe = time.time() - self.started, -1
        self.peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        cpu = usage.ru_utime + usage.ru_stime
        try:
            nonce, self.status, self.text = json.loads(self.written)
            if nonce != self.nonce or self.status not in SYMBOLS:
                raise ValueError
        except Exception:  # it may have written anything
            end = os.WTERMSIG(code)  # 0: it exited by itself
            self.status, self.text = "died", "It ended the process instead of returning."
            if end not in (0, signal.SIGKILL):  # SIGKILL is ours
                self.text = f"It was ended by {signal.Signals(end).name}."
            if late or end == signal.SIGXCPU or cpu >= CPU_SECONDS:
                self.status = "time"
                self.text = (f"Stopped after {WALL_SECONDS} s, or {CPU_SECONDS} s of computing:"
                             " an endless loop, or much printing?")


def grade(jobs, at_once, report):
    """Run all jobs, some at once; report() is called after each."""
    nobody = another_user()
    if nobody is None:
        print('submissions run as this user, not as "nobody": that needs root, and a Python\n'
              'that "nobody" can read', file=sys.stderr)
    if sys.platform != "linux":
        print("submissions may use any amount of memory: only Linux has a limit", file=sys.stderr)
    waiting, running = list(jobs)[::-1], []
    with tempfile.TemporaryDirectory() as scratch:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    running.append(waiting.pop())
                    running[-1].start(nobody, scratch)
                ready, _, _ = select.select([job.pipe for job in running], [], [], 1.0)
                for job in running:
                    if job.pipe in ready:
                        job.listen()
                    # A process that writes again and again must end, too.
                    if job.pipe >= 0 and time.time() - job.started > WALL_SECONDS:
                        job.finish(late=True)
                if any(job.pipe < 0 for job in running):
                    running = [job for job in running if job.pipe >= 0]
                    report()
        finally:
            for job in running:
                job.finish(late=True)


# ------------------------------------------------------------------------------------------------
# Reports.


def score(jobs):
    return sum(job.status == "passed" for job in jobs)


def as_json(classes):
    return json.dumps({name: {"score": score(jobs), "exercises": {
        job.number: {"status": job.status, "text": job.text, "seconds": round(job.seconds, 2)}
        for job in jobs}} for name, jobs in classes.items()}, indent=1) + "\n"


def as_csv(classes):
    """One line per submission: its score, then 1 or 0 for each exercise."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["submission", "score", *(job.number for job in next(iter(classes.values())))])
    for name, jobs in classes.items():
        name = name.encode("utf-8", "replace").decode()  # a zip may hold names in another encoding
        # A spreadsheet would run a name that starts like a formula.
        name = f"'{name}" if name[0] in "=+-@" else name
        rows.writerow([name, score(jobs), *(int(job.status == "passed") for job in jobs)])
    return out.getvalue()


def as_junit(classes):
    """One test suite per submission, one test case per exercise."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<testsuites>"]
    for name, jobs in classes.items():
        failures = len(jobs) - score(jobs)
        lines.append(f'<testsuite name={attribute(name)} tests="{len(jobs)}"'
                     f' failures="{failures}">')
        for job in jobs:
            case = attribute(f"{job.number}. {exercise.title(job.number)}")
            lines.append(f'<testcase name={case} time="{job.seconds:.2f}">')
            if job.status != "passed":
                lines.append(f"<failure message={attribute(job.text)}/>")
            lines.append("</testcase>")
        lines.append("</testsuite>")
    return "\n".join([*lines, "</testsuites>"]) + "\n"


def attribute(text):
    """Text as an XML attribute; XML allows no control characters."""
    return quoteattr("".join(c if c.isprintable() or c == "\n" else "?" for c in text))


def as_gradescope(jobs):
    tests = [{"number": str(job.number), "name": exercise.title(job.number),
              "score": float(job.status == "passed"), "max_score": 1.0,
              "status": "passed" if job.status == "passed" else "failed",
              "output": job.text,
              # What hidden laws say would give the next upload the answer.
              "visibility": "after_published" if job.number in exercise.HAVE_HIDDEN_LAWS
              else "visible"} for job in jobs]
    seconds = round(sum(job.seconds for job in jobs))
    return json.dumps({"tests": tests, "execution_time": seconds}, indent=1) + "\n"


def table(classes):
    """One line per submission, one symbol per exercise, and what the symbols mean."""
    numbers = [job.number for job in next(iter(classes.values()))]
    width = max(16, min(74 - 3 * len(numbers), max(map(len, classes))))  # 80 columns in all
    lines = [f"{'submission':{width}} score" + "".join(f"{number:3}" for number in numbers)]
    for name, jobs in classes.items():
        name = "".join(c if c.isprintable() else "?" for c in name)[-width:]
        lines.append(f"{name:{width}} {score(jobs):5}"
                     + "".join(f"{SYMBOLS[job.status]:>3}" for job in jobs))
    return "\n".join([*lines, "  ".join(f"{s} {name}" for name, s in SYMBOLS.items())])


def parse(argv):
    p = argparse.ArgumentParser(usage="%(prog)s SUBMISSION ... [option ...]",
                                description="Grade submissions.")
    g = p.add_argument
    every = exercise.numbers()
    g("submissions", nargs="+", type=pathlib.Path, help="the folders of the submissions")
    g("--exercises", nargs="+", type=int, default=every, metavar="N", choices=every,
      help="the exercises you handed out (default: all)")
    for kind in ("json", "csv", "junit"):
        g(f"--{kind}", type=pathlib.Path, metavar="FILE", help=f"write the results as {kind}")
    g("--gradescope", type=pathlib.Path, metavar="FILE",
      help="write Gradescope's results.json; one submission only")
    g("--at-once", type=positive, default=min(8, os.cpu_count()), metavar="N",
      help="exercises to run at the same time (default: one per core, at most 8)")
    args = p.parse_args(argv)
    if args.gradescope and len(args.submissions) > 1:
        p.error("--gradescope is for one submission")
    return args


@plain_errors
def main(argv=None):
    """Grade as a command line says; returns the jobs of each submission by its name."""
    args, written = parse(argv), 0.0
    torch.set_num_threads(1)
    numbers = sorted(set(args.exercises))
    files = set().union(*map(files_of, numbers))
    classes = {name: [Job(name, number, folder) for number in numbers]
               for name, folder in named(args.submissions, files).items()}
    every = [job for jobs in classes.values() for job in jobs]
    outputs = {args.json: as_json, args.csv: as_csv, args.junit: as_junit,
               args.gradescope: lambda classes: as_gradescope(*classes.values())}

    def report(always=False):
        """Write what is known so far: a platform may stop this process at any time."""
        nonlocal written
        if always or time.time() - written > 1:
            for path, form in outputs.items():
                if path:
                    runs.atomic_write(path, form(classes))
            written = time.time()

    started = time.time()
    transplant.warm_up(numbers)
    report()
    grade(every, 1 if args.gradescope else args.at_once, report)
    report(always=True)
    print(table(classes))
    peak = max(job.peak for job in every) >> 20
    s = "s" * (len(classes) != 1)
    print(f"{len(classes)} submission{s}, {time.time() - started:.0f} s; no process took more than"
          f" {peak} MB")
    return classes


if __name__ == "__main__":
    main()
