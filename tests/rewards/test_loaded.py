"""What is asked of a reward before it scores anything: files, canary, probe."""

import numpy as np
import pytest

from burnish.data.errors import ConfigError, InfrastructureError
from burnish.data.records import REFERENCE_KINDS
from burnish.rewards.batches import RewardError
from burnish.rewards.canary import canary_example, canary_images
from burnish.rewards.order import RewardOrder
from burnish.rewards.pixels import MaskedPixel
from burnish.rewards.rubric import RewardSpec, reward_version
from burnish.rewards.server import RewardServer
from burnish.rewards.table import TABLE, make_reward


@pytest.fixture
def candidate(monkeypatch):
    """A spec of a MaskedPixel with other members."""

    def build(*, batch=16, weights_sha256="", **members):
        monkeypatch.setitem(TABLE, "candidate", type("candidate", (MaskedPixel,), members))
        return RewardSpec(name="mine", kind="candidate", batch=batch, weights_sha256=weights_sha256)

    return build


def _raise(error):
    raise error


def _all(value, dtype=np.float32):
    return lambda self, images, examples: np.full(len(images), value, dtype)


def test_a_good_reward_says_what_it_is_and_what_it_said(candidate):
    spec = candidate()
    prepared = RewardServer().prepare(spec)
    assert prepared.digest == reward_version(spec, make_reward(spec)).digest
    assert len(prepared.canary) == 4 and prepared.canary[1] == 0 == max(prepared.canary)
    assert prepared.crosses and prepared.seconds > 0


def test_what_is_held_is_not_prepared_again(candidate):
    server, spec = RewardServer(), candidate()
    assert server.prepare(spec) is server.prepare(spec.model_copy(update={"name": "other", "weight": 2.0}))


def test_the_canary_has_all_kinds_of_references_and_different_outputs():
    example = canary_example()
    assert tuple(r.kind for r in example.references) == REFERENCE_KINDS
    assert len({image.tobytes() for image in canary_images(example)}) == 4


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (lambda self, images, examples: images, r"float32 array \[16\], got float32 \[16, 3"),
        (_all(0, np.float64), "got float64"),
        (_all(np.nan), r"got \[nan, nan, nan, nan\], allowed finite"),
        (_all(-np.inf), "allowed finite"),
        (_all(0.5), r"got \[0.5, .*declared range \[-1.0, 0.0\]"),
        (lambda self, images, examples: _raise(KeyError("lost")), "failed on example 'canary': KeyError"),
    ],
)
def test_a_reward_that_fails_the_canary_is_refused_with_the_reason(candidate, score, reason):
    server = RewardServer()
    with pytest.raises(RewardError, match=reason) as caught:
        server.prepare(candidate(score=score))
    assert "'mine'" in str(caught.value)
    assert server.prepare(candidate()).crosses  # nothing of the refused one is held


def test_rounding_out_of_the_range_and_single_missing_values_are_no_fault(candidate):
    assert RewardServer().prepare(candidate(score=_all(5e-5))).canary[0] > 0

    def score(self, images, examples):
        return np.where(images.mean(axis=(1, 2, 3)) > 0.45, np.float32(np.nan), np.float32(-1))

    assert np.isfinite(RewardServer().prepare(candidate(score=score)).canary).any()


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), FileNotFoundError("no model.safetensors")])
@pytest.mark.parametrize("member", ["__init__", "check_ready"])
def test_what_cannot_be_built_or_is_not_ready_is_refused_with_the_reason(candidate, member, error):
    with pytest.raises((ConfigError, RewardError), match=str(error)):
        RewardServer().prepare(candidate(**{member: lambda self, *options: _raise(error)}))


def test_a_missing_file_of_a_restarted_server_is_a_fault_of_its_machine(candidate, make_group, outputs):
    spec = candidate(__init__=lambda self, options: _raise(FileNotFoundError("disk")))
    with pytest.raises(FileNotFoundError):
        RewardServer().score(make_group(outputs), RewardOrder(None, (spec,)))


def test_files_of_another_digest_are_refused(candidate):
    spec = candidate(weights_digest="a" * 64, weights_sha256="b" * 64)
    server = RewardServer()
    with pytest.raises(ConfigError) as caught:
        server.prepare(spec)
    problem = caught.value.problems[0]
    assert (problem.field, problem.got) == ("rewards.mine.weights_sha256", "b" * 64) and "a" * 64 in problem.allowed
    assert server.prepare(spec.model_copy(update={"weights_sha256": "a" * 64})).digest
    with pytest.raises(ConfigError, match="mine"):  # also where the reward is held already
        server.prepare(spec)


def test_a_digest_for_a_reward_without_files_is_refused(candidate):
    with pytest.raises(ConfigError, match="no weight files"):
        RewardServer().prepare(candidate(weights_sha256="b" * 64))


def _judge(asked, **members):
    def score(self, images, examples):
        asked.append(len(images))
        return np.full(len(images), np.nan, np.float32)

    return {"remote": True, "score": score, **members}


def test_a_remote_reward_is_asked_once_and_may_be_missing(candidate):
    asked = []
    prepared = RewardServer().prepare(candidate(batch=2, **_judge(asked)))
    assert asked == [2] and not prepared.crosses and np.isnan(prepared.canary).all()


def test_a_judge_that_is_down_does_not_stop_a_server_that_was_restarted(candidate, make_group, outputs):
    asked = []
    spec = candidate(**_judge(asked, check_ready=lambda self: _raise(InfrastructureError("down"))))
    digest = reward_version(spec, make_reward(spec))
    with pytest.raises(InfrastructureError, match="down"):
        RewardServer().prepare(spec)
    scores = RewardServer().score(make_group(outputs), RewardOrder(None, (spec,), (digest,)))
    assert asked == [16] and not scores.valid["mine"].any()


def test_what_the_canary_cost_is_no_groups_cost(candidate, make_group, outputs):
    def score(self, images, examples):
        self.seen = getattr(self, "seen", 0) + 1
        return MaskedPixel.score(self, images, examples)

    def take_counters(self):
        seen, self.seen = self.seen, 0
        return {"seen": seen}

    order = RewardOrder(None, (candidate(score=score, take_counters=take_counters),))
    assert RewardServer().score(make_group(outputs), order).costs["mine"]["seen"] == 1


@pytest.mark.parametrize("batch", [2, 3, 16, 32])
def test_the_probe_finds_rows_that_lean_on_their_neighbours(candidate, batch):
    def score(self, images, examples):
        values = MaskedPixel.score(self, images, examples)
        values[-1] = values[-1] if np.isfinite(values).all() else np.nan  # one missing row spoils the last
        return values

    assert RewardServer().prepare(candidate(batch=batch)).crosses
    assert not RewardServer().prepare(candidate(batch=batch, score=score)).crosses
