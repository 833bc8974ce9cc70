import json
import re

import numpy as np
import pytest

from burnish.data.errors import DataError
from burnish.data.images import save_png, sha256_file
from burnish.data.readers import read_rows
from burnish.data.row_source import RowSource
from burnish.data.seeding import generator
from burnish.data.sources import eval_indices


def read(path, **how):
    return read_rows("manifest", path, **how)


def source_of(path, **layout):
    return RowSource(read(path), name="manifest", path=path, **layout)


def picture(*parts, size=(3, 24, 32)):
    return generator(0, "test-manifest", *parts).random(size, dtype=np.float32)


@pytest.fixture
def write(tmp_path):
    save_png(tmp_path / "in.png", picture("in"))
    save_png(tmp_path / "out.png", picture("out"))
    save_png(tmp_path / "ref.png", picture("ref", size=(3, 8, 10)))
    mask = np.zeros((1, 24, 32), np.float32)
    mask[:, 5:9, 6:12] = 1
    save_png(tmp_path / "mask.png", mask)
    save_png(tmp_path / "empty.png", 0 * mask)

    def write(*rows):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / "data.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return tmp_path / "data.jsonl"

    return write


def row(**change):
    base = {"id": "a", "image": "in.png", "box": [4, 4, 16, 16], "instruction": "Restore.", "split": "train"}
    return {name: value for name, value in (base | change).items() if value is not None}


def test_a_full_row_becomes_an_example(write):
    references = [{"kind": "detail", "path": "ref.png"}, {"kind": "style", "path": "ref.png"}]
    path = write(
        row(box=None, mask="mask.png", references=references, target="out.png", meta={"cluster": "c1", "n": 2})
    )
    example = source_of(path, block=4).example("train", 0)
    assert example.meta["box"] == "6,5,12,9"
    assert example.mask.sum() == 4 * 6
    assert [r.kind for r in example.references] == ["detail", "style"]
    assert example.references[0].image.shape == (3, 8, 10)
    assert (example.target.shape, example.meta["source"]) == ((3, 24, 32), "manifest")
    assert (example.meta["cluster"], example.meta["n"]) == ("c1", 2)


def test_blocks_hold_one_geometry_and_repeats_are_named(write):
    rows = [row(id=f"a{i}") for i in range(5)] + [row(id=f"b{i}", box=[0, 0, 8, 8]) for i in range(2)]
    source = source_of(write(*rows), block=4)
    assert source.count("train") == 12
    boxes = [source.example("train", i).meta["box"] for i in range(12)]
    assert [len(set(boxes[i : i + 4])) for i in (0, 4, 8)] == [1, 1, 1]
    fresh = [source.example("train", i).id for i in range(12) if i not in source.repeats("train")]
    assert sorted(fresh) == sorted(r["id"] for r in rows)


def test_evaluation_passes_over_rows_without_a_target_and_training_does_not(write):
    targets = ["out.png", None, "out.png", "out.png"]
    rows = [row(id=f"{s}{i}", split=s, target=t) for s in ("train", "heldout") for i, t in enumerate(targets)]
    source = source_of(write(*rows), block=4)
    assert source.repeats("train") == frozenset()
    shown = [source.example("heldout", i).id for i in eval_indices(source, "heldout", 8, block=4)]
    assert shown == ["heldout0", "heldout2", "heldout3"]


def test_boxes_need_not_share_a_block_where_ids_do_not_depend_on_them(write):
    rows = [row(id=str(i), box=[i, 0, i + 4, 4]) for i in range(4)]
    path = write(*rows)
    assert source_of(path, block=4).count("train") == 16
    assert source_of(path, block=4, by_box=False).count("train") == 4


def test_rows_without_a_split_are_dealt_by_their_id(write):
    source = source_of(write(*(row(id=f"r{i}", split=None) for i in range(100))), block=1)
    counts = [source.count(split) for split in ("train", "dev", "heldout")]
    assert sum(counts) == 100
    assert counts[0] > counts[2] > 0


def test_an_empty_split_and_an_index_beyond_the_end_are_refused(write):
    source = source_of(write(row()), block=4)
    with pytest.raises(DataError, match="no row belongs"):
        source.count("dev")
    with pytest.raises(DataError, match="index: got 4"):
        source.example("train", 4)


