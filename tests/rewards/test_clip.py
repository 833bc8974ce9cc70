"""CLIP-I, from files in open_clip's public layouts, and what it is compared with."""

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from burnish.data.errors import ConfigError
from burnish.data.records import Reference
from burnish.rewards.canary import score_canary
from burnish.rewards.clip import ClipImage
from burnish.rewards.open_clip_towers import CLIP_LOOK, OpenClipOptions

layouts = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("vision_layouts.py"))))
BOX = (4, 8, 16, 20)
LAION = "laion2b_s34b_b88k"


@pytest.fixture(scope="module")
def local_dir(tmp_path_factory):
    """A directory as the hub has it, both towers."""
    return layouts.save_open_clip(tmp_path_factory.mktemp("clip"), layouts.CLIP)


@pytest.fixture(scope="module")
def single_file(tmp_path_factory):
    return layouts.save_single_file(tmp_path_factory.mktemp("single"), "burnish-clip", layouts.CLIP)


def clip_i(weights, **options):
    return ClipImage(OpenClipOptions(weights=str(weights), device="cpu", **{"min_side": 8, **options}))


def by_open_clip(name, images, **asked):
    """Embeddings [N,D] by open_clip's own functions."""
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(name, **asked)
    with torch.no_grad():
        return model.eval().encode_image(torch.stack([preprocess(image) for image in images]))


def crops(images, box=BOX):
    return [layouts.pil(image).crop(box) for image in images]


def test_scores_equal_open_clips_own(local_dir, example, outputs):
    scores = clip_i(local_dir).score(outputs, [example] * 16)
    target, *rows = by_open_clip(f"local-dir:{local_dir}", crops([example.target, *outputs]))
    assert scores.dtype == np.float32 and np.ptp(scores) > 0.01
    assert scores == pytest.approx(layouts.cosines(torch.stack(rows), target), abs=1e-5)


def test_half_precision_is_close_and_its_scores_are_float32(local_dir, example, outputs):
    whole, half = (clip_i(local_dir, dtype=d).score(outputs, [example] * 16) for d in ("float32", "bfloat16"))
    assert half.dtype == np.float32 and half == pytest.approx(whole, abs=0.02)
    assert half.tobytes() != whole.tobytes()


def test_a_single_file_scores_as_open_clip_scores_it(single_file, example, outputs):
    scores = clip_i(single_file, model="burnish-clip").score(outputs, [example] * 16)
    images = crops([example.target, *outputs])
    target, *rows = by_open_clip("burnish-clip", images, pretrained=str(single_file))
    assert scores == pytest.approx(layouts.cosines(torch.stack(rows), target), abs=1e-5)


def test_a_directorys_own_normalisation_is_used(local_dir, tmp_path, example, outputs):
    said = layouts.save_open_clip(tmp_path, layouts.CLIP, preprocess=layouts.SIGLIP_PREPROCESS)
    scores = clip_i(said).score(outputs, [example] * 16)
    target, *rows = by_open_clip(f"local-dir:{said}", crops([example.target, *outputs]))
    assert scores == pytest.approx(layouts.cosines(torch.stack(rows), target), abs=1e-5)
    assert np.abs(scores - clip_i(local_dir).score(outputs, [example] * 16)).max() > 1e-3


def test_the_normalisation_of_models_that_say_none_is_open_clips():
    from open_clip.transform import PreprocessCfg

    known = PreprocessCfg()
    assert {key: getattr(known, key) for key in CLIP_LOOK} == CLIP_LOOK


def test_the_target_itself_scores_best(local_dir, example, outputs):
    scores = clip_i(local_dir).score(outputs, [example] * 16)
    assert scores[0] == pytest.approx(1, abs=1e-5) and scores[0] > scores[1:].max()


def test_outputs_are_compared_with_the_whole_first_reference_of_a_kind(local_dir, example, outputs):
    two = replace(example, references=(*example.references, Reference("style", outputs[3])))
    scores = clip_i(local_dir, against="reference:style", region="frame").score(outputs, [two] * 16)
    style = layouts.pil(example.references[1].image)
    goal, *rows = by_open_clip(f"local-dir:{local_dir}", [style, *map(layouts.pil, outputs)])
    assert scores == pytest.approx(layouts.cosines(torch.stack(rows), goal), abs=1e-5)


