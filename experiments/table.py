"""An experiment is a table of runs of train.py, and claims about them, most of them the paper's.

A module of this folder lists ROWS and CLAIMS, which were written before the runs. `python -m
experiments.NAME` trains the runs that have no log yet (logs.py), prints the table with a verdict on
each claim (claims.py), and draws the figure; `python -m experiments.all` does so for all modules
and writes results.md.
"""

import argparse
from typing import Callable, NamedTuple

from experiments import logs
from experiments.claims import Pair, claim_verdict, decide, mean_std
from simsiam import COLLAPSED_RANK, COLLAPSED_STD
from utils import plot
from utils.arguments import positive
from utils.console import plain_errors

SEEDS = 3  # the runs of each row that the claims were written for


class Row(NamedTuple):
    """A row of a table: runs that differ in nothing but the seed."""

    label: str
    options: str = ""  # of train.py
    paper: float | str = ""  # the paper's number, ImageNet linear top-1 % unless stated otherwise
    study: Callable | None = None  # what no option of train.py can express: see train.train()
    times: int = 1  # how many times as many epochs as the other rows
    seeds: int | None = None  # no more than this many
    held_out: bool = False  # for the choice of a setting: see logs.on_held_out()

    @property
    def whole_study(self):
        return logs.on_held_out(self.study) if self.held_out else self.study

    @property
    def study_name(self):
        return self.whole_study.__name__ if self.whole_study else ""


class Claim(NamedTuple):
    """A statement about the rows, and its test: a fact or a list of pairs, see claims.py."""

    text: str
    test: Callable | list[Pair]


def rows(module, scale):
    """The module's rows; where they depend on the scale, ROWS is a function of it.

    SystemExit: two have the same label or the same log, and so would have the same numbers
    """
    found = module.ROWS(scale) if callable(module.ROWS) else module.ROWS
    seen = set()
    for row in found:
        own = {row.label, logs.log_path(row, scale, 0)}
        if own & seen:
            raise SystemExit(f"{name(module)}: the row {row.label!r} has the same label as another"
                             " row, or the same options and study __name__; change one of them")
        seen |= own
    return found


def claims(module, scale):
    """The module's claims; where they depend on the scale, CLAIMS is a function of it.

    SystemExit: one is about a row that does not exist (of a fact, the first that it reads)
    """
    if not rows(module, scale):  # an experiment of other scales
        return []
    found = module.CLAIMS(scale) if callable(module.CLAIMS) else module.CLAIMS
    labels = {row.label for row in (*rows(module, scale), *compared_with(module, scale))}
    if unknown := sorted({*labels_of(found)} - labels):
        raise SystemExit(f"{name(module)}: a claim is about {unknown[0]!r}, but no row has this"
                         " label; change one of them")
    for claim in found:
        if callable(claim.test):  # as if nothing had been run, to see which row it reads first
            fact_verdict(claim, {row.label: [] for row in rows(module, scale)})
    return found


# ------------------------------------------------------------------------------------------------
# The table.

# The columns of a table, and their decimals.
DIGITS = {"top1": 1, "knn": 1, "loss": 3, "std": 2, "rank": 1}
HEAD = ["| run | flags | paper | linear (%) | kNN (%) | loss | std·√d | rank | n |",
        "|---|---|---|---|---|---|---|---|---|"]


def table(module, scale):
    """The module's rows as a table in Markdown, and its claims with a verdict on each."""
    from experiments import references  # whose rows are Rows, and so cannot be imported above

    own, others, runs = rows(module, scale), compared_with(module, scale), runs_of(module, scale)
    lines = [line(row.label, flags(row, scale), row.paper, runs[row.label])
             for row in own + [row for row in others if runs[row.label]]]
    if references.pixels_path(scale).exists():
        lines.append(line("raw pixels", "", "", [references.pixels(scale)]))
    note = [module.NOTE, ""] if hasattr(module, "NOTE") else []
    judged = [f"* {text}: {verdict}{differences}" for text, verdict, differences
              in verdicts(claims(module, scale), own, runs)]
    return "\n".join([*HEAD, *lines, "", *note, *judged])


def compared_with(module, scale):
    """The rows of references.py that are not the module's own."""
    from experiments import references

    labels = {row.label for row in rows(module, scale)}
    return [row for row in references.ROWS if row.label not in labels]


def runs_of(module, scale):
    """{label: [last record of each seed]} of the module's rows and of those it is compared with."""
    return {row.label: last_records(row, scale)
            for row in (*rows(module, scale), *compared_with(module, scale))}


