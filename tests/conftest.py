"""Hypothesis with torch, fast and repeatable: seeds, profiles, one thread; and shared fixtures.

pytest                                    the profile "ci": 50 examples, the same ones every time
pytest --hypothesis-profile=dev           25 random examples each
pytest --hypothesis-profile=thorough      1000 random examples each
"""

import os
import re

import hypothesis
import pytest
import torch
from strategies import shrink_shapes


class TorchRandom:
    """torch's generator in the form of random.Random, so that Hypothesis seeds and restores it."""

    seed = staticmethod(torch.manual_seed)
    getstate, setstate = staticmethod(torch.get_rng_state), staticmethod(torch.set_rng_state)


torch_random = TorchRandom()  # Hypothesis holds only a weak reference
hypothesis.register_random(torch_random)
hypothesis.settings.register_profile(
    "ci", max_examples=50, derandomize=True, deadline=None, database=None, print_blob=True
)
hypothesis.settings.register_profile("dev", max_examples=25, deadline=None, database=None)
hypothesis.settings.register_profile("thorough", max_examples=1000, deadline=None)
hypothesis.settings.load_profile("ci")
torch.set_num_threads(1)


def pytest_configure(config):
    """Hide a GPU from all tests but its own: the others are about a CPU, bit for bit."""
    if not re.match(r"gpu\b", config.option.markexpr):  # -m gpu, or -m "gpu and ..."
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(autouse=True)
def denormals():
    """train() flushes denormals to zero for the whole process; Hypothesis draws some."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def figures():
    """Asks for real figures where small_shapes would leave them out."""


@pytest.fixture
def small_shapes(monkeypatch, request):
    """192 + 64 shapes of 12 px; no curves.png unless a test looks at it."""
    shrink_shapes(monkeypatch, "figures" in request.fixturenames)
