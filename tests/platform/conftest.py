"""Recipes, one undisturbed smoke run, children that run the command line, and the session's Ray."""

import importlib.util
import json
import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from burnish.platform.checkpoints import latest_verified
from burnish.platform.cli import main
from burnish.platform.executor import Role
from burnish.platform.placement import local_ray
from burnish.platform.runs import Run, RunStore

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # read at the first `import ray`; tests only

MINIMAL = """
name: small
rewards:
  rewards:
    - {name: pixels, kind: masked_pixel}
"""
PRELOAD = [
    "burnish.platform.train",
    "burnish.learners.deepspeed_engine",
    "deepspeed",
    "diffusers.models.transformers.transformer_flux",
    "peft",
]
QUICK = ("--tracking.enabled", "false", "--evaluation.count", "8", "--evaluation.dev_count", "4")
"""Evaluate little and leave MLflow out: neither changes a digest."""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[[str], str]:
    """Write a minimal recipe with more lines; gives its path."""

    def write(more: str = "", *, name: str = "recipe.yaml") -> str:
        path = tmp_path / name
        path.write_text(MINIMAL + more)
        return str(path)

    return write


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One undisturbed run of the smoke recipe, seed 0, in this process."""
    root = tmp_path_factory.mktemp("smoke")
    with pytest.raises(SystemExit) as left:
        main(["train", "smoke", "--executor", "local", "--runs-dir", str(root), *QUICK])
    assert not left.value.code
    (info,) = RunStore(root).infos()
    return RunStore(root).open(info.id)


@pytest.fixture(scope="session")
def smoke_digest(smoke: Run) -> str:
    """state_digest of that run."""
    return json.loads((smoke.path / "summary.json").read_text())["state_digest"]


@pytest.fixture(scope="session")
def state_of() -> Callable[[Run], dict[str, Any]]:
    """state.json of a run's newest GRPO checkpoint, verified."""

    def read(run: Run) -> dict[str, Any]:
        found = latest_verified(run.path / "stages" / "grpo" / "checkpoints")
        return json.loads((found / "state.json").read_text()) if found else {}

    return read


@dataclass
class Child:
    """One `burnish` command in a process of its own."""

    process: Any
    log: Path
    runs: RunStore

    def wait(self, seconds: float = 240.0) -> int:
        """Exit code; minus the signal where one killed it."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"still running after {seconds} s: {self.text}"
        return self.process.exitcode

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text() if self.log.exists() else ""

    @property
    def run(self) -> Run:
        """The newest run of its runs directory."""
        return self.runs.open(self.runs.infos()[-1].id)

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json of that run."""
        return json.loads((self.run.path / "summary.json").read_text())

    @property
    def longest(self) -> float:
        """Seconds that the run's longest iteration of GRPO cost, with what came before it; printed with the others."""
        lines = (self.run.path / "trace.json").read_text().splitlines()[1:]
        spans = [json.loads(line.rstrip(",")) for line in lines]
        done = [(s["ts"], s["ts"] + s["dur"]) for s in spans if (s["name"], s.get("cat")) == ("iteration", "grpo")]
        since = [done[0][0], *(end for _, end in done)]
        taken = [(end - start) / 1e6 for start, (_, end) in zip(since, done, strict=False)]
        print(f"iterations took {', '.join(f'{seconds:.1f}' for seconds in taken)} s")
        return max(taken)


@pytest.fixture(scope="session")
def forks() -> Any:
    """Where children are forked from: a server that has imported everything and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


@pytest.fixture
def burnish(forks: Any, tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Start `burnish train` in a child, on the local executor unless said otherwise; `wait()` for it."""
    children: list[Child] = []

    def start(
        *arguments: str, executor: str = "local", fail_point: str = "", runs: Path | None = None, **environment: str
    ) -> Child:
        store = RunStore(runs or tmp_path / "runs")
        log = tmp_path / f"{len(children)}.log"
        argv = ["train", *QUICK, *arguments, "--executor", executor, "--runs-dir", str(store.root)]
        given = {"ENVIRONMENT": {"BURNISH_FAIL_POINT": fail_point, **environment}, "ARGUMENTS": argv, "LOG": str(log)}
        script = str(Path(__file__).parent / "child.py")
        process = forks.Process(target=runpy.run_path, args=(script, given, "__main__"))
        process.start()
        children.append(Child(process, log, store))
        return children[-1]

    yield start
    for child in children:
        child.process.kill()
        child.process.join()
        child.process.close()


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    """The module `fakes.py` beside this file."""
    spec = importlib.util.spec_from_file_location("platform_fakes", Path(__file__).parent / "fakes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """The session's one local Ray, with places for the actors of every test."""
    with local_ray([Role("any", lambda rank, world: None, count=8)]):
        from ray._private import worker

        worker.print_to_stdstream = lambda *args, **options: None  # it would stand in what a later test captures
        yield
