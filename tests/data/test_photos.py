import numpy as np
import pytest

from burnish.data import photos
from burnish.data.errors import DataError
from burnish.data.filters import contrast
from burnish.data.images import from_uint8, save_png
from burnish.data.layout import SPLITS, DataConfig
from burnish.data.seeding import generator


@pytest.fixture
def folder(tmp_path):
    for number in range(10):
        place = tmp_path / ("deep/er" if number % 2 else ".")
        place.mkdir(parents=True, exist_ok=True)
        save_png(place / f"{number}.png", generator(number, "test-photo").random((3, 60, 80), dtype=np.float32))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_bundled_scenes_exist_and_no_scene_is_in_two_splits():
    clusters = {split: {scene.cluster for scene in photos.bundled_scenes(split)} for split in SPLITS}
    assert all(scene.path.is_file() for split in SPLITS for scene in photos.bundled_scenes(split))
    assert clusters["heldout"] == {"coffee", "rocket", "flower", "page"}
    assert clusters["dev"] == {"motorcycle"}
    assert clusters["train"] == {"astronaut", "chelsea", "china"}


@pytest.mark.parametrize("split", SPLITS)
def test_photo_examples_are_damaged_inside_only_and_pure(split):
    config = DataConfig(reference_weights=(0.0, 0.0, 0.0, 0.0, 1.0))
    for index in range(0, 60, 4):
        example, again = (photos.PhotoSource(config).example(split, index) for _ in range(2))
        outside = np.broadcast_to(example.mask == 0, example.image.shape)
        assert example.image[outside].tobytes() == example.target[outside].tobytes()
        assert np.mean((example.image - example.target)[~outside] ** 2) >= 0.002
        assert example.image.tobytes() == again.image.tobytes()
        assert [r.image.shape for r in example.references] == [(3, 12, 12)] * 4


def test_photo_crops_hold_detail():
    examples = [photos.PhotoSource(DataConfig()).example("train", i) for i in range(50)]
    assert np.median([contrast(e.target) for e in examples]) > 0.05


def test_crops_larger_than_the_scene_are_enlarged():
    config = DataConfig(image_size=512, patch=16, box_size=128)
    assert photos.PhotoSource(config).example("heldout", 1).image.shape == (3, 512, 512)


def test_best_crop_looks_for_detail():
    scene = np.zeros((3, 40, 80), np.uint8)
    scene[:, :, 40:] = generator(0, "detail").integers(0, 256, (3, 40, 40))
    found = [photos.best_crop(scene, 16, (4, 4, 12, 12), generator(i, "best")) for i in range(20)]
    assert sum(contrast(crop) > 0.1 for crop in found) > 15


def test_a_folder_is_searched_recursively_and_dealt_by_content(folder):
    source = photos.FolderSource(folder, DataConfig())
    sizes = {split: len(source.scenes[split]) for split in SPLITS}
    assert sizes == {"train": 7, "dev": 1, "heldout": 2}
    example = source.example("heldout", 5)
    assert example.meta["source"] == "folder"
    assert example.meta["cluster"].removeprefix("folder:") in {s.cluster for s in source.scenes["heldout"]}
    assert example.target.tobytes() == photos.FolderSource(folder, DataConfig()).example("heldout", 5).target.tobytes()


def test_renaming_a_file_changes_no_example(folder):
    before = photos.FolderSource(folder, DataConfig()).example("train", 3)
    (folder / "0.png").rename(folder / "zero.png")
    after = photos.FolderSource(folder, DataConfig()).example("train", 3)
    assert before.image.tobytes() == after.image.tobytes()


def test_equal_files_count_once(folder):
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    source = photos.FolderSource(folder, DataConfig())
    assert sum(map(len, source.scenes.values())) == 10


def test_all_broken_files_are_reported_at_once(folder):
    for name in ("0.png", "2.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-300])
    with pytest.raises(DataError, match="2 of 10") as caught:
        photos.FolderSource(folder, DataConfig())
    assert {problem.field.rsplit("/", 1)[-1] for problem in caught.value.problems} == {"0.png", "2.png"}
    photos.FolderSource(folder, DataConfig(), thorough=False)


def test_missing_and_nearly_empty_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        photos.FolderSource(tmp_path / "none", DataConfig())
    save_png(tmp_path / "one.png", from_uint8(np.zeros((3, 20, 20), np.uint8)))
    with pytest.raises(DataError, match="at least 3"):
        photos.FolderSource(tmp_path, DataConfig())
