"""Everything: each run of every module that has not been done, then results.md and the figures.

    python -m experiments.all                            the whole paper at the scale of shapes
    python -m experiments.all --scale smoke              that it runs, in some minutes
    python -m experiments.all --only tab1_predictor      some modules
    python -m experiments.all --seeds 3 --dry-run        the tables so far, and what is left

A finished run is known by its log and never repeated; one that was interrupted is gone on with.
"""

import argparse
import importlib
import statistics

from tqdm import tqdm

import runs
from experiments import table

MODULES = ("fig2_stopgrad", "tab1_predictor", "tab2_batch_size", "tab3_batch_norm",
           "sec45_similarity", "sec46_symmetry", "sec52_alternation", "sec52_expectation",
           "fig3_family", "tab4_comparisons", "sec62_methodology", "appB_dimension", "figD1_cifar",
           "opt_losses", "opt_aggregation", "opt_optimizers", "opt_regularizers",
           "theory_directpred", "theory_spectrum", "shapes_robustness")


def duration(modules, scale, n):
    """About how long n runs take, by the median of those that are done, if there are any."""
    logs = [table.read_log(row, scale, 0) for m in modules for row in table.rows(m, scale)]
    seconds = [records[-1]["seconds"] for _, records in filter(None, logs)]
    if not (n and seconds):
        return ""
    return f", about {tqdm.format_interval(n * statistics.median(seconds))}"


def results(modules, chosen, scale):
    """Write results.md, of all runs that have a log, and the figures of the chosen modules."""
    parts = [f"# The paper and ours, at the scale of {scale}\n\nWritten by `python -m"
             f" experiments.all --scale {scale}`. The paper's numbers are ImageNet linear top-1"
             " (%); ours are of the last epoch, mean ± std of n seeds. The sentences are the"
             " paper's as far as it treats the matter, else ours. An order of rows is judged by"
             " kNN, in tab4 and sec62 by linear accuracy, and holds if the means differ by two of"
             " their standard errors or more. The figures show seed 0.\n"]
    for module in (module for module in modules if table.rows(module, scale)):
        name = module.__name__.rpartition(".")[2]
        first = module.__doc__.splitlines()[0]
        parts.append(f"## {name}\n\n{first}\n\n{table.table(module, scale)}\n\n"
                     f"![{name}]({name}.png)\n")
        if module in chosen:
            table.figure(module, scale, table.home(scale) / f"{name}.png")
    path = table.home(scale) / "results.md"
    runs.write_whole(path, "\n".join(parts))
    return path


def main(argv=None):
    p = argparse.ArgumentParser(prog="python -m experiments.all", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--scale", choices=table.SCALES, default="shapes", help="(default: shapes)")
    p.add_argument("--seeds", type=int, default=1, help="runs of each row (default: 1)")
    p.add_argument("--only", nargs="+", choices=MODULES, default=MODULES, metavar="NAME")
    p.add_argument("--dry-run", action="store_true", help="train nothing, only write the tables")
    args = p.parse_args(argv)
    modules = {name: importlib.import_module(f"experiments.{name}") for name in MODULES}
    chosen = [modules[name] for name in args.only]
    while todo := table.missing(chosen, args.scale, args.seeds):
        print(f"{len(todo)} runs to do" + duration(chosen, args.scale, len(todo)))
        if args.dry_run:
            break
        row, seed = todo[0]
        print(f"\n{row.label}: {table.flags(row, args.scale)} --seed {seed}")
        table.do(row, args.scale, seed)
    print(results(modules.values(), chosen, args.scale))


if __name__ == "__main__":
    main()
