"""Two learner ranks in processes of their own against one: the same numbers within rounding."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

WORKER = Path(__file__).parent / "rank_worker.py"


def run_ranks(tmp_path, kind, stage, world):
    """Start the ranks, wait for them, and return what rank 0 wrote."""
    name = f"{kind}-{stage}-{world}"
    address, out = (tmp_path / f"{name}.store").as_uri(), tmp_path / f"{name}.npz"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(WORKER), kind, str(stage), str(rank), str(world), address, str(out)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    errors = [rank.communicate(timeout=240)[1] for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), "\n".join(errors)[-4000:]
    return dict(np.load(out))


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory):
    return run_ranks(tmp_path_factory.mktemp("one"), "torch", 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "stage"), [("torch", 0), *[("deepspeed", stage) for stage in range(4)]])
def test_two_ranks_agree_with_one_after_five_updates_and_resume_exactly(tmp_path, one_rank, kind, stage):
    found = run_ranks(tmp_path, kind, stage, 2)
    assert found.keys() == one_rank.keys()
    assert bool(found["resumed"]) and bool(one_rank["resumed"])
    for name in found:
        np.testing.assert_allclose(found[name], one_rank[name], rtol=0.0, atol=1e-6, err_msg=name)
