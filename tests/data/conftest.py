"""Small data sets on disk, the same rows in every layout."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

LAYOUTS = ("manifest", "parquet", "arrow", "webdataset", "dyref", "cases")
FAULTS = ("truncated", "instruction", "target size", "references", "missing")
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA = dict.fromkeys(("image", "mask", "target"), IMAGE) | {
    "references": pa.list_(IMAGE),
    "reference_kinds": pa.list_(pa.string()),
    "instruction": pa.string(),
    "id": pa.string(),
    "split": pa.string(),
    "note": pa.string(),
}


def png(value, side=16):
    """A flat picture; value is grey or an RGB colour."""
    pixels = np.full((side, side, 3), value, np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def mask_png():
    pixels = np.zeros((16, 16), np.uint8)
    pixels[4:12, 4:12] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def row(number, fault=None):
    """One row as bytes and texts; its image's colour says its number."""
    made = {
        "id": f"r{number:04d}",
        "image": png((number % 256, number // 256, 100)),
        "mask": mask_png(),
        "target": png((number % 256, number // 256, 200)),
        "references": [("subject", png(10, 8)), ("style", png(20, 8))],
        "instruction": f"Restore number {number}.",
    }
    made |= {
        "truncated": {"target": made["target"][:-25]},
        "instruction": {"instruction": "a\u0007b"},
        "target size": {"target": png(0, 8)},
        "references": {"references": [("style", png(1, 8))] * 9},
        "missing": {"target": None, "image": None, "mask": None},
    }.get(fault, {})
    return made


def manifest(folder, rows):
    files, lines = {}, []
    for r in rows:
        own = {n: f"{r['id']}-{n}.png" for n in ("image", "mask", "target") if r[n]}
        files |= {own[n]: r[n] for n in own}
        named = [(kind, f"{r['id']}-ref{i}.png", data) for i, (kind, data) in enumerate(r["references"])]
        files |= {name: data for _, name, data in named}
        references = [{"kind": kind, "path": name} for kind, name, _ in named]
        lines.append({"id": r["id"], "instruction": r["instruction"], "references": references, **own})
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / "rows.jsonl"


def table(rows):
    def cell(data):
        return None if data is None else {"bytes": data, "path": "a.png"}

    made = [
        {n: cell(r[n]) for n in ("image", "mask", "target")}
        | {"references": [cell(data) for _, data in r["references"]], "note": "x"}
        | {"reference_kinds": [kind for kind, _ in r["references"]], "id": r["id"], "instruction": r["instruction"]}
        for r in rows
    ]
    return pa.Table.from_pylist(made, schema=pa.schema(SCHEMA))


def parquet(folder, rows):
    half = len(rows) // 2
    for number, part in enumerate((rows[:half], rows[half:])):
        pq.write_table(table(part), folder / f"part-{number:05d}.parquet", row_group_size=100)
    return folder


def arrow(folder, rows):
    """As `datasets.Dataset.save_to_disk` writes it."""
    made = table(rows)
    file = str(folder / "data-00000-of-00001.arrow")
    with pa.OSFile(file, "wb") as sink, pa.ipc.new_stream(sink, made.schema) as writer:
        writer.write_table(made, max_chunksize=100)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "cache-0.arrow").write_bytes(b"not a part of it")
    return folder


def webdataset(folder, rows):
    shards = [tarfile.open(folder / f"shard-{number:06d}.tar", "w") for number in range(4)]  # noqa: SIM115
    for number, r in enumerate(rows):
        members = {f"{n}.png": r[n] for n in ("image", "mask", "target") if r[n]}
        members |= {f"reference.{i}.png": data for i, (_, data) in enumerate(r["references"])}
        record = {"id": r["id"], "reference_kinds": [kind for kind, _ in r["references"]], "note": 1}
        members |= {"json": json.dumps(record).encode(), "txt": r["instruction"].encode()}
        for name, data in members.items():
            info = tarfile.TarInfo(f"{number:06d}.{name}")
            info.size = len(data)
            shards[number * 4 // len(rows)].addfile(info, io.BytesIO(data))
    for shard in shards:
        shard.close()
    return folder


def dyref(folder, rows):
    """No image and no mask: targets are generated."""
    records = []
    for r in rows:
        place = folder / "2_subjects" / r["id"]
        files = {f"{r['id']}.png": r["target"]} if r["target"] else {}
        kinds = {"subject": "transfer_subjects", "style": "style"}
        references = {f"{kinds[kind]}/{i}.png": data for i, (kind, data) in enumerate(r["references"])}
        for name, data in (files | references).items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(data)
        record = {"image": f"2_subjects/{r['id']}/{r['id']}.png"} if r["target"] else {}
        record |= {"edit_image": [f"2_subjects/{r['id']}/{n}" for n in references], "prompt": r["instruction"]}
        records.append(record | {"index": r["id"], "category": "subject_style"})
    (folder / "train_data.json").write_text(json.dumps(records))
    return folder


def cases(folder, rows):
    for r in rows:
        place = folder / r["id"]
        place.mkdir()
        for name in ("image", "mask", "target"):
            if r[name]:
                (place / f"{name}.png").write_bytes(r[name])
        for number, (_, data) in enumerate(r["references"]):
            (place / (f"reference_{number}.png" if number else "reference.png")).write_bytes(data)
        (place / "instruction.txt").write_text(r["instruction"])
    return folder


WRITERS = {f.__name__: f for f in (manifest, parquet, arrow, webdataset, dyref, cases)}


@pytest.fixture(params=LAYOUTS)
def layout(request):
    """Name of a layout."""
    return request.param


@pytest.fixture
def kind(layout):
    """The layout's kind in a recipe."""
    return "parquet" if layout == "arrow" else layout


@pytest.fixture
def write(layout, tmp_path):
    """Write rows in the layout; returns its path."""
    return lambda rows: WRITERS[layout](tmp_path, list(rows))


@pytest.fixture
def make_row():
    """See `row`."""
    return row


@pytest.fixture(scope="session")
def broken(tmp_path_factory):
    """(layout, number of rows) -> path of them, every fiftieth broken in one of five ways; each made once."""
    made = {}

    def path(layout, count=200):
        if (layout, count) not in made:
            rows = [row(n, FAULTS[n // 50 % 5] if n % 50 == 0 else None) for n in range(count)]
            made[layout, count] = WRITERS[layout](tmp_path_factory.mktemp(layout), rows)
        return made[layout, count]

    return path
