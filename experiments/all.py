"""All experiments: train the runs that have no log yet, then write the results.

    python -m experiments.all                        all, at the scale of shapes
    python -m experiments.all --scale smoke          only that everything runs
    python -m experiments.all --only tab1_predictor  some of them
    python -m experiments.all --seeds 3 --dry-run    the tables so far, and what
                                                     is left to do

A finished run has a log and is not repeated, unless you say --again; an
interrupted run is resumed. Results: experiments/results/SCALE/results.md (of
smoke: runs/smoke/results.md), with figures/ and logs/ beside it.
"""

import argparse
import importlib
import re
import statistics

from tqdm import tqdm

from experiments import logs, table
from experiments.claims import decide
from simsiam import COLLAPSED_RANK, COLLAPSED_STD
from utils import plot, runs
from utils.console import counted, plain_errors, wrapped

MODULES = ("references", "fig2_stopgrad", "tab1_predictor", "tab2_batch_size", "tab3_batch_norm",
           "sec45_similarity", "sec46_symmetry", "sec52_alternation", "sec52_expectation",
           "tab4_comparisons", "sec62_methodology", "appB_dimension", "figD1_cifar", "opt_losses",
           "opt_aggregation", "opt_optimizers", "opt_regularizers", "theory_directpred",
           "theory_spectrum", "shapes_robustness", "augmentations", "details", "common_parts")

BOTH = "shapes", "photographs"  # the scales of claims.md

INTRODUCTION = """# The paper's results and ours, at the scale of {scale}

Written by `python -m experiments.all --scale {scale}`. The paper's numbers are ImageNet linear\
 top-1 (%); ours are those of the last epoch, mean ± std over n seeds. Each table ends with what to\
 compare it with, as far as that has been run: an untrained network, supervised training and raw\
 pixels. In the figures the lines show seed 0, and the circles at their ends all seeds.

How to read the claims:

* They are the paper's where it makes one, otherwise ours. They were written before the runs, for\
 {seeds} seeds per row; search.md says what had been seen by then. Git cannot show this for the\
 first runs, whose logs name commits before the one with the claims (d1cc4be) or were written again\
 later: those of the recipe, which are in nearly every table, those without stop-gradient and\
 untrained, and on shapes seed 0 of supervised and BYOL. (Commit 2f85018, which four logs name, no\
 longer exists.)
* Unless a claim says otherwise, "<", "better" and "worse" refer to linear accuracy. Below such a\
 claim are the differences of means, in points (loss: as it is). Each is tested by Welch's t, and\
 the claim holds if all are significant at 5 % after Holm's correction over the differences of the\
 table. The intervals are 95 % intervals, widened by the same correction: that of the most certain\
 difference most, that of the least certain not at all. "Undecided": the interval contains the\
 difference that the claim names.
* "So far": rows of the claim, or other rows that its table compares, lack seeds; more rows make\
 the correction stricter. One run is enough to refute a claim about every run.
* "No difference seen" does not mean equal. "Nothing is better than X" is tested more strictly than\
 it reads: X must be significantly better than each of the others, which is not to be expected of\
 rows that are equal. Where the runs of a row fall into two groups, as those of asymmetric\
 MoCo on shapes, a t interval means little, and it may exceed the range of accuracies.
* A run has collapsed if its outputs end with a std·√d below {std} or an effective rank below\
 {rank}. Both ignore the scale of z: outputs that shrink to a point, as those of LeJEPA without\
 SIGReg do, do not count as collapsed; some losses of raw vectors shrink theirs, too.
* "After twice the epochs" is a run of its own, whose schedule is twice as long.

What was changed after results had been seen:

* The intervals were printed without the correction until 25 November 2026. No verdict has changed.
* Since 29 November 2026 a verdict is final only when all rows that its table compares have three\
 seeds (one verdict, of opt_losses on shapes, became "so far"), and a refuted claim about every run\
 has no "so far" (four had one). "No difference seen" and "undecided" say "so far" as well. The\
 wording of some claims was made clearer; their tests are the same.
* Table 3's control, (b) at a tenth of the lr, was added on 29 November 2026. No claim is about it.
* Added on 1 December 2026, when all other rows were known, each with its claim before its runs:\
 "no predictor, asymmetric loss" (Table 1), "no bottleneck in h" (App. B), augmentations, details.
* The moving average of Sec. 5.2 was changed, as its note says.
* Until 29 November 2026 the linear probe's learning rate was the best of 0.1, 1, 10 and 100 on\
 held-out images; since then the search goes on as long as the best is the lowest or highest\
 tried. Logs that give probe_lr are of the new search: on shapes all, on photographs all but 38,\
 which end above 37 %. Where it chooses 1 or 10 the two searches are the same: all 41 logs of\
 photographs that were repeated and chose one of these have the same accuracy to the last digit;\
 and of the 200 logs of the new search on photographs that end above 37 %, 199 chose one of these.\
 Elsewhere each rate tried also changes the random numbers of the final fit. The losses and kNN of\
 repeated runs are the same bit for bit, and no linear accuracy changed by more than 1.3 points,\
 except that of raw pixels on photographs, from 37.1 to 40.3. One verdict has changed: on shapes,\
 "After few epochs SimSiam is the best of the methods in Table 4" was "no difference seen" (SimCLR\
 4.2 better, -0.2 to 8.6) until 30 November, and has not held since (4.1 better, 0.1 to 8.2; with\
 today's settings of SwAV and MoCo 0.3 to 7.9).
* On 1 December 2026 MoCo's lr and SwAV's ε were changed on shapes: see tab4_comparisons.
"""


