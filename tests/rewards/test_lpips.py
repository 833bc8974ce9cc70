"""LPIPS through the public package, with a random trunk in torchvision's layout and the package's own heads."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from burnish.data.errors import ConfigError
from burnish.data.masks import box_mask
from burnish.data.records import Example
from burnish.data.seeding import generator
from burnish.rewards.lpips import LPIPS, LPIPSOptions, heads_file
from burnish.rewards.rubric import RewardSpec
from burnish.rewards.server import RewardServer
from burnish.rewards.table import TABLE

layouts = runpy.run_path(str(Path(__file__).with_name("public_layouts.py")))
SIDE = 64
BOX = (10, 4, 46, 44)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """Directory with AlexNet's file, and the features it holds."""
    folder = tmp_path_factory.mktemp("trunk")
    return folder, layouts["write_trunk"](folder, "alex")


@pytest.fixture(scope="module")
def make(trunk):
    def build(**options):
        return LPIPS(LPIPSOptions(weights=str(trunk[0]), device="cpu", min_side=32, **options))

    return build


@pytest.fixture(scope="module")
def reward(make):
    return make()


@pytest.fixture(scope="module")
def case():
    draws = generator(0, "lpips-test").random((2, 3, SIDE, SIDE), dtype=np.float32)
    mask = box_mask(BOX, height=SIDE, width=SIDE)
    return Example("e", "restore it", np.where(mask > 0, np.float32(0.5), draws[0]), mask, (), draws[0])


@pytest.fixture(scope="module")
def rows(case):
    """Outputs [6,3,64,64], each further from the target than the one before; the first is the target."""
    noise = generator(0, "lpips-test", "noise").random((3, SIDE, SIDE), dtype=np.float32)
    return np.stack([(1 - s) * case.target + s * noise for s in np.linspace(0, 1, 6, dtype=np.float32)])


@pytest.fixture(scope="module")
def public(trunk):
    """The package's own model and call: distance of two images [3,h,w] in [0,1]."""
    import lpips

    with pytest.warns(UserWarning, match="deprecated since 0.13"):
        model = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    for part in (model.net.slice1, model.net.slice2, model.net.slice3, model.net.slice4, model.net.slice5):
        for name, value in part.named_parameters():
            value.data = trunk[1][name]

    def distance(a, b):
        with torch.no_grad():
            return float(model(torch.from_numpy(a)[None], torch.from_numpy(b)[None], normalize=True))

    return distance


def test_scores_are_minus_the_packages_distance_in_the_region(reward, public, case, rows):
    x1, y1, x2, y2 = BOX
    wanted = [-public(row[:, y1:y2, x1:x2].copy(), case.target[:, y1:y2, x1:x2].copy()) for row in rows]
    scores = reward.score(rows, [case] * 6)
    assert scores == pytest.approx(wanted, abs=1e-5) and scores.dtype == np.float32


def test_the_whole_frame_is_compared_where_that_is_asked_for(make, public, case, rows):
    wanted = [-public(row, case.target) for row in rows]
    assert make(region="frame").score(rows, [case] * 6) == pytest.approx(wanted, abs=1e-5)


def test_outside_is_compared_with_the_input_after_its_box_is_copied(make, public, case, rows):
    copied = np.where(case.mask > 0, case.image, rows)
    wanted = [-public(row, case.image) for row in copied]
    scores = make(region="outside_copied").score(rows, [case] * 6)
    assert scores == pytest.approx(wanted, abs=1e-5) and scores[1] < scores[0] == pytest.approx(0, abs=1e-6)


def test_the_target_scores_best_and_the_score_falls_with_the_error(reward, case, rows):
    scores = reward.score(rows, [case] * 6)
    assert scores[0] == pytest.approx(0, abs=1e-6) and (np.diff(scores) < 0).all() and scores[-1] < -1e-3


def test_rows_of_other_sizes_and_missing_ones_change_no_row(reward, case, rows):
    small = replace(case, mask=box_mask((0, 0, 40, 33), height=SIDE, width=SIDE))
    empty = replace(case, mask=np.zeros_like(case.mask))
    mixed = reward.score(rows, [case, small, replace(case, target=None), empty, small, case])
    own, other = reward.score(rows, [case] * 6), reward.score(rows, [small] * 6)
    assert mixed[[0, 5]] == pytest.approx(own[[0, 5]], abs=1e-6)
    assert mixed[[1, 4]] == pytest.approx(other[[1, 4]], abs=1e-6) and np.isnan(mixed[2:4]).all()


