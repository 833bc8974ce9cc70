import json
import subprocess
import sys

import pytest

from burnish.data.errors import DataError, InfrastructureError, RefusedError
from burnish.platform.cli import guarded, main
from burnish.platform.runs import RunStore


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Run the command line in an empty runs directory: (exit code, stdout, stderr)."""
    monkeypatch.setenv("BURNISH_RUNS_DIR", str(tmp_path / "runs"))

    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def test_help_and_version_leave_with_zero(call):
    code, out, _ = call("--help")
    assert code == 0 and all(name in out for name in ("train", "runs", "doctor"))
    assert call("--version")[1].strip()


def test_a_dry_run_prints_the_resolved_recipe_and_its_digest(call, recipe_file):
    code, out, _ = call("train", recipe_file(), "--dry-run", "--grpo.iterations", "7", "--grpo.update.kl.beta=0.5")
    assert code == 0 and "iterations: 7" in out and "beta: 0.5" in out and "# config_digest: " in out
    code, out, _ = call("train", recipe_file(), "--dry-run", "--json")
    assert len(json.loads(out)["config_digest"]) == 64


def test_every_problem_of_a_recipe_is_on_standard_error_and_the_code_is_2(call, recipe_file):
    code, out, err = call("train", recipe_file(), "--dry-run", "--grpo.group_sise", "8", "--grpo.iterations", "0")
    assert (code, out) == (2, "")
    assert "did you mean group_size" in err and "grpo.iterations: got 0" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "nope"),
        ("train", "--grpo.iterations"),
        ("train", "--executor", "slurm"),
        ("train", "--stages", "sft,dpo"),
        ("train", "--seed", "-1"),
        ("train", "--resume", "../x"),
        ("train", "--resume", "tiny-0-20200101000000-abcd"),
        ("train", "--nonsense"),
        ("runs", "show", "..%2f"),
        ("runs", "compare", "a", "b"),
        ("doctor", "--grpo.iterations", "3"),
        ("nothing",),
    ],
)
def test_a_users_mistake_leaves_with_2_and_says_something(call, arguments):
    code, _, err = call(*arguments)
    assert code == 2 and err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("x"), 3),
        (InfrastructureError("x"), 4),
        (RefusedError("x"), 5),
        (KeyboardInterrupt(), 130),
        (OSError(28, "x"), 4),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error, code):
    import typer

    def command():
        raise error

    with pytest.raises(typer.Exit) as left:
        guarded(command)()
    assert left.value.exit_code == code


def test_runs_are_listed_shown_compared_and_pruned(call, store):
    assert "no runs yet" in call("runs", "list")[1]
    first, second = store.create("tiny", 0).id, store.create("tiny", 1).id
    store.open(second).update(created="2999-01-01T00:00:00Z")
    assert [run["id"] for run in json.loads(call("runs", "list", "--json")[1])] == [first, second]
    assert json.loads(call("runs", "show", first, "--json")[1])["run"]["seed"] == 0
    assert "*  seed" in call("runs", "compare", first, second)[1]
    assert call("runs", "prune", "--keep-last", "1")[1] == f"{first}\n1 removed\n"


def test_doctor_speaks_json(call):
    code, out, _ = call("doctor", "--json")
    assert code == 0 and {"name", "status", "detail", "hint"} == json.loads(out)[0].keys()


def test_the_command_line_starts_without_torch_or_ray():
    code = "import sys, burnish.platform.cli, burnish.platform.doctor, burnish.platform.runs_view; "
    code += "print({'torch', 'ray', 'mlflow'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
