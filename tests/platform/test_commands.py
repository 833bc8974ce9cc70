"""Commands on a finished run: eval, export, refine, report, and a start from its base."""

import json
import shutil

import numpy as np
import pytest

from burnish.data.images import load_image, save_png
from burnish.data.seeding import normal
from burnish.platform.checkpoints import committed
from burnish.platform.cli import main
from burnish.platform.runs import RunStore


@pytest.fixture
def call(capsys, smoke):
    """Run the command line on the session's smoke run: (exit code, stdout, stderr)."""

    def run(*arguments, runs=smoke.path.parent):
        with pytest.raises(SystemExit) as left:
            main([*map(str, arguments), "--runs-dir", str(runs)])
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def picture(tmp_path):
    """A photograph of 40 x 56 pixels, on disk."""
    noise = normal((3, 40, 56), 0, "test-picture")
    save_png(tmp_path / "in.png", np.clip(0.5 + 0.2 * noise, 0, 1).astype(np.float32))
    return tmp_path / "in.png"


@pytest.fixture
def copied(smoke, tmp_path):
    """A copy of the smoke run that a test may change."""
    shutil.copytree(smoke.path, tmp_path / "runs" / smoke.id)
    return RunStore(tmp_path / "runs").open(smoke.id)


@pytest.mark.parametrize(("split", "checkpoint"), [("heldout", None), ("dev", "last"), ("heldout", "base")])
def test_an_evaluation_equals_the_runs_own_bit_for_bit(call, smoke, split, checkpoint):
    chosen = [] if checkpoint is None else ["--checkpoint", checkpoint]
    code, out, _ = call("eval", smoke.id, "--split", split, "--json", *chosen)
    found = json.loads(out)
    assert code == 0 and found["equals_the_runs_own"] == {"ode": True, "sde": True}
    assert found["checkpoint"] == ("base" if checkpoint == "base" else "step-000004")


def test_the_table_of_an_evaluation_has_a_line_for_every_source_and_sampler(call, smoke):
    code, out, err = call("eval", smoke.id, "--split", "dev")
    assert (code, err) == (0, "")
    assert all(f"{sampler}      drawn, all" in out and f"{sampler}      drawn_" in out for sampler in ("ode", "sde"))
    assert "ode: equal to the run's own rows" in out


def test_an_export_computes_the_same_in_plain_diffusers_and_refines_the_same(call, smoke, picture, tmp_path):
    code, out, _ = call("export", smoke.id, "--to", tmp_path / "out", "--checkpoint", "last", "--json")
    made = json.loads(out)
    assert code == 0 and made["difference"] <= 1e-6 < made["effect"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"base", "adapter", "snapshot.json", "manifest.json"}
    name = made["checkpoint"]
    asked = ("refine", picture, "--box", "20,10,34,22", "--reference", picture, "--seed", 3)
    call(*asked, "--run", smoke.id, "--checkpoint", name, "-o", tmp_path / "a.png")
    call(*asked, "--snapshot", tmp_path / "out", "-o", tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_refine_changes_the_region_and_nothing_else(call, smoke, picture, tmp_path):
    region = np.zeros((1, 40, 56), np.float32)
    region[:, 12:20, 30:40] = 1
    save_png(tmp_path / "mask.png", region)
    code, out, _ = call(
        "refine", picture, "--mask", tmp_path / "mask.png", "--run", smoke.id, "-o", tmp_path / "out.png", "--json"
    )
    proof = json.loads(out)
    assert code == 0 and proof["moved"] == 0 < proof["changed"] < proof["pixels"] - proof["outside"] + 1
    same = (load_image(tmp_path / "out.png") == load_image(picture)).all(axis=0)
    assert same[:3].all() and same[:, :20].all() and not same[12:20, 30:40].all()


def test_the_report_is_written_again_from_the_runs_files(call, copied):
    report = copied.path / "report.html"
    before = report.read_text()
    report.unlink()
    code, out, _ = call("report", copied.id, runs=copied.path.parent)
    assert code == 0 and str(report) in out and report.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("eval", "RUN", "--split", "train"), 2),
        (("eval", "RUN", "--checkpoint", "step-000077"), 2),
        (("eval", "nobody"), 2),
        (("eval", "RUN", "--grpo.iterations", "3"), 2),
        (("export", "RUN", "--to", "."), 2),
        (("export", "RUN", "--to", "x", "--checkpoint", "base"), 2),
        (("refine", "in.png", "--run", "RUN", "-o", "x.png"), 2),
        (("refine", "in.png", "--box", "1,2,3", "--run", "RUN", "-o", "x.png"), 2),
        (("refine", "in.png", "--box", "1,2,9,9", "-o", "x.png"), 2),
        (("refine", "in.png", "--box", "1,2,9,9", "--run", "RUN", "-o", "x.jpg"), 2),
        (("refine", "in.png", "--box", "1,2,900,9", "--run", "RUN", "-o", "x.png"), 3),
        (("refine", "nothing.png", "--box", "1,2,9,9", "--run", "RUN", "-o", "x.png"), 3),
        (("train", "smoke", "--from", "nobody"), 2),
        (("train", "smoke", "--from", "RUN", "--resume", "auto"), 2),
        (("train", "smoke", "--from", "RUN", "--policy.tiny.num_single_layers", "3"), 2),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(call, smoke, picture, monkeypatch, arguments, code):
    monkeypatch.chdir(picture.parent)
    got, out, err = call(*(smoke.id if a == "RUN" else a for a in arguments))
    assert (got, out) == (code, "") and err.startswith(("error: ", "Usage"))
    assert [p.name for p in picture.parent.iterdir()] == ["in.png"]
    assert len(RunStore(smoke.path.parent).infos()) == 1


@pytest.mark.parametrize("damaged", ["base/policy.json", "stages/grpo/checkpoints/step-000004/policy.safetensors"])
def test_a_damaged_file_is_named_before_anything_is_computed(call, copied, damaged):
    with (copied.path / damaged).open("ab") as stream:
        stream.write(b" ")
    code, _, err = call("eval", copied.id, runs=copied.path.parent)
    assert code == 3 and damaged.rsplit("/", 1)[1] in err


def test_the_result_of_a_run_that_was_rolled_back_is_its_best_commit(copied):
    from burnish.platform.commands import choose_policy
    from burnish.platform.manifest import seal

    newest = committed(copied.path / "stages" / "grpo" / "checkpoints")[-1]
    state = json.loads((newest / "state.json").read_text())
    state["notes"]["ended"], state["best"] = "rollback", committed(newest.parent)[0].name
    (newest / "state.json").write_text(json.dumps(state))
    seal(newest)
    assert choose_policy(copied, None).name == state["best"] != choose_policy(copied, "last").name
    config = copied.path / "config.yaml"
    config.write_text(config.read_text().replace("rollback_to: best", f"rollback_to: {newest.name}"))
    assert choose_policy(copied, None).name == newest.name


def test_a_run_from_anothers_base_skips_fine_tuning_and_says_so(burnish, copied):
    child = burnish("smoke", "--from", copied.id, "--grpo.iterations", "1", runs=copied.path.parent)
    assert child.wait() == 0 and "fine-tuning" not in child.text
    run, summary = child.run, child.summary
    assert summary["start_from"] == run.info.start_from == copied.id
    assert summary["stages"]["sft"]["steps"] == 0 and summary["iterations"] == 1
    file = "base/transformer/diffusion_pytorch_model.safetensors"
    assert (run.path / file).read_bytes() == (copied.path / file).read_bytes()