def test_it_is_missing_without_what_it_is_compared_with(local_dir, example, outputs):
    cases = [replace(example, references=()), replace(example, mask=np.zeros_like(example.mask)), example]
    assert np.isnan(clip_i(local_dir, against="reference:style").score(outputs[:3], cases)).tolist() == [1, 1, 0]
    assert np.isnan(clip_i(local_dir).score(outputs[:1], [replace(example, target=None)])).all()


def test_a_target_without_a_mask_may_have_another_size(local_dir, example, outputs):
    larger = np.repeat(np.repeat(outputs[0], 2, axis=1), 2, axis=2)
    case = replace(example, image=None, mask=None, target=larger)
    scores = clip_i(local_dir).score(outputs[:2], [case] * 2)
    goal, *rows = by_open_clip(f"local-dir:{local_dir}", map(layouts.pil, [larger, *outputs[:2]]))
    assert scores == pytest.approx(layouts.cosines(torch.stack(rows), goal), abs=1e-5)


def test_an_unknown_kind_of_reference_is_refused():
    with pytest.raises(ValidationError, match="against"):
        OpenClipOptions(weights="x", against="reference:sty")


def test_a_reference_is_embedded_once_and_a_rows_score_is_its_own(local_dir, example, outputs):
    reward = clip_i(local_dir, against="reference:style")
    scores = reward.score(outputs, [example] * 16)
    other = reward.score(np.concatenate([outputs[:1], outputs[:0:-1]]), [example] * 16)
    assert scores[0] == pytest.approx(other[0], abs=1e-6)
    assert reward.take_counters() == {"embedded": 1, "cache_hits": 1}


def test_it_passes_the_canary_and_digests_what_it_read(local_dir, tmp_path):
    reward = clip_i(local_dir, min_side=64)
    assert score_canary(reward, name="clip_i", batch=4)[1] == pytest.approx(1, abs=1e-5)
    copy = layouts.save_open_clip(tmp_path, layouts.CLIP)
    assert clip_i(copy).weights_digest == reward.weights_digest
    (copy / "open_clip_pytorch_model.bin").write_bytes(b"read by nobody")
    assert clip_i(copy).weights_digest == reward.weights_digest
    (copy / "open_clip_config.json").write_text((copy / "open_clip_config.json").read_text() + "\n")
    assert clip_i(copy).weights_digest != reward.weights_digest


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "options.model: got ''"),
        ({"model": "ViT-L-14-335"}, "nearest is 'ViT-L-14-336'"),
        ({"model": "ViT-L-14"}, "pre-processing or GELU differ"),
        ({"model": "ViT-L-14", "tag": "opnai"}, "'openai'"),
        ({"model": "burnish-clip", "tag": "openai"}, "none are published"),
    ],
)
def test_a_single_file_of_an_unknown_model_is_refused(single_file, options, words):
    with pytest.raises(ConfigError) as error:
        clip_i(single_file, **options)
    assert words in str(error.value)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_files_that_cannot_be_loaded_are_refused_by_name(local_dir, tmp_path):
    with pytest.raises(ConfigError, match=r"open_clip_config\.json"):
        clip_i(tmp_path)
    scripted = tmp_path / "scripted.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), scripted)
    for path in (scripted, local_dir / "open_clip_config.json"):
        with pytest.raises(ConfigError, match=path.name):
            clip_i(path, model="burnish-clip")
    siglip = layouts.save_single_file(tmp_path, "burnish-other", {**layouts.CLIP, "embed_dim": 16})
    with pytest.raises(ConfigError, match=r"other\.pt .*size mismatch"):
        clip_i(siglip, model="burnish-clip")


@pytest.mark.slow
def test_a_tag_decides_the_gelu_of_a_published_architecture(tmp_path, example, outputs):
    import open_clip

    path, images = tmp_path / "weights.pt", outputs[[0, 15]]
    torch.save(layouts.fill(open_clip.create_model("ViT-B-16"), "vit-b-16").state_dict(), path)
    asked = {"quick": ("ViT-B-16-quickgelu", ""), "openai": ("ViT-B-16", "openai"), "laion": ("ViT-B-16", LAION)}
    try:
        found = {k: clip_i(path, model=m, tag=t).score(images, [example] * 2) for k, (m, t) in asked.items()}
        goal, *rows = by_open_clip("ViT-B-16-quickgelu", crops([example.target, *images]), pretrained=str(path))
    finally:
        path.unlink()
    assert found["openai"] == pytest.approx(layouts.cosines(torch.stack(rows), goal), abs=1e-5)
    assert found["openai"].tobytes() == found["quick"].tobytes() != found["laion"].tobytes()
