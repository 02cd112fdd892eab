"""Figure 2 on the generated shapes: with and without stop-gradient, nothing else changed.

    python -m experiments.fig2_stopgrad                         trains both, three minutes
    python -m experiments.fig2_stopgrad WITH-IT WITHOUT-IT      draws two finished run folders

Writes experiments/fig2_stopgrad.png: the paper's three panels, and the effective rank.
"""

import json
import pathlib
import sys

import train

RUNS = {"with stop-gradient": [], "without": ["--no-stopgrad"]}  # label: options


def main(folders):
    folders = folders or [train.train(train.parse(options))["out"] for options in RUNS.values()]
    read = lambda path: [json.loads(line) for line in path.read_text().splitlines()]
    records = [read(pathlib.Path(folder, "metrics.jsonl")) for folder in folders]
    dim = json.loads(pathlib.Path(folders[0], "config.json").read_text())["dim"]
    path = pathlib.Path(__file__).with_suffix(".png")
    train.plot_curves(path, dict(zip(RUNS, records, strict=True)), dim)
    print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
