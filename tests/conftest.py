"""One thread for every test, so that results and times do not depend on the machine's cores."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # `import oracles` from every folder


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)
