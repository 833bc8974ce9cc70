"""The report: one safe, self-contained page from a run's files, whatever of them is there."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from burnish.data.errors import DataError
from burnish.data.layout import DataConfig
from burnish.data.records import Example, SamplerSpec
from burnish.data.sources import make_source
from burnish.rollouts.eval_result import compare, merge
from burnish.rollouts.evaluation import EvalPart, EvaluationConfig, Evaluator, evaluation_examples
from burnish.rollouts.report import ReportData, read_report, write_report
from burnish.rollouts.report_charts import Event
from burnish.rollouts.report_pictures import Picture, choose, collect, load, save

VOID = {"meta", "img"}
EVIL = '<script>alert("x")</script>'


class Outline(HTMLParser):
    """Checks that tags are balanced and collects attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    source = make_source(DataConfig(reference_weights=(1.0, 1.0, 2.0)))
    return evaluation_examples(source, "heldout", count=32, block=16, config=EvaluationConfig())


def part(examples: list[Example], share: float) -> EvalPart:
    def sample(batch: list[Example], sampler: SamplerSpec) -> np.ndarray:
        return np.stack([e.image + share * (e.target - e.image) for e in batch if e.image is not None])

    evaluator = Evaluator(EvaluationConfig(), sample=sample)  # type: ignore[arg-type]
    return evaluator.evaluate(examples, sampler=SamplerSpec("ode", 4), keep=choose(examples, 5))