def last_records(row, scale):
    """The last record of each seed of a row, with top1 and outputs from its log.

    SystemExit: the logs are of different images
    """
    finished = [log for seed in range(100) if (log := logs.read_log(row, scale, seed))]
    digests = [config["data_digest"] for config, _ in finished if "data_digest" in config]
    if any(digest != digests[0] for digest in digests):
        raise SystemExit(f"{row.label}: its logs are of different images, and one table cannot have"
                         " both; move the logs of one kind away")
    return [{**records[-1], **{key: config[key] for key in ("top1", "outputs") if key in config}}
            for config, records in finished]


def flags(row, scale):
    """The flags that distinguish a row from the recipe, and its study."""
    study = f" study {row.study_name}" * bool(row.study_name)
    options = " ".join(logs.flags(row, scale).split())
    return f"`{options}`{study}" if options else study.strip()


def line(label, options, paper, records):
    """A row of the table."""
    cells = [fmt([record[key] for record in records if key in record], digits)
             for key, digits in DIGITS.items()]
    return f"| {label} | {options} | {paper} | {' | '.join(cells)} | {len(records)} |"


def fmt(numbers, digits=1):
    """The mean of some numbers, with their standard deviation if there are several."""
    if not numbers:
        return ""
    mean, std = mean_std(numbers)
    return f"{mean:.{digits}f}" + (f" ± {std:.{digits}f}" if std is not None else "")


# ------------------------------------------------------------------------------------------------
# The verdicts.


def labels_of(claims):
    """The labels of all rows that some claims compare."""
    return [label for claim in claims if not callable(claim.test)
            for pair in claim.test for label in (pair.low, pair.high)]


def verdicts(claims, own, runs):
    """[(text, verdict, differences)] of claims; the last two in Markdown.

    own: the table's rows   runs: as runs_of() has them   differences: on which an order rests
    """
    last = {row.label: runs[row.label] for row in own}
    decided = decide(claims, {label: records for label, records in runs.items() if records})
    found = []
    for claim in claims:
        if callable(claim.test):
            (words, labels), numbers, others = fact_verdict(claim, last), "", []
        else:
            labels, (words, numbers) = labels_of([claim]), order_verdict(claim, decided)
            others = labels_of(claims)  # Holm's correction gets stricter with each of their pairs
        seeds, least = (min((len(runs.get(label, [])) for label in names), default=SEEDS)
                        for names in (labels, others))
        # "so far": rows of this claim, or others that its correction counts, lack seeds.
        early = f" so far ({seeds} of {SEEDS} seeds)" if seeds < SEEDS else (
            f" so far (other rows: {least} of {SEEDS} seeds)" * (least < SEEDS))
        # One run refutes a fact, whatever the others show; "not run" and "...: undecided" already
        # say what is missing.
        final = (words == "does not hold" and callable(claim.test)
                 or words == "not run" or words.endswith(": undecided"))
        verdict = f"**{words}**" + early * (not final)
        found.append((claim.text, verdict, numbers))
    return found


class NotRun(Exception):
    """A fact is about a row that has no runs yet."""


class Finished(dict):
    """{label: [last record of each seed]} that remembers which rows are read.

    Reading a row without runs raises NotRun; SystemExit if there is no such row.
    """

    def __init__(self, last, claim):
        super().__init__(last)
        self.claim, self.read = claim, set()

    def __getitem__(self, label):
        self.read.add(label)
        if label not in self:
            raise SystemExit(f"the claim {self.claim.text!r} is about {label!r}, but no row of its"
                             " table has this label; change one of them")
        if not (records := super().__getitem__(label)):
            raise NotRun
        return records

    def values(self):
        return [self[label] for label in self]


def fact_verdict(claim, last):
    """The verdict on a fact, and the rows that it is about; if one has no runs, "not run"."""
    last = Finished(last, claim)
    try:
        return "holds" if claim.test(last) else "does not hold", last.read
    except NotRun:
        return "not run", last.read


def order_verdict(claim, decided):
    """The verdict on an order, and the differences that it rests on."""
    if not all(pair in decided for pair in claim.test):
        return "not run", ""
    found = [f"{pair.high} minus {pair.low}: {interval(pair, difference)}"
             + f", {words}" * (len(claim.test) > 1)
             for pair in claim.test for difference, words in [decided[pair]] if difference]
    return (claim_verdict([decided[pair][1] for pair in claim.test]),
            "".join(f"\n  * {text}" for text in found))


