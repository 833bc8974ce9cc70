"""What may stand in any file of the repository. Forbidden words are put together here, so that this file may pass."""

import re

HOSTS = ["py" + "pi.org", "files.python" + "hosted", "regis" + "try.npmjs", "index" + "-url", "proxy.go" + "lang"]
PATHS = ["/" + "root/", "/home/" + "[a-z]", "/" + "work/", "/opt/" + "[a-z]", "/" + "tmp/w", "C:" + r"\\Users"]
SECRETS = ["AKI" + "A[0-9A-Z]{16}", "gh" + "p_[A-Za-z0-9]{36}", "h" + "f_[A-Za-z]{34}", "BEGIN [A-Z ]*PRIVATE" + " KEY"]
LARGEST = 2 << 20


def _texts(files):
    for path in files:
        raw = path.read_bytes()
        if b"\0" not in raw:
            yield path, raw.decode("utf-8")


def test_no_registry_no_machine_and_no_secret_is_named(files):
    pattern = re.compile("|".join(HOSTS + PATHS + SECRETS))
    found = [f"{p}: {match[0]}" for p, text in _texts(files) for match in [pattern.search(text)] if match]
    assert found == []


def test_files_are_small_text_or_shipped_data(files):
    assert [str(p) for p in files if p.stat().st_size > LARGEST] == []


def test_nothing_that_a_run_or_a_build_leaves_is_in_the_repository(files, root):
    names = [str(p.relative_to(root)) for p in files]
    left = re.compile(r"(^|/)(__pycache__|runs|mlruns|build|dist|\.venv|\.typing)/|\.(pyc|db|egg-info|pt|pth|bin|pkl)$")
    assert [name for name in names if left.search(name)] == []


def test_text_ends_with_one_newline_and_has_no_trailing_blanks(files):
    kinds = {".py", ".md", ".toml", ".yaml"}
    texts = [(p, t) for p, t in _texts(files) if p.suffix in kinds and p.stat().st_size]
    assert [
        str(p) for p, t in texts if not t.endswith("\n") or t.endswith("\n\n") or re.search(r"[ \t]+$", t, re.M)
    ] == []
