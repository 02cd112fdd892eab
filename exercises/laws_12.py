"""The laws of exercise 12: the kNN classifier."""

import math

import torch

from exercises.exercise import demand, show
from lineval import knn_predict, neighbours

BLANKS = ["lineval.py:knn_predict", "lineval.py:neighbours"]
READ = ("Fig. 2 (right) and its caption; Wu et al. (arXiv 1805.01978), Sec. 3.4; the docstrings of"
        " knn_predict and neighbours in lineval.py.")


def at(*degrees, length=1.0):
    """Rows of this length at these angles, in degrees."""
    return torch.tensor([[length * math.cos(math.radians(a)), length * math.sin(math.radians(a))]
                         for a in degrees])


def predict(bank, labels, query, classes, **options):
    got = knn_predict(bank, torch.tensor(labels), query, classes, **options)
    assert torch.is_tensor(got), ("knn_predict must return a tensor; yours returns a"
                                  f" {type(got).__name__}.")
    assert got.shape == (len(query),) and got.dtype == torch.int64, (
        f"For a query of {len(query)} rows the result must have the shape [{len(query)}] and the"
        f" dtype int64; yours has {list(got.shape)} and {got.dtype}.")
    return got.tolist()


def law_the_nearest_row_decides_alone_if_k_is_1():
    """With k = 1 the class is that of the row with the smallest angle to the query."""
    demand(predict(at(0, 90), [0, 1], at(30, 60), 2, k=1), [0, 1], "Bank at 0° (class 0) and 90°"
           " (class 1), k = 1: a query at 30° and one at 60° must be of the classes")
    demand(predict(at(0, 170), [0, 1], at(120), 2, k=1), [1], "Bank at 0° (class 0) and 170°"
           " (class 1), k = 1: a query at 120° must be of the class")


def law_lengths_do_not_matter():
    """The length of a row, of the bank or of the query, does not matter, only its direction."""
    for a, b, c in ((1, 100, 1), (100, 1, 1), (0.01, 1, 1), (1, 1, 100)):
        bank = torch.cat([at(0, length=a), at(90, length=b)])
        demand(predict(bank, [0, 1], at(30, 60, length=c), 2, k=1), [0, 1], "Bank at 0° with length"
               f" {a} (class 0) and at 90° with length {b} (class 1), k = 1: queries of length {c}"
               " at 30° and 60° must be of the classes")


def law_the_votes_of_a_class_are_summed():
    """Each of the k nearest rows votes for its class, and the votes of a class are summed."""
    # Weights with T = 10: all about e^0.1, so two votes beat one.
    demand(predict(at(0, 20, 25, 180), [0, 1, 1, 0], at(1), 2, k=3, T=10.0), [1], "Bank at 0°"
           " (class 0), 20° and 25° (class 1) and 180° (class 0), k = 3, T = 10: a query at 1° must"
           " be of the class")


def law_a_vote_weighs_exp_of_cosine_over_T():
    """A vote weighs exp(cosine / T): a cosine larger by T weighs e = 2.718 times as much."""
    # cos 0° = 1 and cos 25.842° = 0.9
    for n, T, wanted in ((2, 0.1, 0), (3, 0.1, 1), (2, 1.0, 1), (7, 0.05, 0), (8, 0.05, 1)):
        bank, query = at(0, *[25.842] * n, length=5), at(0, length=3)
        demand(predict(bank, [0] + [1] * n, query, 2, k=n + 1, T=T), [wanted], "Bank: one row with"
               f" cosine 1 to the query (class 0) and {n} with cosine 0.9 (class 1), all of length"
               f" 5, a query of length 3, k = {n + 1}, T = {T}: exp(0.1 / T) is"
               f" {math.exp(0.1 / T):.3g}, so the query must be of the class")


def law_only_the_k_nearest_vote():
    """Rows beyond the k nearest have no vote."""
    bank, labels = at(0, 80, 81, 82, 83), [0, 1, 1, 1, 1]
    for k, wanted in ((1, 0), (2, 0), (5, 1)):
        demand(predict(bank, labels, at(1), 2, k=k, T=10.0), [wanted], "Bank at 0° (class 0), 80°,"
               f" 81°, 82° and 83° (class 1), k = {k}, T = 10: a query at 1° must be of the class")


def law_negative_cosines_vote_too():
    """A neighbour votes for its class even if its cosine is negative."""
    demand(predict(at(100, 110, 120), [2, 1, 1], at(0), 3, k=3, T=1.0), [1], "Bank at 100°"
           " (class 2), 110° and 120° (class 1), k = 3, T = 1: a query at 0° must be of the class")


def law_the_names_of_the_classes_do_not_matter():
    """Any labels below `classes` will do; a class may be missing in the bank."""
    demand(predict(at(0, 90, 180), [5, 2, 5], at(10, 85, 170), 7, k=1), [5, 2, 5], "Bank at 0°"
           " (class 5), 90° (class 2) and 180° (class 5), 7 classes, k = 1: queries at 10°, 85° and"
           " 170° must be of the classes")


def law_the_order_of_the_bank_does_not_matter():
    """Neither the order of the bank nor that of the query changes a prediction."""
    angles, labels = [0, 40, 95, 150, 230, 300], [0, 1, 2, 0, 1, 2]
    queries = [10, 60, 130, 200, 290]
    forwards = predict(at(*angles), labels, at(*queries), 3, k=2)
    demand(predict(at(*angles[::-1]), labels[::-1], at(*queries[::-1]), 3, k=2), forwards[::-1],
           f"Bank at {angles}° with labels {labels}, query at {queries}°, k = 2: with both reversed"
           " the classes must be")


def law_each_query_is_answered_on_its_own():
    """A query's class does not depend on the other queries, however many there are."""
    # Three classes that take turns every 10°, and queries near each of them, in 1203 rows.
    bank, labels = at(*range(0, 360, 10)), [i % 3 for i in range(36)]
    got = predict(bank, labels, at(*[10 * i + 3 for i in range(1203)]), 3, k=1)
    for i, label in enumerate(got):
        demand(label, i % 3, f"Of 1203 queries number {i}, 3° from a row of class {i % 3} and 7°"
               f" from one of class {(i + 1) % 3}, k = 1, must be of the class")


def law_the_bank_knows_itself():
    """With k = 1 every row of the bank is given its own label."""
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(40, 6, generator=generator)
    labels = torch.randint(4, (40,), generator=generator).tolist()
    got = predict(bank, labels, bank, 4, k=1)
    for i in range(40):
        demand(got[i], labels[i], f"A bank of 40 random rows is its own query, k = 1: row {i} must"
               " be of the class")


def law_the_features_stay():
    """Bank and query stay as they are: the linear probe uses the same features."""
    bank, query = at(0, 90, length=5), at(30, length=3)
    predict(bank, [0, 1], query, 2, k=1)
    demand(bank, at(0, 90, length=5), "After the call the bank must still be")
    demand(query, at(30, length=3), "After the call the query must still be")


def law_k_is_half_a_class_and_at_most_200():
    """neighbours() is half the number of rows per class, at most 200 and at least 1."""
    for n, classes, wanted in ((50_000, 10, 200), (1000, 10, 50), (4096, 10, 200), (192, 10, 9),
                               (30, 10, 1), (10, 10, 1), (3, 5, 1), (801, 2, 200)):
        got = neighbours(torch.zeros(n, dtype=torch.int64), classes)
        assert isinstance(got, int), (f"neighbours must return an int; yours returns a"
                                      f" {type(got).__name__}, {show(got)}.")
        demand(got, wanted, f"For {n} labels of {classes} classes neighbours must be")
