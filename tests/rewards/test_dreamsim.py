"""DreamSim through the public package, with random weights in the public layout."""

import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from burnish.data.errors import ConfigError
from burnish.rewards.dreamsim import DreamSim, DreamSimOptions
from burnish.rewards.perceptual import region_patches
from burnish.rewards.rubric import RewardSpec
from burnish.rewards.server import RewardServer
from burnish.rewards.table import TABLE

layouts = runpy.run_path(str(Path(__file__).with_name("public_layouts.py")))
SMALL = {"patch": 8, "min_side": 8, "device": "cpu"}
"""Four patches on the 12 px region of the example."""


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with pytest.MonkeyPatch.context() as patch:
        layouts["build_with"](patch, layouts["tiny_vit"])
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Directory of one type's files, made once."""
    made = {}

    def write(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            layouts["write_dreamsim"](made[kind], kind)
        return made[kind]

    return write


@pytest.fixture(scope="module")
def reward(written):
    return DreamSim(DreamSimOptions(weights=str(written("open_clip_vitb32")), **SMALL))


def public_distances(directory, kind, images, example):
    """Cosine distance [K] of each image's patches by the package's own call, its adapter not merged."""
    from dreamsim import dreamsim

    with pytest.warns(UserWarning, match="Already found a `peft_config`"):
        model, prepare = dreamsim(device="cpu", cache_dir=str(directory), dreamsim_type=kind)
    boxes = region_patches(example, height=24, width=24, patch=8, min_side=8)
    pairs = [[layouts["pil"](i[:, b[1] : b[3], b[0] : b[2]]) for b in boxes] for i in (*images, example.target)]
    with torch.no_grad():
        batches = [torch.cat([prepare(image) for image in row]) for row in pairs]
        return np.array([model(batch, batches[-1]).numpy() for batch in batches[:-1]])


@pytest.mark.parametrize("form", ["l2", "cosine"])
@pytest.mark.parametrize("kind", ["open_clip_vitb32", "clip_vitb32"])
def test_scores_are_those_of_the_public_package(written, example, outputs, kind, form):
    chosen = outputs[::5]
    options = DreamSimOptions(weights=str(written(kind)), type=kind, form=form, **SMALL)
    distances = public_distances(written(kind), kind, chosen, example)
    wanted = distances if form == "cosine" else np.sqrt(2 * np.maximum(distances.astype(np.float64), 0))
    scores = DreamSim(options).score(chosen, [example] * len(chosen))
    assert scores[1:] == pytest.approx(-wanted.mean(axis=1)[1:], abs=1e-5)
    assert scores[0] == pytest.approx(0, abs=1e-5) and scores.dtype == np.float32


def test_the_target_scores_best_and_the_score_falls_with_the_error(reward, example, outputs):
    scores = reward.score(outputs, [example] * 16)
    assert scores[0] == pytest.approx(0, abs=1e-5)
    assert scores[0] > scores[3] > scores[8] > scores[15] >= -2 and scores[15] < -0.1


def test_a_row_depends_on_no_other(reward, example, outputs):
    other = replace(example, target=outputs[9])
    mixed = reward.score(outputs[:4], [example, other, replace(example, target=None), example])
    own = reward.score(outputs[:4], [example] * 4)
    assert mixed[[0, 3]] == pytest.approx(own[[0, 3]], abs=1e-6) and np.isnan(mixed[2])


def test_it_is_missing_without_target_region_or_finite_pixels(reward, example, outputs):
    cases = [replace(example, target=None), replace(example, mask=np.zeros_like(example.mask)), example]
    broken = outputs[:3].copy()
    broken[2, 0, 0, 0] = np.nan
    assert np.isnan(reward.score(broken, cases)).all()


def test_a_target_is_embedded_once_for_all_calls(reward, example, outputs):
    case = replace(example, target=outputs[11])
    reward.take_counters()
    for _ in range(3):
        reward.score(outputs[:4], [case] * 4)
    assert reward.take_counters() == {"embedded": 4, "cache_hits": 8}
    assert reward.take_counters() == {"embedded": 0, "cache_hits": 0}


@pytest.mark.parametrize("kind", ["dino_vitb16", "dinov2_vitb14", "ensemble"])
def test_the_dino_types_load_without_network_or_plain_pickle(written, example, outputs, kind, monkeypatch):
    before, load = torch.hub.get_dir(), torch.hub.load
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", None)
    monkeypatch.setattr("torch.hub.urlopen", None)
    reward = DreamSim(DreamSimOptions(weights=str(written(kind)), type=kind, **SMALL))
    scores = reward.score(outputs[::8], [example] * 2)
    assert scores[0] == pytest.approx(0, abs=1e-5) and scores[1] < -0.01
    assert (torch.hub.get_dir(), torch.hub.load) == (before, load)


def test_every_missing_file_is_named_and_nothing_is_fetched(tmp_path):
    with pytest.raises(ConfigError) as error:
        DreamSim(DreamSimOptions(weights=str(tmp_path), type="ensemble"))
    text = str(error.value)
    assert "6 of 6 weight files are missing" in text and str(tmp_path) in text
    for name in ("dino_vitb16_pretrain.pth", "checkpoints/dino_vitbase16_pretrain.pth", "ensemble_lora/adapter_model"):
        assert name in text
    assert list(tmp_path.iterdir()) == []


def test_code_that_runs_comes_from_this_machine_only():
    with pytest.raises(ConfigError, match="not taken from a hub"):
        DreamSim(DreamSimOptions(weights="owner/dreamsim", type="dinov2_vitb14"))


def test_another_layout_is_refused(written, tmp_path):
    shutil.copytree(written("open_clip_vitb32"), tmp_path, dirs_exist_ok=True)
    name = "open_clip_vitb32_pretrain.pth.tar"
    torch.save(torch.load(tmp_path / name, weights_only=True)["state_dict"], tmp_path / name)
    with pytest.raises(ConfigError, match="another layout"):
        DreamSim(DreamSimOptions(weights=str(tmp_path), device="cpu"))


@pytest.mark.parametrize("change", ["dropped", "renamed"])
def test_an_adapter_that_does_not_fit_is_refused(written, tmp_path, change):
    from safetensors.torch import load_file, save_file

    shutil.copytree(written("open_clip_vitb32"), tmp_path, dirs_exist_ok=True)
    path = tmp_path / "open_clip_vitb32_single_lora" / "adapter_model.safetensors"
    tensors = load_file(path)
    first = sorted(tensors)[0]
    moved = tensors.pop(first)
    save_file(tensors if change == "dropped" else {**tensors, first.replace("blocks", "layers"): moved}, path)
    with pytest.raises(ConfigError, match="adapter has another layout"):
        DreamSim(DreamSimOptions(weights=str(tmp_path), device="cpu"))


def test_the_digest_covers_the_adapter_and_the_hub_code(written, tmp_path):
    shutil.copytree(written("dinov2_vitb14"), tmp_path, dirs_exist_ok=True)
    options = DreamSimOptions(weights=str(tmp_path), type="dinov2_vitb14", device="cpu")
    digests = [DreamSim(options).weights_digest]
    for name in ("dinov2_vitb14_single_lora/adapter_config.json", "facebookresearch_dinov2_main/hubconf.py"):
        (tmp_path / name).write_text((tmp_path / name).read_text() + "\n")
        digests.append(DreamSim(options).weights_digest)
    assert len(set(digests)) == 3
    assert DreamSim(options).weights_digest == digests[-1]


def test_the_server_prepares_it_and_refuses_other_bytes(written, reward, monkeypatch):
    monkeypatch.setitem(TABLE, "dreamsim", DreamSim)
    options = {"weights": str(written("open_clip_vitb32")), "device": "cpu"}
    spec = RewardSpec(name="dreamsim", kind="dreamsim", batch=4, options=options, weights_sha256=reward.weights_digest)
    canary = RewardServer().prepare(spec).canary
    assert canary[1] == pytest.approx(0, abs=1e-5) and max(canary) == canary[1]
    with pytest.raises(ConfigError, match="weights_sha256"):
        RewardServer().prepare(spec.model_copy(update={"weights_sha256": "0" * 64}))


def test_half_precision_stays_close(written, reward, example, outputs):
    options = DreamSimOptions(weights=str(written("open_clip_vitb32")), dtype="bfloat16", **SMALL)
    half = DreamSim(options).score(outputs[4:8], [example] * 4)
    assert half == pytest.approx(reward.score(outputs[4:8], [example] * 4), abs=0.05)


@pytest.mark.slow
def test_the_real_size_gives_the_packages_numbers(tmp_path, example, outputs):
    with pytest.MonkeyPatch.context() as patch:
        layouts["build_with"](patch, layouts["base_vit"])
        layouts["write_dreamsim"](tmp_path, "open_clip_vitb32")
        distances = public_distances(tmp_path, "open_clip_vitb32", outputs[::8], example)
        reward = DreamSim(DreamSimOptions(weights=str(tmp_path), form="cosine", **SMALL))
        scores = reward.score(outputs[::8], [example] * 2)
    assert scores == pytest.approx(-distances.mean(axis=1), abs=1e-5) and scores[1] < scores[0]
