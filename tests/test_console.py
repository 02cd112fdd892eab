"""Messages that nobody can receive, signals, and plain errors.    pytest tests/test_console.py"""

import contextlib
import io
import os
import pathlib
import pty
import re
import resource
import runpy
import shlex
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

import train
from experiments import logs, table
from strategies import ODD, TINY, forked, make_folder, wait_for
from utils import console, plot, runs

HOME = pathlib.Path(train.__file__).parent
PYTHONPATH = os.pathsep.join([str(HOME), *filter(None, [os.environ.get("PYTHONPATH")])])
ENVIRONMENT = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}


def options(path, *more):
    """The options of a run on a small folder of images: two steps an epoch."""
    images = make_folder(path / "images", n=16, size=(16, 16))
    return ["--data", str(images), "--arch", "resnet8", "--batch-size", "16", "--dim", "16",
            "--device", "cpu", "--out", str(path / "run"), *more]


def command(path, *more):
    """The same run in a shell's words."""
    return shlex.join([sys.executable, str(HOME / "train.py"), *options(path, *more)])


# ------------------------------------------------------------------------------------------------
# What a terminal shows

# tests/ apart, every file that can be run.
SCRIPTS = [".".join(path.relative_to(HOME).with_suffix("").parts)
           for path in sorted([*HOME.glob("*.py"), *HOME.glob("[!.t]*/*.py")])
           if '__name__ == "__main__"' in path.read_text()]


@pytest.mark.parametrize("script", [  # a mutant's copy has no exercises
    script for script in ("train.py", "exercises/check.py") if (HOME / script).exists()])
