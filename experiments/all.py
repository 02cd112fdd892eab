"""Everything: each run of every module that has not been done, then results.md and the figures.

    python -m experiments.all                            the whole paper at the scale of shapes
    python -m experiments.all --scale smoke              that it runs, in two minutes
    python -m experiments.all --only tab1_predictor      some modules

A finished run is known by its log and never repeated; one that was interrupted is gone on with.
"""

import argparse
import importlib

from tqdm import tqdm

from experiments import table

MODULES = ("fig2_stopgrad", "tab1_predictor", "tab2_batch_size", "tab3_batch_norm",
           "sec45_similarity", "sec46_symmetry", "sec52_alternation", "sec52_expectation",
           "appB_dimension", "figD1_cifar", "shapes_robustness")


def missing(modules, scale, seeds):
    """The runs without a log, each once, seed by seed, so that an early end leaves whole tables."""
    todo = {}
    for seed in range(seeds):
        for module in modules:
            for run in table.rows(module, scale):
                if not table.read_log(run, scale, seed):
                    todo[table.log_path(run, scale, seed)] = run, seed
    return list(todo.values())


def results(modules, scale, seeds):
    """results.md, and a figure a module."""
    parts = [f"# The paper and ours, at the scale of {scale}\n\nWritten by `python -m"
             f" experiments.all --scale {scale} --seeds {seeds}`. The paper's numbers are ImageNet"
             " linear top-1 (%); ours are of the last epoch, mean ± std of n seeds. An order of"
             " rows is judged by kNN, and holds if the means differ by more than their standard"
             " error.\n"]
    for module in modules:
        name = module.__name__.rpartition(".")[2]
        first = module.__doc__.splitlines()[0]
        parts.append(f"## {name}\n\n{first}\n\n{table.table(module, scale, seeds)}\n\n"
                     f"![{name}]({name}.png)\n")
        table.figure(module, scale, table.home(scale) / f"{name}.png")
    path = table.home(scale) / "results.md"
    path.write_text("\n".join(parts))
    return path


def main(argv=None):
    p = argparse.ArgumentParser(prog="python -m experiments.all", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--scale", choices=table.SCALES, default="shapes", help="(default: shapes)")
    p.add_argument("--seeds", type=int, default=1, help="runs of each row (default: 1)")
    p.add_argument("--only", nargs="+", choices=MODULES, default=MODULES, metavar="NAME")
    args = p.parse_args(argv)
    modules = [importlib.import_module(f"experiments.{name}") for name in args.only]
    todo = missing(modules, args.scale, args.seeds)
    for run, seed in (bar := tqdm(todo, "experiments", unit=" runs", disable=None)):
        bar.write(f"\n{run.label}: {run.variant} {run.options} --seed {seed}")
        table.do(run, args.scale, seed)
    print(results(modules, args.scale, args.seeds))


if __name__ == "__main__":
    main()
