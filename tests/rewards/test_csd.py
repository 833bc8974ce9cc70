"""CSD from the public checkpoint's layout, compared with a forward written out here."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import transforms

from burnish.data.errors import ConfigError
from burnish.data.records import Reference
from burnish.rewards.csd import CSD, CSDOptions
from burnish.rewards.rubric import RewardSpec
from burnish.rewards.server import RewardServer
from burnish.rewards.table import TABLE

layouts = runpy.run_path(str(Path(__file__).with_name("public_layouts.py")))
TINY = layouts["TINY_CSD"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny CSD and its checkpoint: (path, tower, style head, content head)."""
    folder = tmp_path_factory.mktemp("csd")
    layouts["register_tiny_csd"](folder)
    parts = layouts["csd_model"](TINY)
    layouts["write_csd"](folder / "pytorch_model.bin", *parts)
    return folder / "pytorch_model.bin", *parts


@pytest.fixture(scope="module")
def reward(made):
    return CSD(CSDOptions(weights=str(made[0]), model=TINY, device="cpu"))


def direct(image, tower, style, side):
    """CSD's `CSD_CLIP.forward` and `transforms_branch0`: the style vector of one image, length 1."""
    resized = transforms.Resize(side, interpolation=transforms.InterpolationMode.BICUBIC)(layouts["pil"](image))
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    tensor = transforms.ToTensor()(transforms.CenterCrop(side)(resized))
    with torch.no_grad():
        feature = tower(transforms.Normalize(mean, std)(tensor)[None])
        return torch.nn.functional.normalize(feature @ style, dim=1, p=2)[0].numpy()


def test_scores_are_the_cosine_of_style_vectors(made, reward, example, outputs):
    _, tower, style, _ = made
    wanted = direct(example.references[1].image, tower, style, 32)
    cosines = [float(direct(image, tower, style, 32) @ wanted) for image in outputs]
    scores = reward.score(outputs, [example] * 16)
    assert scores == pytest.approx(cosines, abs=1e-5) and scores.dtype == np.float32
    assert np.ptp(scores) > 0.01


def test_the_region_is_looked_at_only_where_it_is_asked_for(made, example, outputs):
    path, tower, style, _ = made
    boxed = CSD(CSDOptions(weights=str(path), model=TINY, device="cpu", region="box", min_side=8))
    wanted = direct(example.references[1].image, tower, style, 32)
    cosines = [float(direct(image[:, 8:20, 4:16], tower, style, 32) @ wanted) for image in outputs[:3]]
    assert boxed.score(outputs[:3], [example] * 3) == pytest.approx(cosines, abs=1e-5)
    assert np.isnan(boxed.score(outputs[:1], [replace(example, mask=np.zeros_like(example.mask))])).all()


def test_an_image_with_itself_scores_1_and_best(reward, example, outputs):
    own = replace(example, references=(Reference("style", outputs[3]),))
    scores = reward.score(outputs, [own] * 16)
    assert scores[3] == pytest.approx(1, abs=1e-5) and scores.argmax() == 3 and scores.max() <= 1


def test_it_is_missing_without_a_style_reference(reward, example, outputs):
    bare = replace(example, references=example.references[:1])
    scores = reward.score(outputs[:3], [bare, example, bare])
    assert np.isfinite(scores).tolist() == [False, True, False]
    assert np.isnan(reward.score(outputs[:2], [bare] * 2)).all()


def test_a_row_depends_on_no_other(reward, example, outputs):
    other = replace(example, references=(Reference("style", outputs[9]),))
    mixed = reward.score(outputs[[2, 7, 5, 2]], [other, example, example, example])
    assert mixed[1:] == pytest.approx(reward.score(outputs[[7, 5, 2, 2]], [example] * 4)[:3], abs=1e-6)


def test_a_reference_is_embedded_once_for_all_calls(reward, example, outputs):
    own = replace(example, references=(Reference("style", outputs[12]),))
    reward.take_counters()
    for _ in range(4):
        reward.score(outputs[:2], [own] * 2)
    assert reward.take_counters() == {"embedded": 1, "cache_hits": 3}


def test_the_keys_alone_and_a_directory_will_do(made, tmp_path, reward, example, outputs):
    state = torch.load(made[0], weights_only=True)["model_state_dict"]
    torch.save({key.removeprefix("module."): value for key, value in state.items()}, tmp_path / "checkpoint.pth")
    plain = CSD(CSDOptions(weights=str(tmp_path), model=TINY, device="cpu"))
    assert (plain.score(outputs, [example] * 16) == reward.score(outputs, [example] * 16)).all()


@pytest.mark.parametrize("broken", ["head", "projection", "missing", "shape"])
def test_another_key_layout_is_refused(made, tmp_path, broken):
    state = torch.load(made[0], weights_only=True)["model_state_dict"]
    changes = {
        "head": lambda: state.pop("module.last_layer_content"),
        "projection": lambda: state.update({"module.backbone.proj": torch.zeros(16, 8)}),
        "missing": lambda: state.pop("module.backbone.ln_post.weight"),
        "shape": lambda: state.update({"module.backbone.ln_post.weight": torch.zeros(3)}),
    }
    changes[broken]()
    torch.save({"model_state_dict": state}, tmp_path / "csd.pth")
    with pytest.raises(ConfigError, match=r"another layout[\s\S]*csd.pth"):
        CSD(CSDOptions(weights=str(tmp_path / "csd.pth"), model=TINY))


def test_a_model_that_open_clip_does_not_know_is_refused(made):
    with pytest.raises(ConfigError, match=r"options\.model"):
        CSD(CSDOptions(weights=str(made[0]), model="ViT-XXL"))


def test_the_server_prepares_it_and_refuses_other_bytes(made, reward, monkeypatch):
    monkeypatch.setitem(TABLE, "csd", CSD)
    options = {"weights": str(made[0]), "model": TINY, "device": "cpu"}
    spec = RewardSpec(name="csd", kind="csd", batch=4, options=options, weights_sha256=reward.weights_digest)
    canary = RewardServer().prepare(spec).canary
    assert canary[1] == pytest.approx(1, abs=1e-5)  # the canary's target is its style reference
    with pytest.raises(ConfigError, match="weights_sha256"):
        RewardServer().prepare(spec.model_copy(update={"weights_sha256": "0" * 64}))


def test_half_precision_stays_close(made, reward, example, outputs):
    half = CSD(CSDOptions(weights=str(made[0]), model=TINY, device="cpu", dtype="bfloat16"))
    assert half.score(outputs, [example] * 16) == pytest.approx(reward.score(outputs, [example] * 16), abs=0.05)


@pytest.mark.slow
def test_the_real_size_loads_strictly_and_gives_its_own_cosine(tmp_path, example, outputs):
    tower, style, content = layouts["csd_model"]("ViT-L-14-quickgelu")
    layouts["write_csd"](tmp_path / "pytorch_model.bin", tower, style, content)
    state = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)["model_state_dict"]
    assert len(state) == 297 and state["module.last_layer_style"].shape == (1024, 768)
    wanted = direct(example.references[1].image, tower, style, 224)
    cosines = [float(direct(image, tower, style, 224) @ wanted) for image in outputs[::8]]
    reward = CSD(CSDOptions(weights=str(tmp_path), device="cpu"))
    assert reward.score(outputs[::8], [example] * 2) == pytest.approx(cosines, abs=1e-5)
