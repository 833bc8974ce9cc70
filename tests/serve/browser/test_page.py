"""The page in a real browser, against an API without a policy: what a user does, what is sent, what comes back."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

STROKE = ((0.4, 0.4), (0.45, 0.4), (0.5, 0.45))
DONE = "!document.getElementById('result').hidden"
RUNNING = "!document.getElementById('running').hidden"


def paint(tab, points=STROKE):
    tab.drag([tab.place("#paint", *point) for point in points])


def text(tab, selector):
    return tab.run(f"document.querySelector('{selector}').innerText")


def refine(tab):
    tab.click("#refine")
    tab.until(f"{DONE} && !({RUNNING})")


def pixels(payload):
    return np.asarray(Image.open(io.BytesIO(payload)))


def strangers(tab, origin):
    """Requests to anybody but the server; pictures in the page's own memory are none."""
    return [url for url in tab.requests if not url.startswith((f"{origin}/", f"blob:{origin}/", "data:"))]


def test_a_user_uploads_paints_refines_compares_and_downloads(opened, fake, origin, photo, downloads, wait):
    tab = opened()
    tab.give("#reference-file", photo, photo)
    tab.until("document.querySelectorAll('#references li').length == 2")
    tab.run("document.querySelectorAll('#references select')[1].value = 'lighting'")
    tab.run("document.querySelectorAll('#references select')[1].onchange()")
    tab.click("#instruction")
    tab.type("Restore the carving.")
    paint(tab)
    refine(tab)
    (sent,), (reply,) = fake.forms, fake.replies
    assert sent["image"] == [photo.read_bytes()] and sent["reference"] == [photo.read_bytes()] * 2
    assert sent["reference_kind"] == ["detail", "lighting"] and sent["instruction"] == ["Restore the carving."]
    assert sent["model"] == ["tuned"] and sent["seed"] == ["0"]
    tab.click("#download")
    file = downloads / "temple-refined.png"
    wait(file.exists, "the download")
    assert file.read_bytes() == base64.b64decode(reply["images"][0]["b64"])
    assert strangers(tab, origin) == [] and tab.troubles == []


def test_the_mask_is_of_the_images_size_and_white_where_the_brush_went(opened, fake, photo):
    tab = opened()
    paint(tab)
    refine(tab)
    (mask,) = fake.forms[0]["mask"]
    rows, columns = np.nonzero(pixels(mask)[..., 0] >= 128)
    assert pixels(mask).shape[:2] == pixels(photo.read_bytes()).shape[:2]
    assert set(np.unique(pixels(mask)[..., 3])) == {255}
    assert 0.36 < columns.min() / 640 < 0.4 and 0.5 < columns.max() / 640 < 0.54
    assert 0.33 < rows.min() / 427 < 0.4 and 0.45 < rows.max() / 427 < 0.52


def test_parts_that_do_not_touch_become_regions_of_their_own(opened, fake):
    tab = opened()
    tab.press("r")
    paint(tab, ((0.1, 0.1), (0.3, 0.3)))
    paint(tab, ((0.6, 0.6), (0.8, 0.9)))
    assert text(tab, "#region-facts").startswith("2 parts, 10 %")
    refine(tab)
    boxes = [Image.open(io.BytesIO(mask)).convert("L").getbbox() for mask in fake.forms[0]["mask"]]
    expected = [(64, 43, 192, 128), (384, 256, 512, 384)]
    assert np.abs(np.subtract(boxes, expected)).max() <= 1


def test_marks_are_undone_done_again_erased_and_cleared(opened):
    tab, told = opened(), []
    paint(tab)
    for keys in ({}, {"z": 2}, {"Z": 10}, {"Delete": 0}, {"z": 2}):
        for key, modifiers in keys.items():
            tab.press(key, modifiers=modifiers)
        told.append(text(tab, "#region-facts") != "nothing marked")
    tab.press("e")
    tab.press(*"]" * 12)
    paint(tab)
    assert [*told, text(tab, "#region-facts")] == [True, False, True, False, True, "nothing marked"]
    assert tab.run("document.getElementById('refine').disabled")


def test_a_box_is_set_by_numbers_and_one_that_does_not_fit_is_refused(opened, fake):
    tab = opened()
    tab.run("document.getElementById('box-x').closest('details').open = true")
    for name, value in {"x": 10, "y": 20, "w": 700, "h": 40}.items():
        tab.run(f"document.getElementById('box-{name}').value = {value}")
    tab.click("#box-add")
    tab.until("!document.getElementById('alert').hidden")
    assert "Got 10, 20, 700 × 40. Allowed: inside 640 × 427." in tab.alert
    tab.run("document.getElementById('box-w').value = 30")
    tab.click("#box-add")
    refine(tab)
    assert Image.open(io.BytesIO(fake.forms[0]["mask"][0])).convert("L").getbbox() == (10, 20, 40, 60)


def test_everything_can_be_done_with_the_keyboard(opened, fake, photo, downloads, wait):
    tab = opened(image=None)
    tab.choose()
    tab.tab_to("#choose")
    tab.press("Enter")
    tab.choose(photo)
    tab.until("document.getElementById('drop').hidden")
    tab.tab_to("#paint")
    tab.press(" ", *["ArrowRight"] * 6, *["ArrowDown"] * 4, " ")
    tab.tab_to("#instruction")
    tab.type("Restore it.")
    tab.press("Enter", modifiers=2)
    tab.until(DONE)
    tab.press("Home", "ArrowRight")
    assert tab.run("[document.activeElement.id, document.getElementById('slider').value]") == ["slider", "0.5"]
    for selector in ("#download", "[data-verdict=worse]"):
        tab.tab_to(selector)
        tab.press("Enter")
    wait(lambda: fake.verdicts and (downloads / "temple-refined.png").exists(), "verdict and download")
    assert fake.verdicts == [{"request_id": "r1", "verdict": "worse"}]


