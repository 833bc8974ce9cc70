"""Both engines on one rank: equal bytes, equal skips, exact resumes, whatever the ZeRO stage."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from burnish.data.errors import CheckpointError, ConfigError
from burnish.learners.engine import EngineConfig, join_ranks
from burnish.learners.engines import check_unsplit, engine_factory
from burnish.learners.optimizer import OptimizerConfig

OPTIMIZER = OptimizerConfig(lr=0.02, weight_decay=0.1, grad_clip=0.05, warmup=3, decay="linear")
DEEPSPEED = [
    *(("deepspeed", stage) for stage in range(4)),
    *(("optimizer in host memory", stage) for stage in (1, 2, 3)),
    ("weights in host memory", 3),
]
ALL = [("torch", 0), *DEEPSPEED]


@pytest.fixture
def make(fakes):
    engines = []

    def build(kind, stage, optimizer=OPTIMIZER, num_micro=2):
        kind, offload = ("deepspeed", kind.split()[0]) if kind.endswith("memory") else (kind, "none")
        config = EngineConfig(kind=kind, zero_stage=stage, persistence_threshold=0, offload=offload)
        factory = engine_factory(config, optimizer, num_micro=num_micro, total_steps=10)
        engines.append(factory(fakes.FakeNet(full=True)))
        return engines[-1]

    yield build
    for engine in engines:
        engine.close()


def feed(engine, steps, bad=()):
    """Optimiser steps on inputs that depend only on the step number."""
    infos = []
    for step in steps:
        for micro in range(engine.num_micro):
            x = torch.linspace(-1.0, 1.0, 3 * 25).reshape(3, 25) * (1.0 + step + 0.3 * micro)
            loss = (engine.module(x) ** 2).mean() * (float("nan") if step in bad else 1.0)
            engine.backward(loss)
        infos.append(engine.step())
    return infos


def content(engine):
    return {**engine.trainable(), **engine.optimizer_state()}


def largest_difference(a, b):
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


@pytest.mark.parametrize(("kind", "stage"), DEEPSPEED)
def test_deepspeed_equals_the_torch_engine_after_five_clipped_updates(make, kind, stage):
    plain, sharded = make("torch", 0), make(kind, stage)
    expected, found = feed(plain, range(5)), feed(sharded, range(5))
    assert min(info.grad_norm for info in expected) > OPTIMIZER.grad_clip
    difference = largest_difference(content(plain), content(sharded))
    assert difference == 0.0 if stage < 3 else difference < 1e-6
    np.testing.assert_allclose([i.grad_norm for i in found], [i.grad_norm for i in expected], rtol=1e-5)
    assert [i.lr for i in found] == [i.lr for i in expected]


@pytest.mark.parametrize(("kind", "stage"), ALL)
def test_a_bad_gradient_skips_the_step_and_leaves_every_bit(make, kind, stage):
    engine = make(kind, stage)
    feed(engine, range(2))
    before = content(engine)
    (info,) = feed(engine, [2], bad=[2])
    after = content(engine)
    assert info.skipped and not np.isfinite(info.grad_norm)
    assert int(after.pop("attempts")) == int(before.pop("attempts")) + 1
    assert largest_difference(before, after) == 0.0
    assert not feed(engine, [3])[0].skipped


@pytest.mark.parametrize(("kind", "stage"), ALL)
def test_a_resumed_engine_gives_the_bytes_of_an_undisturbed_one(make, kind, stage):
    whole, resumed = make(kind, stage), make(kind, stage)
    feed(whole, range(3))
    weights, moments = whole.trainable(), whole.optimizer_state()
    feed(resumed, [7])
    resumed.load_trainable(weights)
    resumed.load_optimizer_state(moments)
    assert largest_difference(content(whole), content(resumed)) == 0.0
    feed(whole, [3, 4])
    feed(resumed, [3, 4])
    assert largest_difference(content(whole), content(resumed)) == 0.0


@pytest.mark.parametrize(("kind", "stage"), DEEPSPEED)
def test_state_of_the_torch_engine_continues_on_any_stage(make, kind, stage):
    plain, sharded = make("torch", 0), make(kind, stage)
    feed(plain, range(2))
    sharded.load_trainable(plain.trainable())
    sharded.load_optimizer_state(plain.optimizer_state())
    feed(plain, [2, 3])
    feed(sharded, [2, 3])
    assert largest_difference(content(plain), content(sharded)) < 1e-6


@pytest.mark.parametrize(("kind", "stage"), ALL)
def test_a_zero_learning_rate_changes_no_bit(make, kind, stage):
    engine = make(kind, stage, OPTIMIZER.model_copy(update={"lr": 0.0}))
    before = {name: value.numpy().tobytes() for name, value in engine.trainable().items()}
    feed(engine, range(3))
    assert {name: value.numpy().tobytes() for name, value in engine.trainable().items()} == before


@pytest.mark.parametrize("kind", ["torch", "deepspeed"])
def test_a_foreign_state_is_refused(make, kind):
    engine = make(kind, 1)
    with pytest.raises(CheckpointError, match="does not fit"):
        engine.load_trainable({"other": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="does not fit"):
        engine.load_optimizer_state({"step": torch.tensor(1)})


@pytest.mark.parametrize("kind", ["torch", "deepspeed"])
def test_micro_batches_must_be_a_power_of_two(make, kind):
    with pytest.raises(ConfigError, match="power of two"):
        make(kind, 1, num_micro=3)


def test_several_ranks_need_an_address_when_no_group_exists():
    if not torch.distributed.is_initialized():
        with pytest.raises(ConfigError, match="need an address"):
            join_ranks(rank=0, world=2)
    join_ranks()
    join_ranks()
    assert torch.distributed.get_world_size() == 1


def test_zero_3_leaves_the_arithmetic_of_the_process_alone(make):
    before = torch.nn.functional.linear
    make("deepspeed", 3).close()
    assert torch.nn.functional.linear is before


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "torch", "offload": "optimizer"},
        {"zero_stage": 0, "offload": "optimizer"},
        {"zero_stage": 2, "offload": "weights"},
    ],
)
def test_only_what_deepspeed_shards_can_wait_in_host_memory(bad):
    with pytest.raises(ValidationError, match="offload: got"):
        EngineConfig(**bad)


def test_deepspeed_is_told_what_waits_in_host_memory(make):
    assert not make("deepspeed", 2)._engine.zero_cpu_offload()
    assert make("optimizer in host memory", 2)._engine.zero_cpu_offload()
    assert make("weights in host memory", 3)._engine.zero_offload_param().device == "cpu"


@pytest.mark.parametrize(
    ("kind", "stage", "refused"), [("deepspeed", 3, True), ("deepspeed", 2, False), ("torch", 0, False)]
)
def test_a_model_whose_tensors_zero_3_would_split_is_refused(kind, stage, refused):
    config = EngineConfig(kind=kind, zero_stage=stage, persistence_threshold=99)
    check_unsplit(torch.nn.Linear(9, 11, bias=False), config)
    if refused:
        with pytest.raises(ConfigError, match="tensor of 100 elements"):
            check_unsplit(torch.nn.Linear(10, 10), config)
    else:
        check_unsplit(torch.nn.Linear(10, 10), config)