@pytest.fixture(scope="module")
def run_dir(examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-0")
    sft, grpo = part(examples, 0.5), part(examples, 0.6)
    save(folder / "images", collect(examples, {"SFT": sft, "GRPO": grpo}))
    before, after = merge([sft]), merge([grpo])
    held = {"before": before.to_json(), "after": after.to_json(), "change": compare(before, after).to_json()}
    summary = {
        "run_id": "tiny-0",
        "reproducible": True,
        "policy_digest": "ab" * 32,
        "stages": {"sft": {"heldout": {"ode": {"after": before.to_json()}}}, "grpo": {"heldout": {"ode": held}}},
        "timing": {"sample": 2.0, "score": 1.0, "learn": 1.0},
        "events": [{"iteration": 3, "label": f"weight of {EVIL} changed"}],
        "warnings": [EVIL],
    }
    lines = [{"stage": "sft", "step": i, "loss": 1 / i} for i in range(1, 40)]
    lines += [{"stage": "grpo", "step": i, "reward/toy/mean": None, "kl": 0.1 * i, "odd": 1.0} for i in range(1, 6)]
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')
    return folder


@pytest.fixture(scope="module")
def text(run_dir: Path) -> str:
    return write_report(run_dir / "report.html", read_report(run_dir)).read_text(encoding="utf-8")


def test_the_headline_is_the_paired_held_out_change(text: str) -> None:
    headline = re.search("<h1>(.*?)</h1>", text)
    assert headline and headline[1].startswith("GRPO lowers the held-out error by <em>36.0 %</em>")
    assert "95 % interval 36.0 to 36.0 %" in headline[1]


def test_the_page_makes_no_request_and_runs_no_script(text: str) -> None:
    assert not re.search(r"<script|<link|<iframe|@import|https?://|url\(|\son\w+=", text)
    assert "default-src 'none'" in text
    assert "&lt;script&gt;alert" in text


def test_tags_are_balanced_and_every_picture_has_a_text(text: str) -> None:
    outline = Outline()
    outline.feed(text)
    assert not outline.open
    pictures = [a for t, a in outline.seen if t == "img"]
    assert len(pictures) > 20
    assert all(a["alt"] and str(a["src"]).startswith("data:image/png;base64,") for a in pictures)
    assert all(a.get("aria-label") for t, a in outline.seen if t == "svg")


def test_all_sections_are_there(text: str) -> None:
    for words in (
        "Before and after",
        "Held-out results",
        "Fine-tuning loss",
        "KL to the reference",
        "Time",
        "1 warning",
    ):
        assert words in text
    assert "More metrics (1)" in text and ">odd<" in text
    assert "iteration 3: weight of" in text
    assert "photo:" in text and "by degradation" in text


def test_a_run_that_has_only_begun_has_a_report_too(tmp_path: Path) -> None:
    text = write_report(tmp_path / "report.html", read_report(tmp_path)).read_text(encoding="utf-8")
    assert "No held-out evaluation yet" in text
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def claim(mean: float, low: float | None, high: float | None, folder: Path) -> str:
    figure = {"masked_mse": {"mean": 0.01, "n": 9}, "input_masked_mse": {"mean": 0.05, "n": 9}}
    relative = {"masked_mse": {"relative": {"mean": mean, "low": low, "high": high}}}
    stages = {
        "sft": {"heldout": {"ode": {"after": {"primary": figure}}}},
        "grpo": {"heldout": {"ode": {"after": {"primary": figure}, "change": {"primary": relative}}}},
    }
    path = write_report(folder / "report.html", ReportData("r", {"stages": stages}))
    found = re.search("<h1>(.*?)</h1>", path.read_text(encoding="utf-8"))
    return re.sub("<.*?>", "", found[1]) if found else ""


def test_the_headline_does_not_boast(tmp_path: Path) -> None:
    assert "not clear of 0 95 % interval −5.0 % to +1.0 %" in claim(-0.02, -0.05, 0.01, tmp_path)
    assert "raises the held-out error by 2.0 %" in claim(0.02, 0.01, 0.03, tmp_path)
    assert claim(-0.02, None, None, tmp_path) == "GRPO changed the held-out error by −2.0 %"


def test_a_run_of_fine_tuning_alone_says_what_it_removed(tmp_path: Path) -> None:
    figure = {"masked_mse": {"mean": 0.01, "n": 9}, "input_masked_mse": {"mean": 0.05, "n": 9}}
    stages = {"sft": {"heldout": {"ode": {"after": {"primary": figure}}}}}
    path = write_report(tmp_path / "report.html", ReportData("r", {"stages": stages}, events=[Event(1, "x")]))
    assert "SFT removes <em>80 %</em>" in path.read_text(encoding="utf-8")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    for name, content in (("summary.json", "[1]"), ("run.json", "{"), ("metrics.jsonl", "{\n")):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=name):
            read_report(tmp_path)
        (tmp_path / name).unlink()


def test_pictures_survive_the_disk(run_dir: Path, examples: list[Example]) -> None:
    pictures = load(run_dir / "images")
    assert [p.example_id for p in pictures] == [e.id for e in examples if e.id in choose(examples, 5)]
    first, example = pictures[0], next(e for e in examples if e.id == pictures[0].example_id)
    assert list(first.outputs) == ["SFT", "GRPO"]
    assert first.errors["SFT"] > first.errors["GRPO"] > 0
    assert len(first.references) == example.num_references
    np.testing.assert_allclose(first.target, example.target, atol=0.5 / 255)


def test_pictures_are_chosen_by_order_from_every_source(examples: list[Example]) -> None:
    sources = [i.rsplit("-heldout", 1)[0] for i in choose(examples, 4)]
    assert len(set(sources)) == 4
    assert choose(examples, 4) == choose(examples, 8)[:4]


def test_pictures_without_an_index_are_none_and_a_bad_index_is_named(tmp_path: Path) -> None:
    assert load(tmp_path) == []
    target = np.zeros((3, 4, 4), np.float32)
    save(tmp_path, [Picture("x", "s", "", "", (0, 0, 4, 4), None, target)])
    assert load(tmp_path)[0].input is None
    (tmp_path / "pictures.json").write_text('[{"box": [0, 0, 1, 1]}]')
    with pytest.raises(DataError, match="not an index"):
        load(tmp_path)