def test_an_installed_package_does_not_take_the_place_of_a_folder(script, tmp_path):
    for name in ("utils", "baselines", "experiments", "exercises"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    path = os.pathsep.join([str(tmp_path), PYTHONPATH])
    done = subprocess.run([sys.executable, str(HOME / script), "--help"], text=True,
                          env={**ENVIRONMENT, "PYTHONPATH": path}, capture_output=True)
    assert done.stdout.startswith("usage") and not done.stderr


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_script_says_about_itself_fits_80_columns(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.argv", [name, "--help"])
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        assert not stop.code
    said = capsys.readouterr().out
    assert said and max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize("argv", ["--warmup-epochs 1 --bf16 --max-steps 1", "--method moco"])
def test_what_a_run_prints_fits_80_columns(argv, tmp_path, monkeypatch, capsys, small_shapes):
    monkeypatch.chdir(tmp_path)
    train.main([*TINY, *argv.split(), "--out", "run"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) > 10
    assert any(line.startswith("epoch") for line in lines)


def test_a_progress_bar_asks_for_its_status_once_a_second_not_at_every_step(monkeypatch):
    clock, asked = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with console.progress_bar(10, 0, lambda: asked.append(clock[0]) or "") as advance:
        for _ in range(10):
            clock[0] += 0.3
            advance()
    assert asked == pytest.approx([101.2, 102.4])


def test_the_bar_of_a_resumed_run_goes_on_where_it_was(monkeypatch):
    bars, tqdm = [], console.tqdm
    monkeypatch.setattr(console, "tqdm", lambda **how: bars.append(
        tqdm(**{**how, "disable": False, "file": io.StringIO()})) or bars[-1])
    with console.progress_bar(10, 4, lambda: "") as advance:
        advance()
    assert (bars[0].n, bars[0].total) == (5, 10)


def test_a_long_line_is_cut_between_words_and_indented():
    words = [("word" * 5)[: 3 + i % 9] for i in range(60)] + ["a/path/" * 20]
    first, *rest = console.wrapped(" ".join(words)).splitlines()
    assert " ".join([first, *(line.strip() for line in rest)]) == " ".join(words)
    assert all(len(line) <= 80 for line in [first, *rest[:-1]]) and rest[-1].strip() == words[-1]
    assert all(line.startswith("  ") for line in rest)


# ------------------------------------------------------------------------------------------------
# Messages that nobody can receive


def test_ctrl_c_in_a_terminal_saves_although_tee_dies_of_it_first(tmp_path):
    """A real terminal, and a real tee, whose death makes every later message impossible."""
    run, log = tmp_path / "run", tmp_path / "log"
    line = command(tmp_path, "--epochs", "400", "--checkpoint-every", "400")
    process, terminal = pty.fork()  # a session of its own, which Ctrl-C in its terminal interrupts
    if not process:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # tests in the background may ignore them
        os.chdir(tmp_path)
        line = f"{line} 2>&1 | tee {shlex.quote(str(log))}"
        os.execvpe("bash", ["bash", "-c", line], ENVIRONMENT)
    wait_for(lambda: log.exists() and "epoch   3" in log.read_text())
    assert runs.load_checkpoint(run)["step"] == 0
    os.write(terminal, b"\x03")
    wait_for(lambda: runs.load_checkpoint(run)["step"])
    os.close(terminal)
    os.waitpid(process, 0)
    assert "Traceback" not in log.read_text()
    assert runs.load_checkpoint(run)["step"] >= 6  # an epoch has two steps


LOST = {  # what becomes of stdout and stderr
    "both are closed": ">&- 2>&-",
    "stdout is closed": ">&-",
    "stderr is closed": "2>&-",
    "stdout's disk is full": ">/dev/full",
    "stderr's disk is full": "2>/dev/full",
    "the disk of both is full": ">/dev/full 2>&1",
    "a pipe whose reader has gone": "2>&1 | sleep 0",
    "a pipe whose reader goes": "2>&1 | head -n 3",
}
if not os.path.exists("/dev/full"):  # on macOS
    LOST = {what: how for what, how in LOST.items() if "/dev/full" not in how}

TALKS = """
import os, sys, time
from tqdm import tqdm
from utils.console import interruptions, plain_errors, progress_bar

@plain_errors
def main():
    with open("saved", "w") as file, interruptions():
        time.sleep(0.2)
        os.kill(os.getpid(), 15)
        with progress_bar(3, 0, str) as advance:
            for i in range(3000):
                print("a line")
                tqdm.write("another")
                print("a third", file=sys.stderr)
            advance()
        file.write("everything")
    raise SystemExit(7)

main()
"""


@pytest.mark.parametrize("how", LOST.values(), ids=LOST)
def test_a_message_that_cannot_be_written_costs_nothing(how, tmp_path):
    (tmp_path / "talks.py").write_text(TALKS)
    line = f"{shlex.quote(sys.executable)} talks.py {how}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=ENVIRONMENT, text=True,
                          capture_output=True)
    assert done.returncode == 7 and (tmp_path / "saved").read_text() == "everything"
    assert "Traceback" not in done.stderr + done.stdout and "ignored" not in done.stderr


def assert_finished(path):
    assert runs.load_checkpoint(path / "run")["step"] == 2
    assert (path / "run" / "curves.png").exists()


def test_a_run_that_starts_without_stdout_and_stderr_ends_as_usual(tmp_path):
    line = command(tmp_path, "--epochs", "1")
    assert subprocess.run(["bash", "-c", f"{line} >&- 2>&-"], env=ENVIRONMENT).returncode == 0
    assert_finished(tmp_path)


def test_a_run_whose_reader_goes_ends_as_usual(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    head = subprocess.Popen(["head", "-n", "3", tmp_path / "pipe"], stdout=subprocess.PIPE)
    run = forked(train.main, options(tmp_path, "--epochs", "1"), log=tmp_path / "pipe")
    run.join()
    assert run.exitcode == 0 and b"Traceback" not in head.communicate()[0]
    assert_finished(tmp_path)


# ------------------------------------------------------------------------------------------------
# Signals and errors


@pytest.mark.parametrize("number, code", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_ends_a_program_in_one_line_with_its_own_code(number, code, times, tmp_path):
    """Once outside interruptions(), where nothing needs to be saved, or twice inside."""
    script = f"""if True:
        import contextlib, os, signal, time
        from utils.console import interruptions, plain_errors
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a background job may ignore both
        @plain_errors
        def main():
            with interruptions() if {times} == 2 else contextlib.nullcontext():
                for _ in range({times}):
                    os.kill(os.getpid(), signal.{number})
                    time.sleep(0.1)
                os.kill(os.getpid(), signal.SIGINT) if "{number}" == "SIGHUP" else None
                time.sleep(5)
        main()"""
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, text=True,
                          capture_output=True)
    if number == "SIGHUP" and times == 2:  # both the system and the shell send one
        code, number = 130, "SIGINT"
    assert done.returncode == code
    assert f"{number}: interrupted" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("error, line", [
    (PermissionError(13, "Permission denied", "train/cat"), "train/cat: Permission denied"),
    (OSError(28, "No space left on device"), "No space left"),
    (MemoryError("can't allocate"), "memory"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "memory"),
    (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "memory"),
    (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), "surrogates"),
    (ValueError("embedded null byte"), "null byte"),
    (RecursionError("maximum recursion depth exceeded"), "recursion"),
    (NotImplementedError("exercise 1: write D in simsiam.py"), "exercise 1: write D in simsiam.py"),
])
def test_what_is_no_fault_of_the_program_becomes_one_plain_line(error, line):
    @console.plain_errors
    def main():
        raise error

    with pytest.raises(SystemExit) as stop:
        main()
    assert line in stop.value.code and "\n" not in stop.value.code


@pytest.mark.parametrize("error", [KeyError("step"), RuntimeError("a shape"), ValueError("no"),
                                   RuntimeError("CUDA error: an illegal memory access"),
                                   NotImplementedError("aten::svd on mps")])
def test_a_fault_of_the_program_keeps_its_traceback(error):
    @console.plain_errors
    def main():
        raise error

    with pytest.raises(type(error)):
        main()


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_is_guarded(name, monkeypatch):
    assert table.main.__wrapped__  # of all scripts of experiments/ without a main() of their own
    guarded = []
    monkeypatch.setattr(console, "plain_errors", lambda main: lambda: guarded.append(main))
    monkeypatch.setattr(table, "main", guarded.append)
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with contextlib.suppress(SystemExit):  # an unguarded main() prints its help
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    assert guarded


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit means something else")
def test_not_enough_memory_is_one_line_and_makes_no_folder(tmp_path, capfd):
    status = pathlib.Path("/proc/self/status").read_text()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    allowed = 1024 * int(re.search(r"VmSize:\s*(\d+)", status)[1]) + 4_000_000_000
    resource.setrlimit(resource.RLIMIT_AS, (allowed, limits[1]))
    try:
        with pytest.raises(SystemExit, match="memory") as stop:
            train.main(options(tmp_path, "--dim", "100000000"))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert "\n" not in stop.value.code and not capfd.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("locale", ["C", pytest.param("C.UTF-8", marks=pytest.mark.slow)])
def test_a_run_folder_may_have_any_name(locale, tmp_path):
    """Bytes that are not UTF-8, formulas of matplotlib, spaces, and what a shell would replace."""
    out = tmp_path / f"1 run{ODD} $x_$ `x`"
    script = """if True:
        import sys, train
        train.main([*sys.argv[1:], "--max-steps", "1"])
        train.main([*sys.argv[1:], "--resume"])"""
    done = subprocess.run([sys.executable, "-c", script, *options(tmp_path, "--epochs", "1"),
                           "--out", str(out)],
                          env={**ENVIRONMENT, "LC_ALL": locale}, capture_output=True)
    assert done.returncode == 0 and not done.stderr, done.stderr  # nor a progress bar
    assert (out / "curves.png").exists()


def test_suggested_commands_can_be_pasted_into_a_shell(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plot, "plot_curves", lambda *_: None)
    out = "o 1 $x"
    train.main([*options(tmp_path, "--epochs", "1"), "--out", out])
    suggested = shlex.split(capsys.readouterr().out.rpartition("next: python ")[2])
    assert suggested == ["lineval.py", out]


@pytest.mark.parametrize("name", ["a\0b", "a/" * 2500])
def test_an_impossible_name_is_refused_in_one_line(name, tmp_path, monkeypatch, small_shapes):
    monkeypatch.chdir(tmp_path)
    for option in ("--out", "--data"):
        with pytest.raises(SystemExit) as stop:
            train.main(["--max-steps", "1", "--device", "cpu", option, name])
        assert isinstance(stop.value.code, str) and "\n" not in stop.value.code


def test_under_torchrun_a_signal_is_noted_without_a_word_and_so_is_a_second_one(
        monkeypatch, capfd):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "any")
    with console.interruptions() as received:
        try:
            for _ in range(2):  # torchrun passes on what the system has sent as well
                os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            pytest.fail("the second one stopped the run")
    assert received == [signal.SIGTERM] and not capfd.readouterr().err


# ------------------------------------------------------------------------------------------------
# Runs of experiments/


def test_an_interrupted_run_of_a_study_is_not_to_be_resumed_by_train_py(
        tmp_path, monkeypatch, capsys):
    def study(run):
        step = run.optimizer.step
        run.optimizer.step = lambda *lrs: (os.kill(os.getpid(), signal.SIGTERM), step(*lrs))
        return run.model

    with pytest.raises(SystemExit) as stop:
        train.train(train.parse(options(tmp_path, "--epochs", "1")), study)
    said = capsys.readouterr().err
    assert stop.value.code == 143 and "the same command again" in said and "train.py" not in said


@pytest.mark.parametrize("content", ["", "{", '{"image_size": 24}\n', '{"a": 1}\n{"epo'])
def test_an_empty_or_cut_log_counts_as_none(content, tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "results_dir", lambda scale: tmp_path)
    row = table.Row("a row")
    path = logs.log_path(row, "smoke", 0)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert logs.read_log(row, "smoke", 0) is None


@pytest.mark.parametrize("processes, here, python", [
    (1, 1, "python"), (3, 3, "torchrun --nproc-per-node 3"), (6, 3, "torchrun (as before)")])
def test_a_stopped_run_names_a_command_that_continues_it(
        processes, here, python, monkeypatch, capsys):
    monkeypatch.setattr(train.parallel, "world_size", lambda: processes)
    monkeypatch.setattr(train.parallel, "wait_for_all", lambda: None)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
    run = SimpleNamespace(out="o 1 $x", state=SimpleNamespace(step=3), last_step=9)
    with pytest.raises(SystemExit):
        train.stopped(run, None, [signal.SIGTERM])
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == f"{python} train.py --resume --out 'o 1 $x'"
    assert len(lines) == 2 + (processes > 1)  # torchrun's traceback is announced


def test_a_run_in_a_thread_of_its_own_trains_and_leaves_signals_alone(tmp_path, small_shapes):
    before, ended = signal.getsignal(signal.SIGINT), []
    run = lambda: ended.append(train.main([*TINY, "--max-steps", "1", "--out", str(tmp_path)]))
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ended[0]["epoch"] == pytest.approx(1 / 3) and signal.getsignal(signal.SIGINT) is before