CLAIMS = """# Every claim, at both scales

Written by `python -m experiments.all`. The differences on which a verdict rests are in\
 [shapes](shapes/results.md) and [photographs](photographs/results.md), which also say what the\
 words mean. "No difference seen" does not mean equal.

![Differences with their intervals](claims.png)

The figure has every difference in linear accuracy for which both rows have at least two seeds,\
 with the interval that the table of its experiment gives (an arrow: it goes beyond ±99). A claim\
 says that its difference lies to the right of its bound. Where a column is empty, the claim is not\
 one of that scale. Learning rates other than the recipe's are not named: they differ by scale.

| experiment | claim | shapes | photographs |
|---|---|---|---|"""


def time_left(rows, scale, n):
    """About how long n runs take, from the median of the finished ones; "" if there are none."""
    finished = filter(None, (logs.read_log(row, scale, 0) for row in rows))
    seconds = [records[-1]["seconds"] for _, records in finished]
    if not (n and seconds):
        return ""
    return f", about {tqdm.format_interval(n * statistics.median(seconds))}"


def write_results(modules, chosen, scale):
    """Write results.md, on all runs with a log, and the chosen figures; return its path.

    Until two rows of a module have been run, or the only one that it has, it is only named.
    """
    parts = [INTRODUCTION.format(scale=scale, seeds=table.SEEDS, std=COLLAPSED_STD,
                                 rank=COLLAPSED_RANK)]
    waiting = []
    for module in (module for module in modules if table.rows(module, scale)):
        name, first_line = table.name(module), module.__doc__.splitlines()[0]
        rows = table.rows(module, scale)
        done = [row for row in rows if logs.read_log(row, scale, 0)]
        if len(done) < min(2, len(rows)):  # one row is nothing to compare
            waiting.append(name)
            continue
        not_drawn = "\nNot drawn: the runs of twice the epochs.\n" * any(r.times > 1 for r in rows)
        parts.append(f"## {name}\n\n{first_line}\n\n{table.table(module, scale)}\n\n"
                     f"![{name}](figures/{name}.png)\n{not_drawn}")
        if module in chosen:
            table.figure(module, scale)
    if waiting:
        parts.append(f"## Not run yet\n\n{', '.join(waiting)}\n")
    path = logs.results_dir(scale) / "results.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    runs.atomic_write(path, "\n".join(parts))
    return path


