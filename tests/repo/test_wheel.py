"""What a wheel holds, built from a copy so that nothing is left behind."""

import shutil
import subprocess
import sys
import zipfile

import pytest


@pytest.fixture(scope="module")
def wheel(root, files, tmp_path_factory):
    """Names of the files in the wheel."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for path in files:
        target = source / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    (built,) = out.glob("*.whl")
    assert built.stat().st_size < 4 << 20
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_module_recipe_font_page_schema_and_manifest(root, modules, wheel):
    data = [*root.glob("recipes/*.yaml"), *root.glob("data/fonts/*"), *root.glob("serve/page/*")]
    data += root.glob("platform/lint/schemas/*")
    data += [path for path in root.glob("clusters/**/*") if path.is_file()]
    expected = {f"burnish/{m.path}" for m in modules} | {f"burnish/{p.relative_to(root)}" for p in data}
    assert expected - wheel == set()


def test_the_wheel_carries_the_licences(wheel):
    names = {name.rpartition("licenses/")[2] for name in wheel if ".dist-info/licenses/" in name}
    assert "LICENSE" in names and any("DejaVu" in name for name in names) and any("STIX" in name for name in names)


def test_the_wheel_holds_nothing_else(wheel):
    outside = {name for name in wheel if not name.startswith("burnish/") and ".dist-info/" not in name}
    assert outside == set()
    assert [n for n in wheel if n.split("/")[1] in {"tests", "docs", "benchmarks", "examples"}] == []
