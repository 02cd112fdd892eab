"""The laws of experiments/measures.py.    pytest tests/test_measures.py"""

import math

import pytest
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from experiments.measures import alignment, centre, uniformity
from simsiam import D, output_std
from strategies import normal, seeds


@given(seeds, st.floats(-3, 3))
def test_alignment_is_the_loss_and_centre_and_std_share_the_length_of_the_rows(seed, offset):
    z1, z2 = normal(seed, 20, 8) + offset, normal(seed + 1, 20, 8)
    assert alignment(z1, z2).item() == pytest.approx(2 + 2 * D(z1, z2).item(), abs=1e-9)
    variance = F.normalize(z1, dim=1).var(dim=0, correction=0).sum()
    assert (centre(z1) ** 2 + variance).item() == pytest.approx(1)
    assert output_std(z1) ** 2 <= 1 - centre(z1) ** 2 + 1e-9  # hence std is at most 1


@given(seeds)
def test_uniformity_is_zero_for_a_constant_and_equals_a_loop_over_pairs(seed):
    z = F.normalize(normal(seed, 6, 4), dim=1)
    pairs = [math.exp(-2 * (z[i] - z[j]).square().sum()) for i in range(6) for j in range(i)]
    assert uniformity(3 * z).item() == pytest.approx(math.log(sum(pairs) / len(pairs)))
    assert uniformity(z) < uniformity(z[:1].expand(6, 4)) == 0
