"""Quadruples from photographs: what they keep, what they refuse, and that a run can read them."""

import json

import numpy as np
import pytest
from PIL import Image

from burnish.data.degrade import defect
from burnish.data.errors import DataError
from burnish.data.images import load_image, save_png
from burnish.data.layout import DataConfig, SourceConfig
from burnish.data.making import make_data
from burnish.data.photos import bundled_scenes
from burnish.data.quadruples import MakeConfig
from burnish.data.readers import scan_rows
from burnish.data.sources import make_source

SMALL = MakeConfig(count=12, size=96, reference_size=48)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Six photographs of 160 px and one that is flat."""
    folder = tmp_path_factory.mktemp("photos")
    scenes = [scene for split in ("train", "dev", "heldout") for scene in bundled_scenes(split)][:6]
    for scene in scenes:
        save_png(folder / f"{scene.name}.png", load_image(scene.path)[:, :240:2, 40:280:2])
    Image.new("RGB", (120, 120), (90, 90, 90)).save(folder / "flat.png")
    return folder


@pytest.fixture(scope="module")
def made(photos, tmp_path_factory):
    """A made data set and what was said of it."""
    out = tmp_path_factory.mktemp("made") / "out"
    return out, make_data(photos, out, SMALL)


def examples(out):
    config = DataConfig(sources=(SourceConfig(kind="manifest", path=str(out / "rows.jsonl")),), block=1)
    source = make_source(config)
    return [source.example(s, i) for s in ("train", "dev", "heldout") for i in range(source.count(s))]


def test_every_row_can_be_read_and_no_photograph_is_in_two_splits(made):
    out, told = made
    scan = scan_rows("manifest", out / "rows.jsonl")
    assert (len(scan.rows), scan.problems) == (told.rows, ()) and sum(told.splits.values()) == told.rows
    splits = {(row.meta["cluster"], row.split) for row in scan.rows}
    assert len(splits) == len({cluster for cluster, _ in splits}) and len({split for _, split in splits}) == 3


def test_defects_lie_inside_the_mask_can_be_seen_and_are_bounded(made):
    found = examples(made[0])
    assert len(found) == made[1].rows
    for example in found:
        assert np.array_equal(example.image * (1 - example.mask), example.target * (1 - example.mask))
        error = defect(example.target, example.image, example.mask)
        assert SMALL.min_defect <= error <= SMALL.max_defect
        assert error == pytest.approx(example.meta["defect"], abs=1e-6)


def test_references_are_other_views_and_some_rows_have_none(made):
    found = examples(made[0])
    counts = {example.num_references for example in found}
    assert counts == {0, 1} and {r.image.shape for e in found for r in e.references} == {(3, 48, 48)}
    assert all(("reference" in e.instruction) == bool(e.references) for e in found)


def test_flat_photographs_are_named_and_the_sheet_shows_the_first_rows(made):
    out, told = made
    assert told.flat == ("flat.png",)
    with Image.open(out / "preview.png") as sheet:
        assert sheet.width > 1000 and sheet.height > 300 * min(10, told.rows) * 0.9


def test_the_same_photographs_and_seed_make_the_same_bytes(made, photos, tmp_path):
    make_data(photos, tmp_path / "again", SMALL)
    for file in sorted(made[0].rglob("*.*")):
        assert (tmp_path / "again" / file.relative_to(made[0])).read_bytes() == file.read_bytes()
    make_data(photos, tmp_path / "other", SMALL.model_copy(update={"seed": 1, "count": 3}))
    assert (tmp_path / "other" / "rows.jsonl").read_text() != (made[0] / "rows.jsonl").read_text()


def test_boxes_can_be_damaged_whole(photos, tmp_path):
    config = MakeConfig(count=3, size=64, masks="box", degradations=("blur",), without_reference=1.0)
    make_data(photos, tmp_path / "out", config)
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert {row["meta"]["degradation"] for row in rows} <= {"blur"} and not any("references" in row for row in rows)
    example = examples(tmp_path / "out")[0]
    assert example.meta["box"] == example.meta["region"]


def test_folders_that_cannot_be_used_are_refused_or_what_is_bad_in_them_is_left_out(photos, tmp_path):
    (tmp_path / "bad").mkdir()
    for photo in photos.glob("*.png"):
        (tmp_path / "bad" / photo.name).write_bytes(photo.read_bytes())
    (tmp_path / "bad" / "z.png").write_bytes(b"none")
    with pytest.raises(DataError, match="1 of 8 images"):
        make_data(tmp_path / "bad", tmp_path / "a", SMALL)
    config = SMALL.model_copy(update={"count": 3})
    assert make_data(tmp_path / "bad", tmp_path / "a", config, skip_bad=True).skipped == 1
    with pytest.raises(DataError, match="an empty one or none"):
        make_data(photos, tmp_path / "a", config)
    (tmp_path / "few").mkdir()
    with pytest.raises(DataError, match="at least 3 different images"):
        make_data(tmp_path / "few", tmp_path / "b", config)


@pytest.mark.parametrize(
    "change", [{"degradations": ("rust",)}, {"region": (0.5, 0.2)}, {"max_defect": 0.003}, {"size": 100}, {"count": 0}]
)
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        MakeConfig(**change)
