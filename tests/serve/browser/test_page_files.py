"""The page's files, without a browser: all are used, all are short, and none names another host."""

import re

import pytest
import requests

from burnish.serve.page import FILES, HEADERS, PATHS


@pytest.fixture(scope="module")
def sources():
    """Name -> text."""
    return {file.name: file.read_text() for file in FILES.iterdir()}


def test_the_page_loads_all_of_its_files_and_no_other(sources):
    loaded, waiting = set(), ["index.html"]
    while waiting:
        name = waiting.pop()
        loaded.add(name)
        waiting += [n for n in re.findall(r'"(?:page|\.)/([\w.]+)"', sources[name]) if n not in loaded]
    assert loaded == set(sources) == {file.name for file in PATHS.values()}


def test_every_id_that_a_script_or_a_label_names_is_in_the_document(sources):
    ids = re.findall(r'\bid="([^"]+)"', sources["index.html"])
    assert len(ids) == len(set(ids))
    named = set(
        re.findall(r'(?:href="#|for="|aria-(?:controls|describedby|labelledby)=")([\w-]+)"', sources["index.html"])
    )
    for text in (text for name, text in sources.items() if name.endswith(".js")):
        named |= set(re.findall(r'\$\("([\w-]+)"\)', text))
    assert named - set(ids) == set()


def test_no_file_names_another_host_or_carries_code_in_an_attribute(sources):
    for name, text in sources.items():
        assert set(re.findall(r"https?://[^\s'\"]*", text)) <= {"http://www.w3.org/2000/svg"}, name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), name
    assert re.findall(r'\s(?:on\w+|style)="', sources["index.html"]) == []


def test_files_are_short(sources):
    assert [name for name, text in sources.items() if len(text.splitlines()) > 300] == []
    assert [n for n, t in sources.items() if not n.endswith(".html") and max(map(len, t.splitlines())) > 126] == []


def test_every_file_is_sent_with_its_type_and_the_policy(origin):
    types = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
    for path, file in PATHS.items():
        answer = requests.get(origin + path, timeout=10)
        assert answer.status_code == 200 and answer.text == file.read_text()
        assert HEADERS.items() <= dict(answer.headers).items()
        assert answer.headers["content-type"] == f"{types[file.suffix]}; charset=utf-8"