def test_every_step_has_the_batchs_rows_however_many_apply(make, case, rows):
    reward, shapes = make(), []
    for module in (reward._model.net, *reward._model.lins):
        module.register_forward_hook(lambda _m, inputs, _o: shapes.append(len(inputs[0])))
    reward.score(rows, [case] * 6)
    full = list(shapes)
    shapes.clear()
    reward.score(rows, [case, *[replace(case, target=None)] * 4, case])
    assert sorted(full) == [1, *[6] * 6] and shapes == [6] * 6  # one row: the target, which was kept


@pytest.mark.parametrize("changes", [{"image": None}, {"mask": None}, {"mask": np.ones((1, SIDE, SIDE), np.float32)}])
def test_outside_is_missing_where_there_is_none(make, case, rows, changes):
    assert np.isnan(make(region="outside_copied").score(rows[:1], [replace(case, **changes)])).all()


def test_a_broken_image_is_missing(reward, case, rows):
    broken = rows[:2].copy()
    broken[0, 0, 20, 20] = np.inf
    assert np.isfinite(reward.score(broken, [case] * 2)).tolist() == [False, True]


def test_a_frame_too_small_for_the_trunk_is_enlarged(reward, example, outputs):
    scores = reward.score(outputs, [example] * 16)
    assert scores[0] == pytest.approx(0, abs=1e-6) and scores[0] > scores[8] > scores[15]


def test_a_target_goes_through_the_trunk_once(reward, case, rows):
    own = replace(case, target=rows[3])
    reward.take_counters()
    for _ in range(3):
        reward.score(rows, [own] * 6)
    assert reward.take_counters() == {"embedded": 1, "cache_hits": 2}


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_the_range_holds_whatever_the_features_are(net):
    heads = torch.load(heads_file(net), map_location="cpu", weights_only=True).values()
    assert all((head >= 0).all() for head in heads)
    assert -sum(float(head.flatten().topk(2).values.sum()) for head in heads) > LPIPS.range[0]


@pytest.mark.parametrize("broken", ["other net", "missing"])
def test_another_key_layout_is_refused(trunk, tmp_path, broken):
    state = torch.load(trunk[0] / layouts["trunk_file"]("alex"), weights_only=True)
    del state["features.10.bias"]
    changed = state if broken == "missing" else {f"model.{key}": value for key, value in state.items()}
    torch.save(changed, tmp_path / "alexnet.pth")
    with pytest.raises(ConfigError, match=r"another layout[\s\S]*alexnet.pth"):
        LPIPS(LPIPSOptions(weights=str(tmp_path)))


def test_the_server_prepares_it_and_refuses_other_bytes(trunk, reward, monkeypatch):
    monkeypatch.setitem(TABLE, "lpips", LPIPS)
    options = {"weights": str(trunk[0]), "device": "cpu"}
    spec = RewardSpec(name="lpips", kind="lpips", batch=4, options=options, weights_sha256=reward.weights_digest)
    canary = RewardServer().prepare(spec).canary
    assert canary[1] == pytest.approx(0, abs=1e-6) and max(canary) == canary[1]
    with pytest.raises(ConfigError, match="weights_sha256"):
        RewardServer().prepare(spec.model_copy(update={"weights_sha256": "0" * 64}))


def test_half_precision_stays_close(make, reward, case, rows):
    half = make(dtype="bfloat16").score(rows, [case] * 6)
    assert half == pytest.approx(reward.score(rows, [case] * 6), abs=0.02) and half[0] == pytest.approx(0, abs=1e-3)


@pytest.mark.slow
def test_vgg_loads_too(tmp_path, case, rows):
    layouts["write_trunk"](tmp_path, "vgg")
    scores = LPIPS(LPIPSOptions(weights=str(tmp_path), net="vgg", device="cpu")).score(rows, [case] * 6)
    assert scores[0] == pytest.approx(0, abs=1e-6) and (np.diff(scores) < 0).all()
