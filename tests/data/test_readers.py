"""The order of examples is a function of the step: readers, resumes and broken rows do not change it."""

import json

import numpy as np
import pytest
from PIL import Image

from burnish.data.errors import DataError
from burnish.data.layout import DataConfig, SourceConfig
from burnish.data.readers import scan_rows
from burnish.data.sources import make_source, reader_chunks

BROKEN = range(0, 1000, 50)
FAULTS = ({"image": "none.png"}, {"box": [9, 9, 1, 1]}, {"split": "x"}, {"instruction": ""}, {"references": 3})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """1,000 rows, every fiftieth broken in one of five ways."""
    folder = tmp_path_factory.mktemp("rows")
    Image.fromarray(np.full((16, 16, 3), 128, np.uint8)).save(folder / "a.png")
    rows = []
    for number in range(1000):
        row = {"id": f"r{number}", "image": "a.png", "box": [4, 4, 12, 12], "instruction": "Restore.", "split": "train"}
        rows.append(row | (FAULTS[number // 50 % 5] if number in BROKEN else {}))
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "data.jsonl"


def config(manifest, action):
    return DataConfig(sources=(SourceConfig(kind="manifest", path=str(manifest)),), block=4, on_bad_row=action)


def ids(source, readers, steps):
    """Example ids of some steps as that many readers see them, put together in the readers' order."""
    shape = {"num_chunks": 8, "size": 2, "block": 4, "count": source.count("train"), "seed": 0}
    chunks = [
        chunk
        for step in steps
        for reader in range(readers)
        for chunk in reader_chunks(step, reader=reader, readers=readers, **shape)
    ]
    return [source.example("train", index).id for chunk in chunks for index in chunk]


def test_every_broken_row_is_listed_with_its_reason(manifest):
    scan = scan_rows("manifest", manifest)
    named = {int(problem.field.split(":")[0].removeprefix("row ")) for problem in scan.problems}
    assert named == {number + 1 for number in BROKEN} and (scan.num_bad, scan.num_rows) == (20, 1000)


def test_a_run_stops_at_broken_rows_or_leaves_them_out_as_it_was_told(manifest):
    with pytest.raises(DataError, match="20 of 1000 rows"):
        make_source(config(manifest, "stop"))
    for thorough in (True, False):
        assert make_source(config(manifest, "skip"), thorough=thorough).count("train") == 980


def test_one_two_and_four_readers_see_one_order(manifest):
    source = make_source(config(manifest, "skip"))
    orders = [ids(source, readers, range(70)) for readers in (1, 2, 4)]
    assert orders[0] == orders[1] == orders[2] and len(set(orders[0])) == 980


def test_a_resume_in_mid_epoch_goes_on_with_the_same_order(manifest):
    source, again = (make_source(config(manifest, "skip")) for _ in range(2))
    assert ids(source, 2, range(25)) + ids(again, 4, range(25, 70)) == ids(source, 1, range(70))