def interval(pair, difference):
    """A difference and its interval, as in "+1.2 (-0.3 to 2.7)"."""
    digits = DIGITS[pair.key]
    # + 0.0 turns -0.0 into 0.0
    mean, low, high = (round(v, digits) + 0.0 for v in (difference.mean, *difference.interval()))
    return f"{mean:+.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


# ------------------------------------------------------------------------------------------------
# The figure.


def figure(module, scale):
    """Draw the curves of all rows' seed 0 and the ends of all seeds, or the module's own figure().

    returns: the figure's path, or that there is none
    """
    path = logs.results_dir(scale) / "figures" / f"{name(module)}.png"
    runs = {row: log for row in rows(module, scale) if (log := logs.read_log(row, scale, 0))
            and (row.times == 1 or hasattr(module, "figure"))}  # no runs of twice the epochs
    if not runs:
        return "no run, no figure"
    path.parent.mkdir(parents=True, exist_ok=True)
    if hasattr(module, "figure"):
        module.figure({row.label: log for row, log in runs.items()}, path)
        return path
    dims = {config["dim"] for config, _ in runs.values()}
    classes = next(iter(runs.values()))[0]["classes"]
    # The recipe's row first, so that it looks the same in all figures.
    curves = {row.label: curve(row, runs[row][1])
              for row in sorted(runs, key=lambda row: bool(flags(row, scale)))}
    plot.plot_curves(path, curves, dims.pop() if len(dims) == 1 else 0,
                     reference_lines(scale, classes),
                     ends={row.label: last_records(row, scale) for row in runs})
    return path


def curve(row, records):
    """A run's records as they are drawn: a study's without the loss of epoch 0."""
    # train.start() measures that of SimSiam, whatever the study's loss is.
    first, *others = records
    return [{**first, "loss": None}, *others] if row.study and first["epoch"] == 0 else records


def reference_lines(scale, classes):
    """The reference lines for a run's curves, those for kNN as far as measured."""
    from experiments import references

    found = plot.references(classes, COLLAPSED_STD, COLLAPSED_RANK)
    if references.pixels_path(scale).exists():
        found["knn"]["raw pixels"] = references.pixels(scale)["knn"]
    if log := logs.read_log(references.SUPERVISED, scale, 0):
        found["knn"]["supervised"] = log[1][-1]["knn"]
    return found


def name(module):
    return module.__spec__.name.rpartition(".")[2]


# ------------------------------------------------------------------------------------------------
# The command line.


def add_options(p):
    """Add the options that every experiment takes."""
    p.add_argument("--scale", choices=logs.SCALES, default="shapes",
                   help="data, epochs and linear probe of all runs (default: shapes)")
    p.add_argument("--seeds", type=positive, default=1, help="runs of each row (default: 1)")
    p.add_argument("--again", action="store_true",
                   help="also train runs that have a log; each log is replaced once its run has"
                   " ended")
    p.add_argument("--photographs", metavar="PATH",
                   help="folder with the images of the scale photographs (default: CIFAR-10,"
                   " through torchvision)")


def parsed(p, argv):
    """The options of a command line; the images of --photographs are in use from now on."""
    args = p.parse_args(argv)
    if args.photographs:
        if args.scale != "photographs":
            p.error("--photographs: needs --scale photographs")
        logs.use_photographs(args.photographs)
    return args


@plain_errors
def main(module, argv=None):
    """`python -m experiments.NAME`: train what is missing, print the table, draw the figure."""
    p = argparse.ArgumentParser(
        prog=f"python -m experiments.{name(module)}", usage="%(prog)s [option ...]",
        description=f"{module.__doc__.splitlines()[0]} Trains the runs that have no log yet,"
        " prints the table with a verdict on each claim, and draws the figure.")
    add_options(p)
    args = parsed(p, argv)
    claims(module, args.scale)  # a mistake in them should not come to light after all the runs
    trained = set()
    # rows() each time, because opt_optimizers adds its best lrs once they are known.
    while todo := logs.missing(rows(module, args.scale), args.scale, args.seeds, args.again,
                               trained):
        row, seed = todo[0]
        trained.add(logs.train_row(row, args.scale, seed, args.again))
    if hasattr(module, "pixels"):
        module.pixels(args.scale)
    if not trained:
        print("from logs, nothing trained")
    print(f"\n{table(module, args.scale)}\n")
    print(figure(module, args.scale))