def all_claims(modules):
    """The text of claims.md: the verdicts on all claims, at both scales side by side."""
    lines = [CLAIMS]
    for module in modules:
        found = {}  # {text: {scale: verdict}}: some claims depend on the scale
        for scale in BOTH:
            for text, verdict, _ in table.verdicts(
                    table.claims(module, scale), table.rows(module, scale),
                    table.runs_of(module, scale)):
                found.setdefault(text, {})[scale] = verdict
        lines += [f"| {table.name(module)} | {text} | "
                  f"{' | '.join(verdicts.get(scale, '') for scale in BOTH)} |"
                  for text, verdicts in found.items()]
    return "\n".join(lines) + "\n"


def difference_name(pair, scale):
    """The name of a pair, the same at all scales: no learning rate is named but the recipe's."""
    recipe = f"{logs.SCALES[scale].recipe['lr']:g}"
    text = f"{pair.high} minus {pair.low}" + f", above {pair.by:g}" * (pair.by != 0)
    return re.sub(r", lr ([\d.e-]+)",
                  lambda found: ", the recipe's lr" * (found[1] == recipe), text)


def all_differences(modules):
    """{(module, pair): {scale: difference and interval}} of all pairs compared by linear accuracy.

    Further keys: "by", the bound that the claim names; "paper", the paper's difference of the rows,
    if it has both numbers
    """
    found = {}
    for module in modules:
        for scale in BOTH:
            paper = {row.label: row.paper for row in table.rows(module, scale)}
            runs = {label: last for label, last in table.runs_of(module, scale).items() if last}
            for pair, (difference, _) in decide(table.claims(module, scale), runs).items():
                if pair.key != "top1" or difference is None:
                    continue
                order = table.name(module), difference_name(pair, scale)
                found.setdefault(order, {"by": pair.by})
                found[order][scale] = difference.mean, difference.interval()
                numbers = paper.get(pair.high), paper.get(pair.low)
                if all(isinstance(number, (int, float)) for number in numbers):
                    found[order]["paper"] = numbers[0] - numbers[1]
    return found


@plain_errors
def main(argv=None):
    p = argparse.ArgumentParser(
        prog="python -m experiments.all", usage="%(prog)s [option ...]", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    table.add_options(p)
    p.add_argument("--only", nargs="+", choices=MODULES, default=MODULES, metavar="NAME",
                   help=f"some of {', '.join(MODULES)} (default: all)")
    p.add_argument("--dry-run", action="store_true",
                   help="train nothing, only write the results so far")
    args = table.parsed(p, argv)
    modules = {name: importlib.import_module(f"experiments.{name}") for name in MODULES}
    chosen = [modules[name] for name in args.only]
    for module in chosen:  # a mistake in its claims should not come to light after all the runs
        table.claims(module, args.scale)
    trained = set()
    while True:
        # Each time, because opt_optimizers adds its best lrs once they are known.
        rows = [row for module in chosen for row in table.rows(module, args.scale)]
        todo = logs.missing(rows, args.scale, args.seeds, args.again, trained)
        print(f"{counted(len(todo), 'run')} to do{time_left(rows, args.scale, len(todo))}")
        if not todo or args.dry_run:
            break
        row, seed = todo[0]
        print("\n" + wrapped(f"{row.label}: {table.flags(row, args.scale)} --seed {seed}"))
        trained.add(logs.train_row(row, args.scale, seed, args.again))
    if not trained:
        print("from logs, nothing trained")
    if "references" in args.only and not args.dry_run:
        modules["references"].pixels(args.scale)
    print(write_results(modules.values(), chosen, args.scale))
    if args.scale in BOTH:
        path = logs.results_dir(args.scale).parent / "claims.md"
        runs.atomic_write(path, all_claims(modules.values()))
        plot.plot_differences(path.with_suffix(".png"), all_differences(modules.values()), BOTH)
        print(path)


if __name__ == "__main__":
    main()
