"""Several learner ranks in processes of their own against one: within rounding, or to the byte with the fixed tree."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

WORKER = Path(__file__).parent / "rank_worker.py"


def run_ranks(tmp_path, world, **engine):
    """Start the ranks, wait for them, and return what rank 0 wrote."""
    address, out = (tmp_path / "store").as_uri(), tmp_path / "result.npz"
    config = json.dumps({"persistence_threshold": 0, **engine})
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(WORKER), config, str(rank), str(world), address, str(out)],
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
    return run_ranks(tmp_path_factory.mktemp("one"), 1, kind="torch")


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine",
    [
        {"kind": "torch"},
        *({"zero_stage": stage} for stage in range(4)),
        {"zero_stage": 2, "offload": "optimizer"},
        {"zero_stage": 3, "offload": "weights"},
    ],
)
def test_two_ranks_agree_with_one_after_five_updates_and_resume_exactly(tmp_path, one_rank, engine):
    found = run_ranks(tmp_path, 2, **engine)
    assert found.keys() == one_rank.keys()
    assert bool(found["resumed"]) and bool(one_rank["resumed"])
    for name in found:
        np.testing.assert_allclose(found[name], one_rank[name], rtol=0.0, atol=1e-6, err_msg=name)


@pytest.fixture(scope="module")
def one_rank_in_a_tree(tmp_path_factory):
    return run_ranks(tmp_path_factory.mktemp("tree"), 1, kind="torch", reduction="reproducible")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "stage", "world"),
    [
        ("torch", 0, 2),
        ("torch", 0, 4),
        ("deepspeed", 0, 2),
        ("deepspeed", 1, 1),
        ("deepspeed", 1, 2),
        ("deepspeed", 1, 4),
    ],
)
def test_with_the_reproducible_reduction_the_number_of_ranks_changes_no_byte(
    tmp_path, one_rank_in_a_tree, kind, stage, world
):
    found = run_ranks(tmp_path, world, kind=kind, zero_stage=stage, reduction="reproducible")
    assert bool(found.pop("resumed"))
    for name in found.keys() - {"loss"}:
        assert found[name].tobytes() == one_rank_in_a_tree[name].tobytes(), name


@pytest.mark.slow
def test_the_fast_reduction_does_depend_on_the_ranks_so_the_comparison_bites(one_rank, one_rank_in_a_tree):
    names = one_rank.keys() - {"loss", "resumed"}
    assert any(one_rank[name].tobytes() != one_rank_in_a_tree[name].tobytes() for name in names)
