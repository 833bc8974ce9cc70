"""SigLIP2: both packages, from files in the public layouts."""

import json
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from burnish.data.errors import ConfigError
from burnish.rewards.canary import score_canary
from burnish.rewards.siglip import SIMILARITIES, Siglip, SiglipOptions

layouts = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("vision_layouts.py"))))
BOX = (4, 8, 16, 20)
NORMALS = {"image_mean": (0.5,) * 3, "image_std": (0.5,) * 3, "image_resize_mode": "squash"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A directory as the hub has it: both towers, transformers."""
    return layouts.save_siglip(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="module")
def local_dir(tmp_path_factory):
    """A directory as the hub has it: both towers, open_clip."""
    folder = tmp_path_factory.mktemp("open-clip")
    return layouts.save_open_clip(folder, layouts.SIGLIP, preprocess=layouts.SIGLIP_PREPROCESS)


@pytest.fixture(scope="module")
def single_file(tmp_path_factory):
    return layouts.save_single_file(tmp_path_factory.mktemp("single"), "burnish-siglip", layouts.SIGLIP)


def siglip(weights, **options):
    return Siglip(SiglipOptions(weights=str(weights), device="cpu", **{"min_side": 8, **options}))


def by_transformers(folder, images, *, mode="flat"):
    """Features by transformers' own classes, both towers loaded."""
    from transformers import SiglipImageProcessor, SiglipModel

    pixels = SiglipImageProcessor.from_pretrained(folder)(images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        seen = SiglipModel.from_pretrained(folder).vision_model(pixels)
    tokens, pooled = seen.last_hidden_state, seen.pooler_output
    return {"flat": tokens, "mean_pool": tokens.mean(1), "pooler": pooled}[mode]


def by_open_clip(name, images, *, mode="flat", **asked):
    """Features by open_clip's own functions."""
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(name, **asked)
    pixels = torch.stack([preprocess(image) for image in images])
    with torch.no_grad():
        if mode == "pooler":
            return model.eval().encode_image(pixels)
        tokens = model.eval().visual.trunk.forward_features(pixels)
    return tokens.mean(1) if mode == "mean_pool" else tokens


def crops(outputs, example, box=BOX):
    """The target and the outputs as 8-bit images cut to a box."""
    return [layouts.pil(image).crop(box) for image in [example.target, *outputs]]


@pytest.mark.parametrize("mode", ["flat", "mean_pool"])
def test_the_modes_are_the_worked_ones(worked, mode):
    inputs, expected = worked("siglip_similarity_modes")
    a, b = np.array(inputs["tokens_a"]), np.array(inputs["tokens_b"])
    assert SIMILARITIES[mode](a, b) == pytest.approx(expected[mode], rel=1e-6)


@pytest.mark.parametrize("mode", ["flat", "mean_pool", "pooler"])
def test_scores_equal_transformers_own(hub, example, outputs, mode):
    scores = siglip(hub, mode=mode).score(outputs, [example] * 16)
    target, *rows = by_transformers(hub, crops(outputs, example), mode=mode)
    assert scores.dtype == np.float32 and np.ptp(scores) > 0.01
    assert scores == pytest.approx(layouts.cosines(torch.stack(rows), target), abs=1e-5)


@pytest.mark.parametrize("mode", ["flat", "mean_pool", "pooler"])
def test_scores_equal_open_clips_own(local_dir, example, outputs, mode):
    scores = siglip(local_dir, backend="open_clip", mode=mode).score(outputs, [example] * 16)
    target, *rows = by_open_clip(f"local-dir:{local_dir}", crops(outputs, example), mode=mode)
    assert np.ptp(scores) > 0.01
    assert scores == pytest.approx(layouts.cosines(torch.stack(rows), target), abs=1e-5)


def test_half_precision_is_close_and_its_scores_are_float32(hub, example, outputs):
    whole, half = (siglip(hub, dtype=d).score(outputs, [example] * 16) for d in ("float32", "bfloat16"))
    assert half.dtype == np.float32 and half == pytest.approx(whole, abs=0.02)
    assert half.tobytes() != whole.tobytes()


def test_the_frame_is_looked_at_whole(hub, example, outputs):
    scores = siglip(hub, region="frame").score(outputs, [example] * 16)
    target, *rows = by_transformers(hub, crops(outputs, example, box=(0, 0, 24, 24)))
    assert scores == pytest.approx(layouts.cosines(torch.stack(rows), target), abs=1e-5)


def test_a_single_file_is_normalised_as_siglip_and_not_as_clip(single_file, example, outputs):
    scores = siglip(single_file, backend="open_clip", model="burnish-siglip").score(outputs, [example] * 16)
    images, asked = crops(outputs, example), {"name": "burnish-siglip", "pretrained": str(single_file)}
    right, wrong = by_open_clip(images=images, **asked, **NORMALS), by_open_clip(images=images, **asked)
    assert scores == pytest.approx(layouts.cosines(right[1:], right[0]), abs=1e-5)
    assert np.abs(scores - layouts.cosines(wrong[1:], wrong[0])).max() > 1e-3


def test_a_directory_that_does_not_say_how_to_normalise_is_normalised_as_siglip(local_dir, tmp_path, example, outputs):
    unsaid = layouts.save_open_clip(tmp_path, layouts.SIGLIP)
    scores = [siglip(path, backend="open_clip").score(outputs, [example] * 16) for path in (unsaid, local_dir)]
    assert scores[0].tobytes() == scores[1].tobytes()


@pytest.mark.parametrize("mode", ["flat", "mean_pool", "pooler"])
def test_both_packages_agree_on_the_same_weights(tmp_path, example, outputs, mode):
    folder = layouts.save_siglip(tmp_path / "a", hidden_act="gelu")
    other = layouts.save_as_open_clip(folder, tmp_path / "b")
    images = np.pad(outputs, [(0, 0), (0, 0), (4, 4), (4, 4)], mode="reflect")  # the input's side: nothing is resized
    case = replace(example, image=None, mask=None, target=images[0])
    a = siglip(folder, mode=mode).score(images, [case] * 16)
    b = siglip(other, mode=mode, backend="open_clip").score(images, [case] * 16)
    assert np.ptp(a) > 0.01 and a == pytest.approx(b, abs=1e-5)


def test_the_target_itself_scores_best(hub, local_dir, example, outputs):
    for reward in (siglip(hub), siglip(local_dir, backend="open_clip")):
        scores = reward.score(outputs, [example] * 16)
        assert scores[0] == pytest.approx(1, abs=1e-5) and scores[0] > scores[1:].max()


def test_it_is_missing_without_a_target_or_a_region(hub, example, outputs):
    cases = [replace(example, target=None), replace(example, mask=np.zeros_like(example.mask)), example]
    assert np.isnan(siglip(hub).score(outputs[:3], cases)).tolist() == [True, True, False]


def test_a_target_is_embedded_once(hub, example, outputs):
    reward = siglip(hub)
    for _ in range(3):
        reward.score(outputs, [example] * 16)
    assert reward.take_counters() == {"embedded": 1, "cache_hits": 2}


@pytest.mark.parametrize("backend", ["transformers", "open_clip"])
def test_only_the_vision_tower_is_held(hub, local_dir, backend):
    reward = siglip({"transformers": hub, "open_clip": local_dir}[backend], backend=backend)
    model = reward._encoder._forward.args[0]
    names = [name for name, _ in model.named_parameters()]
    assert names and not [name for name in names if "text" in name or "token_embedding" in name]
    assert not any(p.requires_grad for p in model.parameters()) and not model.training


def test_it_passes_the_canary_and_says_which_files_it_read(hub, tmp_path):
    copy = layouts.save_siglip(tmp_path)
    reward, other = siglip(hub, min_side=64), siglip(copy)
    assert score_canary(reward, name="siglip", batch=4)[1] == pytest.approx(1, abs=1e-5)
    assert reward.weights_digest == other.weights_digest and len(other.weights_digest) == 64
    processor = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps({**processor, "image_mean": [0.4, 0.5, 0.5]}))
    assert siglip(copy).weights_digest != other.weights_digest


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ConfigError) as error:
        siglip(tmp_path)
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        assert name in str(error.value)
    with pytest.raises(ConfigError, match=r"open_clip_config\.json"):
        siglip(tmp_path, backend="open_clip")


