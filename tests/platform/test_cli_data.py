"""`burnish data check` reads every layout and lists what is wrong."""

import json

import numpy as np
import pytest
from PIL import Image

from burnish.platform.cli import main

BROKEN = {
    0: {"image": "none.png"},
    1: {"box": [9, 9, 1, 1]},
    2: {"split": "x"},
    3: {"instruction": ""},
    4: {"references": 3},
}


@pytest.fixture
def call(capsys):
    """Run `burnish data …`: (exit code, stdout, stderr)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            main(("data", *map(str, arguments)))
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def manifest(tmp_path):
    """1,000 rows, every fiftieth broken in one of five ways."""
    Image.fromarray(np.full((16, 16, 3), 128, np.uint8)).save(tmp_path / "a.png")
    rows = []
    for number in range(1000):
        row = {"id": f"r{number}", "image": "a.png", "box": [4, 4, 12, 12], "instruction": "Restore.", "split": "train"}
        rows.append(row | (BROKEN[number // 50 % 5] if number % 50 == 0 else {}))
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "rows.jsonl"


def test_twenty_broken_rows_of_a_thousand_are_listed_and_the_code_is_3(call, manifest):
    code, out, err = call("check", manifest)
    assert (code, out) == (3, "") and "20 of 1000 rows cannot be used" in err
    for number in range(0, 1000, 50):
        (line,) = [text for text in err.splitlines() if text.strip().startswith(f"row {number + 1}:")]
        assert ": got " in line and ", allowed " in line


def test_skip_says_what_is_left_out_and_the_code_is_0(call, manifest):
    code, out, _ = call("check", manifest, "--on-bad-row", "skip")
    assert code == 0 and out.count("left out: row ") == 20 and "980 of 1000 rows can be used" in out
    assert "layout: manifest" in out and "16 x 16  0           980" in out and "without target: 980 rows" in out
    found = json.loads(call("check", manifest, "--on-bad-row", "skip", "--json")[1])
    assert (found["rows"], found["bad"], len(found["problems"]), found["splits"]) == (1000, 20, 20, {"train": 980})


def test_a_folder_of_pictures_is_checked_too(call, manifest):
    (manifest.parent / "b.png").write_bytes(b"no picture")
    code, _, err = call("check", manifest.parent)
    assert code == 3 and "1 of 2 rows cannot be used" in err and "b.png: got an unusable file" in err
    code, out, _ = call("check", manifest.parent, "--on-bad-row", "skip")
    assert code == 0 and "layout: folder" in out and "1 of 2 rows can be used" in out


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (("--layout", "zip"), 2, "webdataset"),
        (("--on-bad-row", "fix"), 2, "stop or skip"),
        (("--field", "imag=x"), 2, "did you mean image?"),
        (("--field", "image"), 2, "FIELD=NAME"),
        (("--field", "image=x"), 2, "a layout of parquet"),
        (("--layout", "webdataset"), 3, "cannot be read as a tar file"),
        (("--layout", "dyref"), 3, "1000 of 1000 rows"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_code(call, manifest, options, code, word):
    found = call("check", manifest, *options)
    assert found[0] == code and word in found[2]


def test_a_path_that_is_not_there_is_refused(call, tmp_path):
    code, _, err = call("check", tmp_path / "none")
    assert code == 3 and "no such file or folder" in err
