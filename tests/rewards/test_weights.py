"""Where weights are found, what is said when they are not, and where a model runs."""

import shutil

import numpy as np
import pytest
import torch

from burnish.data.errors import ConfigError
from burnish.rewards.vision import CountedCache, FrozenEncoder, ModelOptions, Placement, crop_pil, place, to_pil
from burnish.rewards.weights import files_digest, load_tensors, require_files, weights_dir, weights_file

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.bin").write_bytes(b"one")
    (tmp_path / "sub" / "b.bin").write_bytes(b"two")
    return tmp_path


@pytest.fixture
def hub(monkeypatch):
    """The hub as it answers offline with nothing cached; collects what it was asked for."""
    asked = []

    def refuse(repository, **options):
        asked.append((repository, options))
        raise FileNotFoundError("not cached, and offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    return asked


def both(folder):
    return [folder / "sub" / "b.bin", folder / "a.bin"]


def test_the_digest_is_of_names_and_bytes_not_of_place_or_order(folder, tmp_path_factory):
    moved = tmp_path_factory.mktemp("moved")
    shutil.copytree(folder, moved, dirs_exist_ok=True)
    assert files_digest(both(folder)) == files_digest(both(moved)[::-1])


@pytest.mark.parametrize("change", ["byte", "name", "moved"])
def test_the_digest_changes_with_a_byte_a_name_or_where_bytes_belong(folder, change):
    before = files_digest(both(folder))
    if change == "byte":
        (folder / "a.bin").write_bytes(b"onf")
    if change == "moved":
        (folder / "a.bin").write_bytes(b"onet")
        (folder / "sub" / "b.bin").write_bytes(b"wo")
    renamed = [folder / "sub" / "b.bin", (folder / "a.bin").rename(folder / "c.bin")]
    assert files_digest(renamed if change == "name" else [renamed[0], renamed[1].rename(folder / "a.bin")]) != before


def test_all_missing_files_are_named_at_once(folder):
    with pytest.raises(ConfigError) as error:
        require_files(folder, ["a.bin", "x.pth", ("y.pth", "z.pth")], kind="dreamsim")
    assert [problem.got for problem in error.value.problems] == ["no x.pth", "no y.pth or z.pth"]
    assert "2 of 3 weight files are missing" in str(error.value) and str(folder) in str(error.value)


def test_the_first_of_several_names_is_taken(folder):
    assert require_files(folder, [("x.bin", "a.bin", "sub/b.bin")], kind="csd") == [folder / "a.bin"]


def test_a_file_is_itself_and_a_directory_is_looked_into(folder, hub):
    for weights in (folder, folder / "a.bin"):
        assert weights_file(str(weights), "a.bin", kind="csd") == folder / "a.bin"
    assert weights_dir(str(folder), ["a.bin"], kind="csd") == folder and hub == []


def test_a_path_of_this_machine_comes_before_a_hub_id(folder, hub, monkeypatch):
    (folder / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert weights_dir("owner/name", ["a.bin"], kind="csd").is_dir() and hub == []


@pytest.mark.parametrize("weights", ["owner/na.me", "hf:owner/na.me", "hf:owner/na.me@v1/x"])
def test_a_hub_that_cannot_be_reached_says_which_files_to_put_where(hub, weights):
    with pytest.raises(ConfigError) as error:
        weights_file(weights, ("a.pth", "b.pth"), kind="csd")
    text = str(error.value)
    assert "options.weights" in text and weights in text and "not cached, and offline" in text
    assert "put a.pth or b.pth into a directory" in text
    revision = "v1/x" if "@" in weights else None
    assert hub == [("owner/na.me", {"revision": revision, "allow_patterns": ["a.pth", "b.pth"]})]


def test_the_hubs_own_offline_answer_is_a_config_error(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="the hub says"):
        weights_dir("hf:owner/name", ["a.bin"], kind="csd")


@pytest.mark.parametrize("weights", ["/no/such/place", "./x", "name", "../owner/name", "hf:name"])
def test_what_is_neither_a_path_nor_a_hub_id_is_refused(hub, weights):
    with pytest.raises(ConfigError, match="weights are not found"):
        weights_dir(weights, ["a.bin"], kind="csd")
    assert hub == []


def test_a_file_where_a_directory_is_needed_is_refused(folder):
    with pytest.raises(ConfigError, match="a directory or a hub id"):
        weights_dir(str(folder / "a.bin"), ["a.bin"], kind="dreamsim")


@pytest.mark.parametrize("content", [b"", b"not tensors", "object", "list"])
def test_only_tensors_are_read(tmp_path, content):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save({"x": test_only_tensors_are_read} if content == "object" else [torch.zeros(1)], path)
    with pytest.raises(ConfigError, match="weight file"):
        load_tensors(path, kind="csd")


def test_both_formats_of_tensors_are_read(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.ones(2)}, tmp_path / "w.safetensors")
    torch.save({"x": torch.ones(2)}, tmp_path / "w.pth")
    assert all((load_tensors(p, kind="csd")["x"] == 1).all() for p in tmp_path.iterdir())


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"options\.device: got cuda:99"):
        place(ModelOptions(weights="x", device="cuda:99"))
    assert place(ModelOptions(weights="x", device="cpu")) == CPU
    assert place(ModelOptions(weights="x", device="cpu", dtype="bfloat16")).dtype == torch.bfloat16


def test_pixels_are_rounded_and_clipped():
    levels = np.array([0.51, 1.49, 254.49, 300, -3, np.nan], np.float32).reshape(1, 1, 6) / np.float32(255)
    assert np.asarray(to_pil(np.repeat(levels, 3, axis=0)))[0, :, 0].tolist() == [1, 1, 254, 255, 0, 0]
    ramp = np.arange(48, dtype=np.float32).reshape(3, 4, 4) / 255
    assert np.asarray(crop_pil(ramp, (1, 2, 4, 3))).tolist() == [[[9, 25, 41], [10, 26, 42], [11, 27, 43]]]


def test_the_cache_counts_what_it_computed_and_what_it_found():
    cache = CountedCache(lambda image: image.sum(), limit=1)
    assert [cache.get(np.full(2, value)) for value in (1, 1, 2, 1)] == [2, 2, 4, 2]
    assert cache.take_counters() == {"embedded": 3, "cache_hits": 1}


def test_every_call_of_an_encoder_has_the_batch_that_was_asked_for():
    shapes = []

    def forward(rows):
        shapes.append(tuple(rows.shape))
        return rows.mean(dim=(2, 3))

    encoder = FrozenEncoder(lambda p: torch.from_numpy(np.array(p)).permute(2, 0, 1).float(), forward, placement=CPU)
    images = [to_pil(np.full((3, 2, 2), value, np.float32)) for value in (0, 0.2, 0.4, 0.6, 1)]
    assert encoder.embed_in_batches(images, batch=3)[:, 0].tolist() == [0, 51, 102, 153, 255]
    assert shapes == [(3, 3, 2, 2)] * 2 and encoder.cached(np.ones((3, 2, 2), np.float32)).tolist() == [255] * 3
