"""Beyond the paper: what collapse looks like in the spectrum of the outputs z.

    python -m experiments.theory_spectrum

Left: the singular values of z, largest first, as shares of their sum. A cliff is a dimensional
collapse, to which the std of Fig. 2 is blind. Right, for each run: m_o, the length of the mean
direction; m_r, the root mean square of the residuals, m_r² = 1 - m_o² (arXiv 2203.16262); alignment
of the two views (0 is perfect); and uniformity (0 is a constant output; arXiv 2005.10242).
"""

import sys

from experiments.claims import every_run
from experiments.table import Claim, Row, main
from utils.plot import line_style, new_figure, save_figure

ROWS = [
    Row("SimSiam"),
    Row("no stop-gradient", "--no-stopgrad"),
    Row("no stop-gradient, no affine", "--no-stopgrad --bn no-affine"),
    Row("no predictor", "--predictor none"),
]
VANISHED, KEPT = 0.2, 0.9
CLAIMS = [
    Claim(f"Without stop-gradient the residuals vanish: m_r below {VANISHED}",
          every_run("no stop-gradient", lambda record: residual(record["outputs"]) < VANISHED)),
    Claim(f"SimSiam's do not: m_r above {KEPT}",
          every_run("SimSiam", lambda record: residual(record["outputs"]) > KEPT)),
]


def residual(outputs):
    """m_r from m_o; NaN for a run that diverged."""
    return max(1 - outputs["centre"] ** 2, 0.0) ** 0.5  # in this order max() keeps a NaN


def figure(runs, path):
    """The spectra, and the four measures as groups of bars."""
    drawing, (spectrum, bars) = new_figure(2, width=9, height=3.5)
    # A run that diverged has no spectrum.
    found = {label: config["outputs"] for label, (config, _) in runs.items()
             if "singular values" in config["outputs"]}
    width = 0.8 / max(1, len(found))
    for i, (label, outputs) in enumerate(found.items()):
        values, style = outputs["singular values"], line_style(i)
        spectrum.semilogy(range(1, len(values) + 1), values, label=label, markevery=16, **style)
        heights = outputs["centre"], residual(outputs), outputs["alignment"], outputs["uniformity"]
        drawn = bars.bar([x + i * width for x in range(4)], heights, width, color=style["color"])
        bars.bar_label(drawn, fmt="%.2f", fontsize=6)
    spectrum.set(title="singular values of z, share of their sum", xlabel="number", ylim=(1e-10, 2))
    names = "$m_o$\nmean direction", "$m_r$\nresiduals", "alignment", "uniformity"
    bars.set_xticks([x + 0.4 - width / 2 for x in range(4)], names)
    bars.set(title="measures of z on the sphere")
    bars.axhline(0, color="black", linewidth=0.5)
    save_figure(drawing, path, "lower")


if __name__ == "__main__":
    main(sys.modules[__name__])
