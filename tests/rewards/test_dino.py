"""DINOv2 and DINOv3, from directories as `save_pretrained` writes them."""

import json
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from burnish.data.errors import ConfigError
from burnish.data.records import Reference
from burnish.rewards.canary import score_canary
from burnish.rewards.dino import Dino, DinoOptions

layouts = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("vision_layouts.py"))))
BOX = (4, 8, 16, 20)
SAVE = {"dinov2": layouts.save_dinov2, "dinov3": layouts.save_dinov3}
BOTH = pytest.mark.parametrize("family", list(SAVE))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {family: save(tmp_path_factory.mktemp(family)) for family, save in SAVE.items()}


def dino(weights, **options):
    return Dino(DinoOptions(weights=str(weights), device="cpu", **{"min_side": 8, **options}))


def by_transformers(folder, images, *, pooling="cls"):
    """Embeddings [N,D] by the public classes, picked by the library."""
    from transformers import AutoImageProcessor, AutoModel

    pixels = AutoImageProcessor.from_pretrained(folder)(list(images), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        tokens = AutoModel.from_pretrained(folder)(pixels).last_hidden_state
    return tokens.mean(1) if pooling == "mean" else tokens[:, 0]


def crops(images, box=BOX):
    return [layouts.pil(image).crop(box) for image in images]


@BOTH
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_scores_equal_transformers_own(folders, example, outputs, family, pooling):
    scores = dino(folders[family], pooling=pooling).score(outputs, [example] * 16)
    target, *rows = by_transformers(folders[family], crops([example.target, *outputs]), pooling=pooling)
    assert scores.dtype == np.float32 and np.ptp(scores) > 0.01
    assert scores == pytest.approx(layouts.cosines(torch.stack(rows), target), abs=1e-5)


def test_half_precision_is_close_and_its_scores_are_float32(folders, example, outputs):
    whole, half = (dino(folders["dinov2"], dtype=d).score(outputs, [example] * 16) for d in ("float32", "bfloat16"))
    assert half.dtype == np.float32 and half == pytest.approx(whole, abs=0.02)
    assert half.tobytes() != whole.tobytes()


@BOTH
def test_the_target_itself_scores_best(folders, example, outputs, family):
    scores = dino(folders[family]).score(outputs, [example] * 16)
    assert scores[0] == pytest.approx(1, abs=1e-5) and scores[0] > scores[1:].max()


@BOTH
def test_the_directorys_normalisation_is_used(folders, tmp_path, example, outputs, family):
    SAVE[family](tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_mean": [0.9] * 3, "image_std": [0.3] * 3}))
    right, other = (dino(folder).score(outputs, [example] * 16) for folder in (folders[family], tmp_path))
    assert np.abs(right - other).max() > 1e-3


def test_outputs_can_be_compared_with_a_reference(folders, example, outputs):
    two = replace(example, references=(*example.references, Reference("subject", outputs[5])))
    scores = dino(folders["dinov2"], against="reference:subject").score(outputs, [two] * 16)
    goal, *rows = by_transformers(folders["dinov2"], [layouts.pil(outputs[5]), *crops(outputs)])
    assert scores == pytest.approx(layouts.cosines(torch.stack(rows), goal), abs=1e-5)
    assert np.isnan(dino(folders["dinov2"], against="reference:pose").score(outputs, [two] * 16)).all()


def test_it_is_missing_without_a_target_or_a_region_or_a_finite_image(folders, example, outputs):
    cases = [replace(example, target=None), replace(example, mask=np.zeros_like(example.mask)), example, example]
    outputs[2, 0, 0, 0] = np.nan
    assert np.isnan(dino(folders["dinov2"]).score(outputs[:4], cases)).tolist() == [True, True, True, False]


@BOTH
def test_it_passes_the_canary_and_embeds_a_target_once(folders, family):
    reward = dino(folders[family], min_side=64)
    for _ in range(2):
        assert score_canary(reward, name="dino", batch=4)[1] == pytest.approx(1, abs=1e-5)
    assert reward.take_counters() == {"embedded": 1, "cache_hits": 1}
    assert len(reward.weights_digest) == 64


def test_weights_in_shards_load_and_every_shard_is_digested(folders, tmp_path, example, outputs):
    from transformers import Dinov2Model

    (tmp_path / "preprocessor_config.json").write_bytes((folders["dinov2"] / "preprocessor_config.json").read_bytes())
    Dinov2Model.from_pretrained(folders["dinov2"]).save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    whole, parts = dino(folders["dinov2"]), dino(tmp_path)
    assert len(shards) > 1 and whole.weights_digest != parts.weights_digest
    assert whole.score(outputs, [example] * 16).tobytes() == parts.score(outputs, [example] * 16).tobytes()
    shards[0].unlink()
    with pytest.raises(ConfigError, match=shards[0].name):
        dino(tmp_path)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("config.json", {"model_type": "vit"}, "model_type 'vit'"),
        ("config.json", {"num_hidden_layers": 3}, "incomplete"),
        ("config.json", {"hidden_size": 16}, "cannot be loaded"),
        ("preprocessor_config.json", {"image_processor_type": "ViTImageProcessor"}, "pre-processing is not known"),
    ],
)
def test_another_model_than_the_files_hold_is_refused(tmp_path, file, change, words):
    path = layouts.save_dinov2(tmp_path) / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match=words):
        dino(tmp_path)


def test_a_config_that_is_no_json_object_is_refused(tmp_path):
    path = layouts.save_dinov2(tmp_path) / "config.json"
    for text in ("[]", "{"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"config\.json"):
            dino(tmp_path)


def test_missing_files_and_an_unreachable_hub_are_refused_with_their_names(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match=r"model\.safetensors or model\.safetensors\.index\.json"):
        dino(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"put config\.json, preprocessor_config\.json"):
        dino("facebook/dinov2-base")


@pytest.mark.parametrize("name", ["BitImageProcessor", "BitImageProcessorFast"])
def test_the_older_names_of_pre_processors_are_known(folders, tmp_path, example, outputs, name):
    path = layouts.save_dinov2(tmp_path) / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_processor_type": name}))
    scores = [dino(folder).score(outputs[:4], [example] * 4) for folder in (folders["dinov2"], tmp_path)]
    assert scores[0].tobytes() == scores[1].tobytes()
