"""What the page says when something is refused, and what it never lets happen."""

import pytest
from PIL import Image

SHOWN = "!document.getElementById('alert').hidden"
HOSTILE = "<img src=http://192.0.2.1/x onerror=alert(1)>"


def paint(tab):
    tab.drag([tab.place("#paint", x, 0.4) for x in (0.4, 0.5)])


def test_a_full_queue_is_told_with_a_button_that_opens_when_the_server_said(opened, fake, fake_api):
    problem = fake_api.problem("queue", "16 requests", "at most 16")
    fake.refusal = (429, fake_api.body("too many requests are waiting", [problem]), {"Retry-After": "1"})
    tab = opened()
    paint(tab)
    tab.click("#refine")
    tab.until(SHOWN)
    assert "Too many requests are waiting." in tab.alert and "Try again in 1 s" in tab.alert
    fake.refusal = None
    tab.until("!document.querySelector('#alert button').disabled")
    tab.click("#alert button")
    tab.until("!document.getElementById('result').hidden")
    assert tab.alert == ""


def test_a_refused_field_is_pointed_at(opened, fake, fake_api):
    problem = fake_api.problem("steps", "101", "1 to 100", "fewer steps")
    fake.refusal = (422, fake_api.body("the request is refused", [problem]), {})
    tab = opened()
    paint(tab)
    tab.click("#refine")
    tab.until(SHOWN)
    assert "Got 101. Allowed: 1 to 100. Fewer steps." in tab.alert
    assert tab.run("document.getElementById('steps').getAttribute('aria-invalid')") == "true"
    assert tab.run("document.getElementById('settings').open")


def test_a_setting_out_of_range_is_not_sent(opened, fake):
    tab = opened()
    paint(tab)
    tab.run("document.getElementById('steps').value = 1000")
    tab.click("#refine")
    tab.until(SHOWN)
    assert "steps\nGot 1000. Allowed: 1 to 100." in tab.alert and fake.forms == []


def test_the_token_is_asked_for_kept_in_the_tab_and_sent(tab, fake, origin):
    fake.token = "secret"
    tab.open(origin)
    tab.until(SHOWN)
    assert tab.run("document.activeElement.id") == "token"
    tab.type("wrong")
    tab.press("Enter")
    tab.until("document.getElementById('alert').innerText.startsWith('This token is not accepted')")
    tab.run("document.getElementById('token').value = ''")
    tab.type("secret")
    tab.press("Enter")
    tab.until("!document.getElementById('policy').disabled")
    assert tab.alert == "" and tab.run("document.getElementById('token-form').hidden")
    assert tab.run("[localStorage.length, document.cookie, location.href]") == [0, "", f"{origin}/"]


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("small.png", (8, 8), "Got 8 × 8."),
        ("long.png", (600, 20), "no longer than 16:1"),
        ("moving.gif", (32, 32), "Got image/gif."),
        ("cut.png", None, "The file may be damaged or cut off."),
    ],
)
def test_a_file_that_the_server_would_refuse_is_refused_at_once(opened, tmp_path, name, size, words):
    file = tmp_path / name
    if size is None:
        file.write_bytes(b"\x89PNG\r\n\x1a\n")
    else:
        Image.new("RGB", size).save(file)
    tab = opened(image=None)
    tab.give("#file", file)
    tab.until(SHOWN)
    assert words in tab.alert and not tab.run("document.getElementById('drop').hidden")


def test_a_ninth_reference_is_refused(opened, photo):
    tab = opened()
    tab.give("#reference-file", *[photo] * 9)
    tab.until(SHOWN)
    assert tab.run("document.querySelectorAll('#references li').length") == 8
    assert tab.run("document.getElementById('reference-add').disabled")


def test_a_server_that_is_gone_is_told(opened, origin):
    tab = opened()
    paint(tab)
    tab.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    tab.click("#refine")
    tab.until(SHOWN)
    assert "The server cannot be reached." in tab.alert


def test_words_of_others_are_shown_as_words(opened, fake, fake_api, photo, origin):
    fake.refusal = (422, fake_api.body(HOSTILE, [fake_api.problem(HOSTILE, HOSTILE, HOSTILE, HOSTILE)]), {})
    named = photo.rename(photo.with_name("<b onclick=alert(1)>.png"))
    tab = opened(image=named)
    tab.give("#reference-file", named)
    paint(tab)
    tab.click("#refine")
    tab.until(SHOWN)
    assert tab.alert.count("<img src") == 5 and tab.run("document.querySelectorAll('#alert img, b').length") == 0
    assert [url for url in tab.requests if not url.startswith((origin, f"blob:{origin}", "data:"))] == []


@pytest.mark.parametrize(
    "code",
    [
        "fetch('http://192.0.2.1/')",
        "import('http://192.0.2.1/x.js')",
        "Object.assign(new Image(), { src: 'http://192.0.2.1/x.png' }).decode()",
    ],
)
def test_the_browser_itself_forbids_every_other_host(opened, code):
    tab = opened(image=None)
    assert tab.run(f"{code}.then(() => 'sent', () => 'forbidden')") == "forbidden"
    assert tab.troubles and "Content Security Policy" in tab.troubles[0]
