"""Hundreds of iterations with deaths at every labelled point: the exact result, and nothing left behind."""

import gc
import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from burnish.data.records import PolicyVersion
from burnish.data.seeding import generator
from burnish.platform.checkpoints import commit, latest_verified
from burnish.platform.executor import Role
from burnish.platform.failpoints import VARIABLE, InjectedFault

POINTS = ["journal", "log", "after-tmp", "after-manifest", "before-rename", "after-rename", "before-prune"]
MIB = 1 << 20


class Chain:
    """A learner whose state is the hash of everything it was ever given."""

    def __init__(self):
        self.iterations, self.digest = 0, "start"

    def update(self, plan, *groups):
        told = [plan.iteration, [(g.example_id, g.advantages.tolist(), g.weight) for g in plan.groups], groups]
        self.digest = hashlib.sha256(json.dumps([self.digest, told]).encode()).hexdigest()
        self.iterations += 1
        return {"grad_norm": 0.5, "lr": 1e-3, "updates": 2.0, "skipped_updates": 0.0}

    def num_shards(self):
        return 1

    def publish(self):
        return PolicyVersion(self.iterations, self.digest), {}

    def settled(self):
        pass

    def save(self, parent, name, driver):
        digests = {"policy_digest": self.digest, "state_digest": self.digest}
        commit(parent, name, lambda path: (path / "state.json").write_text(json.dumps({**driver, **digests})))
        return digests


def begin(fakes, root, iterations):
    """The stage as a driver finds it: what is on disk, and nothing else."""
    stage = fakes.Stage(root, lag=1, stop_after=iterations, overrides=(("grpo.iterations", str(iterations)),))
    stage.learner = Chain()
    stage.executor.start(Role("learner", lambda rank, world: stage.learner, gang=True))
    found = stage.ledger.resume()
    if found is not None:
        stage.learner.iterations = stage.ledger.iteration
        stage.learner.digest = json.loads((found / "state.json").read_text())["state_digest"]
    else:
        stage.ledger.advance(stage.learner.publish()[0])
        stage.ledger.commit()
    return stage


def result(fakes, root, iterations, monkeypatch, faults=0, seen=lambda iteration: None):
    """Run to the end through `faults` deaths at keyed points and moments; (state digest, deaths that happened)."""
    happened = []
    for number in range(faults + 1):
        draw = generator(11, "soak", number)
        point = f"{POINTS[int(draw.integers(len(POINTS)))]}:{1 + int(draw.integers(iterations // (faults + 1)))}:raise"
        monkeypatch.setenv(VARIABLE, point if number < faults else "")
        stage = begin(fakes, root, iterations)
        try:
            stage.loop().run()
        except InjectedFault as fault:
            happened.append(str(fault))
        seen(stage.ledger.iteration)
    state = latest_verified(stage.ledger.checkpoints)
    return json.loads((state / "state.json").read_text())["state_digest"], happened


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def left():
    """Open descriptors, threads and files of shared memory."""
    gc.collect()  # the frames of a death hold what it was in
    return (
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
        {p for p in os.listdir("/dev/shm") if "burnish" in p},
    )


@pytest.mark.parametrize("iterations", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_deaths_at_every_point_change_no_byte_and_leave_nothing(fakes, tmp_path, monkeypatch, iterations):
    expected, none = result(fakes, tmp_path / "still", iterations, monkeypatch)
    before, sizes = left(), []
    faults = 3 + iterations // 20
    found, happened = result(
        fakes, tmp_path / "faults", iterations, monkeypatch, faults, lambda i: sizes.append((i, resident()))
    )
    assert found == expected and none == [] and len(happened) == faults
    assert left() == before
    assert not [path for path in tmp_path.rglob("*") if ".tmp-" in path.name]
    steps, bytes_ = zip(*sizes[1:], strict=True)
    slope = (bytes_[-1] - bytes_[0]) / max(1, steps[-1] - steps[0]) * 100 / MIB
    print(f"{iterations} iterations, {faults} faults: {slope:.2f} MiB per 100 iterations")
    assert iterations < 500 or slope < 1.0
