"""Supervised fine-tuning on a fake policy."""

from dataclasses import replace

import numpy as np
import pytest

from burnish.data.errors import DataError
from burnish.data.records import Geometry
from burnish.learners.engine import EngineConfig
from burnish.learners.engines import engine_factory
from burnish.learners.optimizer import OptimizerConfig
from burnish.learners.sft import SftConfig
from burnish.learners.sft_trainer import SftTrainer, target_image

OPTIMIZER = OptimizerConfig(lr=0.02)


@pytest.fixture
def make_trainer(fakes):
    def make(**fields):
        config = SftConfig(**({"batch": 4, "micro_batch": 2, "optimizer": OPTIMIZER} | fields))
        factory = engine_factory(EngineConfig(kind="torch"), config.optimizer, num_micro=2, total_steps=100)
        return SftTrainer(fakes.FakePolicy(full=True), factory, config, seed=5)

    return make


@pytest.fixture
def chunks(fakes):
    return lambda step: [[fakes.example(4 * step + 2 * c + r) for r in range(2)] for c in range(2)]


@pytest.mark.parametrize("fields", [{}, {"weight": "none", "bell": True}, {"weight": "boundary", "boundary_in": 2}])
def test_the_loss_goes_down(make_trainer, chunks, fields):
    trainer = make_trainer(**fields)
    first = trainer.train(0, 10, chunks)["loss"]
    later = trainer.train(10, 80, chunks)
    assert later["loss_last"] < 0.8 * first and later["grad_norm"] > 0.0


def test_the_band_goes_to_the_grid_without_encoding_where_the_policy_can(make_trainer, chunks):
    trainer, encoded, bands = make_trainer(weight="boundary"), [], []
    encode = trainer.policy.encode
    trainer.policy.encode = lambda example: (encoded.append(example), encode(example))[1]
    asked = {"plain": len(chunks(0)) * len(chunks(0)[0])}
    trainer.train(0, 1, chunks)
    assert len(encoded) == 2 * asked["plain"]
    trainer.policy.on_grid = lambda mask: (
        bands.append(mask),
        encode(replace(chunks(0)[0][0], mask=mask)).arrays["region"],
    )[1]
    trainer.train(1, 2, chunks)
    assert len(encoded) == 3 * asked["plain"] and len(bands) == asked["plain"]


def test_one_call_or_two_and_a_resume_give_the_same_bytes(make_trainer, chunks):
    whole, parts, resumed = make_trainer(), make_trainer(), make_trainer()
    whole.train(0, 6, chunks)
    parts.train(0, 3, chunks)
    resumed.load_state(parts.state())
    resumed.train(3, 6, chunks)
    a, b = whole.state(), resumed.state()
    assert all(np.array_equal(v, b.weights[n]) for n, v in a.weights.items())
    assert all(np.array_equal(v, b.optimizer[n]) for n, v in a.optimizer.items())


def test_another_seed_or_weight_gives_other_weights(make_trainer, chunks):
    trainers = [make_trainer(), make_trainer(weight="none"), make_trainer(inside="constant", inside_weight=2.0)]
    losses = [trainer.train(0, 1, chunks)["loss"] for trainer in trainers]
    trainers[0].seed = 6
    assert len({*losses, trainers[0].train(0, 1, chunks)["loss"]}) == 4


def test_partial_restoration_moves_the_target_towards_the_input_only_where_they_differ(fakes):
    item = fakes.example(0)
    found = target_image(item, 0.5)
    np.testing.assert_allclose(found, (item.image + item.target) / 2, rtol=1e-6)
    outside = np.broadcast_to(item.mask == 0.0, found.shape)
    assert (found[outside] == item.image[outside]).all()
    assert target_image(item, 1.0) is item.target


def test_what_has_no_target_input_or_mask_is_refused(fakes, make_trainer):
    item = fakes.example(0)
    with pytest.raises(DataError, match="needs a target"):
        target_image(replace(item, target=None), 1.0)
    with pytest.raises(DataError, match="needs an input"):
        target_image(replace(item, image=None), 0.5)


def test_a_chunk_of_two_geometries_has_the_loss_of_one(make_trainer, chunks):
    whole, split = make_trainer(), make_trainer()
    encode, seen = split.policy.encode, []
    split.policy.encode = lambda e: replace(encode(e), geometry=Geometry(4, 4 + int(e.id[1:]) % 2))
    velocity = split.policy.velocity
    split.policy.velocity = lambda x, *rest: seen.append(len(x)) or velocity(x, *rest)
    assert split.train(0, 1, chunks)["loss"] == pytest.approx(whole.train(0, 1, chunks)["loss"], rel=1e-6)
    assert seen == [1] * 4