@pytest.mark.parametrize("backend", ["transformers", "open_clip"])
def test_a_hub_that_cannot_be_reached_is_refused_with_the_files_it_takes(monkeypatch, tmp_path, backend):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"put .*config\.json.* into a directory"):
        siglip("google/siglip2-base-patch16-384", backend=backend)


def test_the_naflex_variant_is_refused(hub, tmp_path):
    for name in ("preprocessor_config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((hub / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "siglip2"}))
    with pytest.raises(ConfigError, match="NaFlex"):
        siglip(tmp_path)


def test_a_clip_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="without attention pooling"):
        siglip(layouts.save_open_clip(tmp_path, layouts.CLIP), backend="open_clip")


def test_options_of_the_other_package_are_refused(hub, local_dir):
    with pytest.raises(ConfigError, match=r"options\.model"):
        siglip(hub, model="ViT-B-16-SigLIP2-384")
    with pytest.raises(ConfigError, match=r"options\.tag"):
        siglip(local_dir, tag="webli", backend="open_clip")


def test_weights_that_are_not_all_there_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    path = layouts.save_siglip(tmp_path) / "model.safetensors"
    state = load_file(path)
    save_file({k: v for k, v in state.items() if "encoder.layers.1.mlp" not in k}, path, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="incomplete"):
        siglip(tmp_path)
    path.write_bytes(b"broken")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        siglip(tmp_path)


@pytest.mark.slow
def test_the_published_architecture_has_the_published_shape_and_normalisation(tmp_path, example, outputs):
    import open_clip

    name = "ViT-B-16-SigLIP2-384"
    path = tmp_path / "weights.pt"
    torch.save(open_clip.create_model(name).state_dict(), path)
    try:
        reward = siglip(path, backend="open_clip", model=name)
        expected = by_open_clip(name, crops(outputs[:2], example), pretrained=str(path), **NORMALS)
    finally:
        path.unlink()
    assert expected.shape == (3, 576, 768)
    scores = reward.score(outputs[:2], [example] * 2)
    assert scores == pytest.approx(layouts.cosines(expected[1:], expected[0]), abs=1e-5)