def test_images_are_dropped_on_the_page_and_pasted(opened):
    tab = opened(image=None)
    tab.run("""window.give = async (type, kind, target) => {
      const sheet = new OffscreenCanvas(32, 24);
      sheet.getContext("2d").fillRect(0, 0, 32, 24);
      const transfer = new DataTransfer();
      transfer.items.add(new File([await sheet.convertToBlob()], "dropped.png", { type: "image/png" }));
      document.querySelector(target).dispatchEvent(new kind(type, { bubbles: true, [
        type === "paste" ? "clipboardData" : "dataTransfer"]: transfer }));
    }""")
    tab.run("give('drop', DragEvent, '#stage')")
    tab.until("document.getElementById('paint').width == 32")
    tab.run("give('drop', DragEvent, '.panel')")
    tab.until("document.querySelectorAll('#references li').length == 1")
    before = tab.run("document.getElementById('source').src")
    tab.run("give('paste', ClipboardEvent, 'body')")
    tab.until(f"document.getElementById('source').src != '{before}'")


def test_a_verdict_is_given_once(opened, fake):
    tab = opened()
    paint(tab)
    refine(tab)
    tab.click("[data-verdict=better]")
    tab.until("document.querySelector('[data-verdict=better]').disabled")
    assert fake.verdicts == [{"request_id": "r1", "verdict": "better"}]
    assert text(tab, "#verdict-title") == "Thank you, noted."
    refine(tab)
    assert not tab.run("document.querySelector('[data-verdict=better]').disabled")


def test_no_verdict_is_asked_for_where_none_is_kept(opened, fake):
    fake.feedback = False
    tab = opened()
    paint(tab)
    refine(tab)
    assert tab.run("document.getElementById('verdict').hidden")


def test_a_version_can_be_pinned(opened, fake):
    tab = opened()
    names = tab.run("[...document.getElementById('policy').options].map((option) => option.value)")
    tab.run("document.getElementById('policy').value = 'tuned@1'")
    paint(tab)
    refine(tab)
    assert names == ["tuned", "tuned@2", "tuned@1", "base", "base@1"] and fake.forms[0]["model"] == ["tuned@1"]


def test_a_version_that_was_promoted_meanwhile_comes_into_the_list(opened, fake):
    tab = opened()
    fake.active = 3
    paint(tab)
    refine(tab)
    tab.until("document.querySelector('#policy option[value=\"tuned@3\"]')")
    assert text(tab, "#facts").startswith("tuned@3 ") and tab.run("document.getElementById('policy').value") == "tuned"


def test_progress_is_shown_and_cancelling_stops_the_work(opened, fake, wait):
    fake.pause = 0.3
    tab = opened()
    paint(tab)
    tab.click("#refine")
    tab.until("!document.getElementById('preview').hidden")
    assert text(tab, "#running-step") in {f"step {step} of 4" for step in (1, 2, 3)}
    assert tab.run("document.activeElement.id") == "cancel"
    tab.press("Escape")
    tab.until(f"!({RUNNING})")
    wait(lambda: fake.left == 1, "the server to hear of it")
    assert tab.alert == "" and not tab.run("document.getElementById('refine').disabled")


def test_the_result_can_be_edited_on(opened, fake):
    tab = opened()
    paint(tab)
    refine(tab)
    tab.click("#continue")
    tab.until("document.getElementById('result').hidden")
    paint(tab)
    refine(tab)
    assert fake.forms[1]["image"] == [base64.b64decode(fake.replies[0]["images"][0]["b64"])]
    assert tab.run("document.getElementById('download').download") == "temple-refined.png"


def test_both_sides_of_the_close_up_zoom_and_move_together(opened):
    tab = opened()
    paint(tab)
    refine(tab)
    tab.click("[data-view=closeup]")
    shown = "[...document.querySelectorAll('.pane img')].map((image) => image.style.transform)"
    first = tab.run(shown)
    tab.tab_to(".pane")
    tab.press("+", "ArrowRight")
    second = tab.run(shown)
    assert first[0] == first[1] != second[0] == second[1]
    tab.press("0")
    assert tab.run(shown) == first


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_in_both_colour_schemes(opened, dark):
    tab = opened(dark=dark)
    paint(tab)
    refine(tab)
    worst = tab.run(CONTRAST)
    assert worst["ratio"] >= 4.5, worst


CONTRAST = """(() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const light = (colour) => colour.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 :
    ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    const colour = parse(getComputedStyle(node).backgroundColor);
    return (colour[3] ?? 1) === 1 || !node.parentElement ? colour : ground(node.parentElement);
  };
  const nodes = [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility() && !node.disabled &&
    !node.closest(".fit, .unseen") && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()));
  const found = nodes.map((node) => {
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
    return { ratio: (a + 0.05) / (b + 0.05), text: node.innerText };
  });
  return found.sort((x, y) => x.ratio - y.ratio)[0];
})()"""


def test_a_phone_shows_all_of_it_and_takes_a_finger(opened, fake):
    tab = opened(width=390, height=844, phone=True)
    tab.swipe([tab.place("#paint", *point) for point in STROKE])
    assert tab.run("document.documentElement.scrollWidth") == 390
    bottom = tab.run("document.getElementById('refine').getBoundingClientRect().bottom")
    assert bottom <= 844, "the button stays at hand"
    small = "[...document.querySelectorAll('button')].filter((b) => b.checkVisibility()).map((b) => b.offsetHeight)"
    assert min(tab.run(small)) >= 34
    refine(tab)
    assert len(fake.forms) == 1 and tab.run("document.documentElement.scrollWidth") == 390
