"""What each layout makes of a row, and what it says where the data set is not what it should be."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from burnish.data.errors import DataError
from burnish.data.images import decode_image
from burnish.data.layout import DataConfig, SourceConfig
from burnish.data.readers import read_rows, scan_rows
from burnish.data.sources import make_source


def only_example(kind, path, **fields):
    """The one row of a data set as an example, whatever its split."""
    source = make_source(DataConfig(sources=(SourceConfig(kind=kind, path=str(path), fields=fields),), block=1))
    (split,) = {row.split for row in read_rows(kind, path, fields=fields)} - {None} or {None}
    for name in [split] if split else ["train", "dev", "heldout"]:
        try:
            return source.example(name, 0)
        except DataError:
            continue
    raise AssertionError("no split has a row")


def problems(kind, path, **fields):
    return [str(problem) for problem in scan_rows(kind, path, fields=fields).problems]


def tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_a_row_comes_back_as_it_was_written(layout, kind, write, make_row):
    example = only_example(kind, write([make_row(7)]))
    expected = make_row(7)
    assert (example.id, example.instruction) == ("r0007", "Restore number 7.")
    assert np.array_equal(example.target, decode_image(expected["target"], name="target"))
    assert [r.image[0, 0, 0] * 255 for r in example.references] == pytest.approx([10, 20])
    kinds = [r.kind for r in example.references]
    assert kinds == (["detail", "detail"] if layout == "cases" else ["subject", "style"])
    if layout == "dyref":
        assert example.image is None and example.mask is None and example.meta["category"] == "subject_style"
    else:
        assert np.array_equal(example.image, decode_image(expected["image"], name="image"))
        assert example.mask.sum() == 64 and example.meta["box"] == "4,4,12,12"


def test_names_that_no_field_takes_are_told(layout, kind, write, make_row):
    unused = scan_rows(kind, write([make_row(7)])).unused
    assert unused == {"parquet": ("note",), "arrow": ("note",), "webdataset": ("json: note",)}.get(layout, ())


def test_a_field_may_have_another_name_in_tables_archives_and_cases(tmp_path, make_row):
    row = make_row(3)
    cell = {"bytes": row["image"], "path": None}
    columns = {"src": [cell], "edited": [cell], "area": [[4, 4, 12, 12]], "prompt": ["Do."]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    renamed = {"image": "src", "target": "edited", "box": "area", "instruction": "prompt"}
    assert only_example("parquet", tmp_path, **renamed).id == "a.parquet:0"
    members = {"a/1.src.png": row["image"], "a/1.ref.0.png": row["target"], "a/1.prompt.txt": b"Do.\n"}
    path = tar(tmp_path / "b.tar", members | {"a/1.json": b'{"area": [4, 4, 12, 12]}', "a/1.cls": b"3"})
    example = only_example("webdataset", path, references="ref", **renamed)
    assert (example.instruction, example.num_references, example.id) == ("Do.", 1, "b/a/1")
    for name, data in {"src": row["image"], "edited": row["target"], "area": row["mask"]}.items():
        (tmp_path / "c" / name).mkdir(parents=True)
        (tmp_path / "c" / name / "first.png").write_bytes(data)
    (tmp_path / "c" / "prompt").mkdir()
    (tmp_path / "c" / "prompt" / "first.txt").write_text("Do.")
    assert only_example("cases", tmp_path / "c", **(renamed | {"mask": "area"})).target is not None


def test_references_may_be_a_list_of_kinds_and_images_and_pictures_may_be_paths(tmp_path, make_row):
    (tmp_path / "in.png").write_bytes(make_row(0)["image"])
    references = [{"kind": "style", "image": {"bytes": make_row(1)["image"], "path": None}}]
    given = {"image": "in.png", "box": [0, 0, 8, 8], "instruction": "Do.", "references": references, "meta": {"n": 1}}
    rows = [given, given | {"image": "../in.png"}, given | {"image": None}, given | {"references": [references[0]] * 9}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    scan = scan_rows("parquet", tmp_path / "a.parquet")
    assert [r.references[0][0] for r in scan.rows] == ["style"] and scan.rows[0].meta == {"n": 1}
    assert [p.field for p in scan.problems] == [
        "a.parquet row 1: image",
        "a.parquet row 2: image or target",
        "a.parquet row 2: box",
        "a.parquet row 3: references",
    ]


def test_the_name_of_a_file_says_the_split_where_names_tell_splits_apart(tmp_path, make_row):
    rows = {"image": [make_row(0)["image"]] * 9, "box": [[0, 0, 8, 8]] * 9, "instruction": ["Do."] * 9}
    pq.write_table(pa.table(rows), tmp_path / "train-0.parquet")
    assert {row.split for row in read_rows("parquet", tmp_path)} == {None}
    for name in ("validation-00000-of-1", "test_1"):
        pq.write_table(pa.table(rows), tmp_path / f"{name}.parquet")
    found = [row.split for row in read_rows("parquet", tmp_path)]
    assert found == ["heldout"] * 9 + ["train"] * 9 + ["dev"] * 9


def test_a_shard_that_is_cut_off_repeated_members_and_links_are_told(tmp_path, make_row):
    row = make_row(0)
    whole = {"1.png": row["image"], "1.json": b'{"box": [0, 0, 8, 8]}', "1.txt": b"Do."}
    path = tar(tmp_path / "a.tar", whole | {"2.json": b"[1]", "3.json": b'{"reference_kinds": ["style"]}'})
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("4.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    found = problems("webdataset", path)
    assert found[0].startswith("a.tar/2: json: got") and "a.tar/3: references: got" in " ".join(found)
    assert found[-1] == "a.tar/4: got png, allowed one regular file of each name"
    path.write_bytes(path.read_bytes()[: 512 + 40])
    with pytest.raises(DataError, match=r"cut off|cannot be read"):
        scan_rows("webdataset", path)


def test_dyref_records_without_target_with_two_or_of_another_shape_are_told(tmp_path, make_row):
    (tmp_path / "t.png").write_bytes(make_row(0)["target"])
    good = {"image": ["t.png"], "prompt": "A cup in image 1.", "edit_image": "t.png", "index": 4}
    rows = [good, good | {"image": ["t.png", "t.png"]}, good | {"prompt": 1}, {"edit_image": [], "prompt": "A."}, 7]
    (tmp_path / "train_data.json").write_text(json.dumps(rows))
    scan = scan_rows("dyref", tmp_path)
    assert [(r.id, r.references[0][0], r.image) for r in scan.rows] == [("4", "subject", None)]
    assert [p.field for p in scan.problems] == [
        "row 2: target",
        "row 3: instruction",
        "row 4: image or target",
        "row 5",
    ]
    (tmp_path / "rl.jsonl").write_text(json.dumps(good) + "\n{\n")
    assert [p.field for p in scan_rows("dyref", tmp_path / "rl.jsonl").problems] == ["row 2"]
    (tmp_path / "train_data.json").write_text("{}")
    with pytest.raises(DataError, match="allowed a list of records"):
        scan_rows("dyref", tmp_path)


def test_cases_with_two_images_or_without_a_text_are_told(tmp_path, make_row):
    for case in ("one", "two"):
        (tmp_path / case).mkdir()
        for name in ("image", "mask"):
            (tmp_path / case / f"{name}.png").write_bytes(make_row(0)[name])
    (tmp_path / "two" / "image.jpg").write_bytes(b"")
    (tmp_path / "two" / "notes.txt").write_text("x")
    assert problems("cases", tmp_path) == [
        "one: instruction: got None, allowed printable text of 1 to 2000 characters",
        "two: image: got image.jpg, image.png, allowed one file",
    ]


def test_what_a_run_needs_is_a_problem_of_the_rows_that_lack_it(layout, kind, write, make_row):
    scan = scan_rows(kind, write([make_row(0)]), needs=("image", "target"))
    assert [p.field.split(": ")[1] for p in scan.problems] == (["image"] if layout == "dyref" else [])


@pytest.mark.parametrize("name", ["parquet", "webdataset", "dyref", "cases", "manifest"])
def test_a_folder_or_a_file_that_is_none_is_refused(name, tmp_path):
    for path in (tmp_path, tmp_path / "none", tmp_path / "empty.parquet"):
        if path.suffix:
            path.write_bytes(b"x")
        with pytest.raises(DataError):
            read_rows(name, path)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"kind": "manifest", "fields": {"image": "x"}}, "fields"),
        ({"kind": "parquet", "fields": {"picture": "x"}}, "fields"),
        ({"kind": "parquet", "path": None}, "path"),
        ({"kind": "text"}, "path"),
    ],
)
def test_sources_that_make_no_sense_are_refused(change, word):
    with pytest.raises(ValueError, match=word):
        SourceConfig(**({"path": "a"} | change))
