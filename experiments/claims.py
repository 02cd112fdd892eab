"""The tests of claims: whether the runs of a table support a sentence about them.

A test is a function: {label: [last record of each seed]} -> True, False, or None where a single
seed allows no verdict. Tests that several modules need are here; the others are lambdas in CLAIMS.
"""

import statistics


def values(records, key):
    """One number of each record."""
    return [record[key] for record in records]


def mean_std(numbers):
    """Mean and standard deviation over seeds; the latter is None for a single seed."""
    return statistics.mean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None


def collapsed(record):
    """Whether a run's outputs have collapsed, to a point (std) or to few dimensions (rank)."""
    return record["std"] < 0.3 or record["rank"] < 4


def none_collapsed(last):
    """A claim's test: no run of any row has collapsed."""
    return not any(collapsed(record) for records in last.values() for record in records)


def not_collapsed(label):
    """A claim's test: no run of this row has collapsed."""
    return lambda last: not any(map(collapsed, last[label]))


def below(*labels, key="knn"):
    """A claim's test: each row's mean exceeds the one before by two standard errors or more.

    One seed has no standard error: the verdict is then None.
    """
    def holds(last):
        rows = [values(last[label], key) for label in labels]
        if min(map(len, rows)) < 2:
            return None
        for a, b in zip(rows, rows[1:]):
            (mean_a, std_a), (mean_b, std_b) = mean_std(a), mean_std(b)
            error = (std_a**2 / len(a) + std_b**2 / len(b)) ** 0.5
            if not mean_b - mean_a >= 2 * error:  # written so that NaN is no gain
                return False
        return True

    return holds


def none_above(plain, *others, key="knn"):
    """A claim's test: below(plain, other) holds for none of the other rows."""
    def holds(last):
        gains = [below(plain, other, key=key)(last) for other in others]
        return None if None in gains else not any(gains)

    return holds
