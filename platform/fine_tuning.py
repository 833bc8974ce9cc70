"""Supervised fine-tuning over several ranks on Ray Train, which places, watches and restarts them.

Ray Train starts a group of ranks again when one of them, its node or the machine beneath it is lost; burnish's engine,
commits and order of examples are the same as everywhere, so the group goes on from the last commit to the same bytes.
Called by `stages.py` where a run on Ray has `learners.ranks` > 1. Its workers are gone before GRPO's learner starts.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.data.errors import BurnishError, InfrastructureError
from burnish.platform.config import Recipe
from burnish.platform.context import settled
from burnish.platform.examples import recipe_source
from burnish.platform.executor import Role
from burnish.platform.journal import Journal
from burnish.platform.learning import LearnerWorker
from burnish.platform.ledger import Ledger
from burnish.platform.local import LocalExecutor
from burnish.platform.runs import Run
from burnish.platform.tracking import NoTracker

SFT_BLOCK = 50
"""Steps of supervised fine-tuning between commits."""
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class FineTuning:
    """One stage for Ray Train.

    Args:
        run: the run's directory, which every rank reads and rank 0 writes.
        recipe, seed: the run's.
    """

    run: Path
    recipe: Recipe
    seed: int

    @property
    def place(self) -> Path:
        """What Ray Train itself keeps; burnish's commits are elsewhere."""
        return self.run / ".ray-train"

    @property
    def stop(self) -> Path:
        """A file whose presence asks the ranks to leave after their block."""
        return self.run / ".stop-sft"


def fine_tune(
    job: FineTuning, *, interrupted: Callable[[], bool], told: Callable[[int, Mapping[str, float]], None]
) -> None:
    """Fine-tune to the end, or to the end of the block in which somebody interrupted; everything is committed then.

    Args:
        job: what to train.
        interrupted: asked about twice a second.
        told: hears of each committed block: its last step, and metrics.

    Raises:
        BurnishError: see `cause_of`; the ranks failed more often than `cluster.restarts`.
        RefusedError: `told` found that another copy of the run went on.
    """
    from ray.train import TrainingFailedError

    for path in (job.place, job.stop):
        _remove(path)
    metrics = Journal(job.run / "metrics.jsonl")
    offset = metrics.offset
    try:
        with ThreadPoolExecutor(1) as pool:
            fitted = pool.submit(_trainer(job).fit)
            try:
                while not fitted.done():
                    wait([fitted], timeout=_LOOK_SECONDS)
                    if interrupted():
                        job.stop.touch()
                    offset = _tell(metrics, offset, told)
                _tell(metrics, offset, told)
                fitted.result()
            finally:
                job.stop.touch()  # leaving waits for the ranks: whatever ended this, they stop after their block
    except TrainingFailedError as error:
        raise cause_of(error) from error
    finally:
        for path in (job.place, job.stop):
            _remove(path)


def cause_of(error: Exception) -> BurnishError:
    """Why Ray Train gave up: what burnish refused on a rank, as it was raised there; all else may be the machine."""
    failures: Mapping[int, Exception] = getattr(error, "worker_failures", {})
    raised = {rank: getattr(failure, "_base_exc", failure) for rank, failure in failures.items()}
    for cause in raised.values():
        if isinstance(cause, BurnishError) and not isinstance(cause, InfrastructureError):
            return cause
    lines = [f"rank {rank}: {cause!r}" for rank, cause in raised.items()]
    return InfrastructureError(f"fine-tuning failed too often: {(lines or [str(error)])[0][:300]}")


def _trainer(job: FineTuning) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    learners = job.recipe.learners
    share = {"CPU": learners.num_cpus, "GPU": learners.num_gpus, **learners.resources}
    return TorchTrainer(
        rank_main,
        train_loop_config={"job": job},
        torch_config=TorchConfig("nccl" if learners.num_gpus else "gloo", timeout_s=int(learners.deadline)),
        scaling_config=ScalingConfig(
            num_workers=learners.ranks,
            use_gpu=learners.num_gpus > 0,
            resources_per_worker={name: amount for name, amount in share.items() if amount},
        ),
        run_config=RunConfig(
            name="sft",
            storage_path=str(job.place.resolve()),
            failure_config=FailureConfig(max_failures=job.recipe.cluster.restarts),
        ),
    )


def rank_main(config: Mapping[str, Any]) -> None:
    """One rank, from the last commit to the end of the stage and the run's base."""
    import torch
    from ray import train

    torch.set_num_threads(1)
    job: FineTuning = config["job"]
    rank, world = train.get_context().get_world_rank(), train.get_context().get_world_size()
    worker = LearnerWorker(job.recipe, job.seed, None, rank, world)
    ledger = _ledger(job, worker)
    found = _agreed(str(ledger.resume() or "") if rank == 0 else None)
    worker.begin_sft(Path(found) if found else None)
    first, total = _agreed(ledger.iteration), job.recipe.sft.steps
    if not found:
        _commit(ledger, worker, first, rank)
    with settled(ledger):
        while first < total:
            last, began = min(total, first + SFT_BLOCK - first % SFT_BLOCK), time.perf_counter()
            metrics = worker.sft(first, last)
            if rank == 0:
                ledger.finish(last, metrics, {"learn": time.perf_counter() - began})
            else:
                _commit(ledger, worker, last, rank)
            train.report({"step": last, **metrics})
            if _agreed(job.stop.exists()) and last < total:
                return
            first = last
    _agreed(None)  # the base is written after the last commit is on disk
    if not _agreed((job.run / "base").is_dir()):
        worker.write_base(job.run)


def _agreed(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    from ray.train.collective import broadcast_from_rank_zero

    return broadcast_from_rank_zero(value)


def _commit(ledger: Ledger, worker: LearnerWorker, step: int, rank: int) -> None:
    """A commit; all ranks gather the weights, rank 0 writes them."""
    if rank == 0:
        ledger.commit()
    else:
        worker.save(ledger.checkpoints, ledger.name(step), {})


def _ledger(job: FineTuning, worker: LearnerWorker) -> Ledger:
    """The stage's ledger, whose learner is this very process."""
    executor = LocalExecutor()
    executor.start(Role("learner", lambda rank, world: worker, gang=True))
    count = recipe_source(job.recipe).count("train")
    return Ledger(Run(job.run), "sft", recipe=job.recipe, executor=executor, tracker=NoTracker(), train_count=count)


def _tell(metrics: Journal, offset: int, told: Callable[[int, Mapping[str, float]], None]) -> int:
    """Pass on lines that came since; returns where they end. A group that began anew cuts the file back."""
    end = metrics.offset
    for line in metrics.tail(min(offset, end)):
        told(line["step"], {name: value for name, value in line.items() if isinstance(value, float)})
    return end


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
