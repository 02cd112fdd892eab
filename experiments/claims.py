"""The tests of claims: whether the runs of a table support a sentence about them.

A claim's test is a list of pairs of rows (below, none_above, all_above), or a fact: a function
{label: [last record of each seed]} -> bool about single runs.

Pairs are decided by Welch's t test, which does not assume that two rows have the same spread, and
by Holm's correction: of tables whose rows all have the same Gaussian distribution, at most 5 %
should show a difference anywhere. In simulations with three seeds 2 to 3 % do, but up to 10 % if
the row that all others are compared with has a fifteenth of their spread, which three seeds do not
reveal. The 95 % intervals are widened by the same correction, each by its own level, so a pair is
decided exactly when its interval excludes the claimed bound; but they do not all hold at once with
95 % confidence.
"""

import math
import statistics
from typing import NamedTuple

from simsiam import collapsed

ALPHA = 0.05
# The smallest std a row is credited with: one unit of the last digit in the table. Three seeds that
# agree by chance would have none at all.
RESOLUTION = {"top1": 0.1, "knn": 0.1, "loss": 0.001, "std": 0.01, "rank": 0.1}


def mean_std(numbers):
    """Mean and standard deviation over seeds; the latter is None for a single seed.

    The mean, and the std if there is one, are NaN if a number is not finite: a run has diverged.
    """
    if not all(map(math.isfinite, numbers)):  # statistics.stdev would raise an error
        return math.nan, math.nan if len(numbers) > 1 else None
    return statistics.mean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None


# ------------------------------------------------------------------------------------------------
# Facts: about every single run.


def every_run(label, test):
    """A fact: every run of a row passes a test of its last record."""
    return lambda last: all(map(test, last[label]))


def has_collapsed(record):
    """Whether a run's outputs have collapsed (simsiam.collapsed)."""
    return collapsed(record["std"], record["rank"])


def is_healthy(record):
    """Whether a run has neither collapsed nor diverged."""
    return math.isfinite(record["std"]) and not has_collapsed(record)


def none_collapsed(last):
    """A fact: no run of any row has collapsed or diverged."""
    return all(is_healthy(record) for records in last.values() for record in records)


# ------------------------------------------------------------------------------------------------
# Pairs: the order of two rows.


class Pair(NamedTuple):
    """The claim that the mean of row `high` is above that of row `low`."""

    low: str
    high: str
    key: str = "top1"  # of a record; linear accuracy, as in the paper's tables
    by: float = 0.0  # by more than this


def below(*labels, key="top1", by=0.0):
    """The pairs of a chain: each row is above the one before, by more than `by`."""
    return [Pair(low, high, key, by) for low, high in zip(labels, labels[1:])]


def none_above(plain, *others, key="top1"):
    """The pairs that set one row above each of the others."""
    return [Pair(other, plain, key) for other in others]


def all_above(plain, *others, key="top1", by=0.0):
    """The pairs that set each of the others above one row; by=-2: less than 2 below it."""
    return [Pair(plain, other, key, by) for other in others]


class Difference(NamedTuple):
    """What the runs say about a pair: mean(high) - mean(low), and how sure that is."""

    mean: float
    error: float  # its standard error
    df: float  # degrees of freedom
    p: float  # of a difference at least this far from pair.by, if pair.by were the truth
    level: float = ALPHA  # below which p must be; less than ALPHA if there are other pairs

    def interval(self):
        """The interval of the difference at 1 - level: 95 %, or what Holm's correction demands."""
        half = t_quantile(self.df, self.level) * self.error
        return self.mean - half, self.mean + half


def difference(pair, last):
    """Welch's t test of a pair: a Difference, or None if a row has a single seed.

    If a run diverged, its numbers are NaN, and nothing can be decided.
    """
    rows = [[record[pair.key] for record in last[label]] for label in (pair.low, pair.high)]
    if min(map(len, rows)) < 2:
        return None
    if not all(map(math.isfinite, sum(rows, []))):
        return Difference(math.nan, math.nan, math.nan, 1.0)
    # s² / n of each row, and from these the degrees of freedom (Welch and Satterthwaite)
    shares = [max(statistics.stdev(row), RESOLUTION[pair.key]) ** 2 / len(row) for row in rows]
    error = sum(shares) ** 0.5
    df = sum(shares) ** 2 / sum(share**2 / (len(row) - 1) for share, row in zip(shares, rows))
    mean = statistics.mean(rows[1]) - statistics.mean(rows[0])
    return Difference(mean, error, df, t_tails((mean - pair.by) / error, df))


def t_tails(t, df, steps=200):
    """The probability that |T| > |t| for Student's t with df ≥ 1 degrees of freedom."""
    # With t = √df / tan(u) the density of u is proportional to sin(u)^(df - 1) on (0, π/2), whose
    # integral is the Beta function B(df/2, 1/2) / 2. The integral up to u by the midpoint rule:
    width = math.atan2(df**0.5, abs(t)) / steps
    area = width * sum(math.sin((i + 0.5) * width) ** (df - 1) for i in range(steps))
    log_beta = math.lgamma(df / 2) + math.lgamma(0.5) - math.lgamma((df + 1) / 2)
    return min(1.0, 2 * area / math.exp(log_beta))


def t_quantile(df, alpha=ALPHA):
    """The t that |T| exceeds with probability alpha, by bisection."""
    low, high = 0.0, 1000.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tails(middle, df) > alpha else (low, middle)
    return high


def holm(p):
    """Holm's correction: {what: p-value} -> {what: level}; significant where p-value < level."""
    levels, strictest = {}, 0.0
    for i, what in enumerate(sorted(p, key=p.get)):
        # The smallest p-value competes with all m, the next with the m - 1 that are left, ...; and
        # once one is not significant, no larger one is.
        strictest = max(strictest, (len(p) - i) * p[what])
        levels[what] = ALPHA * (p[what] / strictest) if strictest else ALPHA / (len(p) - i)
    return levels


def decide(claims, last):
    """All pairs of a table's claims: {pair: (Difference or None, verdict)}.

    last: {label: [last record of each seed]}; a pair with a label that is not in it is left out
    """
    pairs = {pair: difference(pair, last) for claim in claims if isinstance(claim.test, list)
             for pair in claim.test if pair.low in last and pair.high in last}
    levels = holm({pair: found.p for pair, found in pairs.items() if found})
    pairs = {pair: found and found._replace(level=levels[pair]) for pair, found in pairs.items()}
    return {pair: (found, pair_verdict(pair, found)) for pair, found in pairs.items()}


def pair_verdict(pair, found):
    """In words, what a Difference says about a pair."""
    if found is None:
        return "one seed: undecided"
    if math.isnan(found.mean):
        return "a run diverged: undecided"
    if found.p < found.level:
        return "holds" if found.mean > pair.by else "does not hold"
    return "undecided" if pair.by else "no difference seen"


def claim_verdict(verdicts):
    """The verdict on a claim from those on its pairs: all must hold; one can refute it."""
    for verdict in ("does not hold", "a run diverged: undecided", "one seed: undecided"):
        if verdict in verdicts:
            return verdict
    open_pairs = [verdict for verdict in verdicts if verdict != "holds"]
    count = f" in {len(open_pairs)} of {len(verdicts)}" * (1 < len(verdicts))
    return open_pairs[0] + count if open_pairs else "holds"