def test_checksums_are_verified_where_present(write, tmp_path):
    good = sha256_file(tmp_path / "in.png")
    assert len(read(write(row(sha256={"in.png": good})))) == 1
    with pytest.raises(DataError, match=r"sha256\.in\.png"):
        read(write(row(sha256={"in.png": "0" * 64})))
    with pytest.raises(DataError, match=r"sha256\.other\.png"):
        read(write(row(sha256={"other.png": good})))


BAD = [
    ({"id": ""}, "id"),
    ({"id": 7}, "id"),
    ({"instruction": "x" * 2001}, "instruction"),
    ({"instruction": "a\u0000b"}, "instruction"),
    ({"image": "none.png"}, "image"),
    ({"image": "../in.png"}, "image"),
    ({"image": "/in.png"}, "image"),
    ({"image": "x" * 300}, "image"),
    ({"image": "a\u0000.png"}, "image"),
    ({"image": None}, "image or target"),
    ({"image": None, "target": "out.png"}, "box"),
    ({"box": [0, 0, 40, 8]}, "box"),
    ({"box": [0, 0, 4.0, 8]}, "box"),
    ({"box": [True, 0, 4, 8]}, "box"),
    ({"box": None}, "mask or box"),
    ({"mask": "mask.png"}, "mask or box"),
    ({"box": None, "mask": "empty.png"}, "mask"),
    ({"box": None, "mask": "ref.png"}, "mask"),
    ({"references": [{"kind": "smell", "path": "ref.png"}]}, r"references\[0\]"),
    ({"references": [{"kind": "detail"}]}, r"references\[0\]"),
    ({"references": [{"kind": "detail", "path": "ref.png"}] * 9}, "references"),
    ({"references": "ref.png"}, "references"),
    ({"target": "ref.png"}, "target"),
    ({"split": "test"}, "split"),
    ({"split": ["train"]}, "split"),
    ({"meta": {"deep": {}}}, "meta"),
    ({"sha256": {"in.png": "short"}}, "sha256"),
    ({"sha256": [1]}, "sha256"),
    ({"colour": 1}, "colour"),
]


@pytest.mark.parametrize(("change", "field"), BAD)
def test_a_bad_field_is_named_with_its_row(write, change, field):
    with pytest.raises(DataError) as caught:
        read(write(row(id="fine"), row(**change)))
    assert any(re.fullmatch(f"row 2: {field}", problem.field) for problem in caught.value.problems)


@pytest.mark.parametrize("line", ["{", "[]", '{"id": NaN}', '{"id": 1, "id": 2}', "[" * 100000])
def test_lines_that_are_no_plain_json_object_are_refused(write, line):
    with pytest.raises(DataError) as caught:
        read(write(row(), line))
    assert caught.value.problems[0].field == "row 2"


def test_all_problems_of_all_rows_come_at_once(write):
    path = write(row(id="a", box=[9, 9, 1, 1], split="x"), row(id="b"), row(id="b"), row(id="c", image="none.png"))
    with pytest.raises(DataError, match="3 of 4 rows cannot be used") as caught:
        read(path)
    assert [p.field.split(":")[0] for p in caught.value.problems] == ["row 1", "row 1", "row 3", "row 4"]


def test_a_link_out_of_the_folder_is_refused(write, tmp_path):
    path = write(row(image="link.png"))
    outside = tmp_path.parent / f"{tmp_path.name}-outside.png"
    save_png(outside, picture("in"))
    (tmp_path / "link.png").symlink_to(outside)
    with pytest.raises(DataError, match="inside the data set's folder"):
        read(path)


def test_a_manifest_that_is_missing_binary_or_empty_is_refused(write, tmp_path):
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    for path, word in (
        (tmp_path / "none", "cannot be read"),
        (tmp_path / "binary.jsonl", "cannot"),
        (write(), "no rows"),
    ):
        with pytest.raises(DataError, match=word):
            read(path)


def test_truncated_images_are_found_when_reading_thoroughly(write, tmp_path):
    path = write(row())
    (tmp_path / "in.png").write_bytes((tmp_path / "in.png").read_bytes()[:-200])
    with pytest.raises(DataError, match="image"):
        read(path)
    assert len(read(path, thorough=False)) == 1
