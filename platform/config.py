"""The recipe: one pydantic model made of the rooms' own, its digest, and what a resume may change.

Called by the command line and by every worker that is built from a recipe. The rooms own their fields; here they are
only put together. What must fit across rooms is checked in `checks.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from burnish.data.errors import ConfigError, Problem
from burnish.data.layout import DataConfig
from burnish.learners.advantages import AdvantageConfig
from burnish.learners.dar import DarConfig
from burnish.learners.grpo import GrpoConfig
from burnish.learners.sft import SftConfig
from burnish.learners.split import grpo_micro_batches, rank_groups, sft_micro_batches
from burnish.platform.checks import recipe_problems
from burnish.platform.lookup import read_recipe, recipe_path, write_yaml
from burnish.platform.mlflow_sink import TrackingConfig
from burnish.platform.overrides import Override, apply_overrides
from burnish.platform.pools import PoolConfig
from burnish.platform.promoting import ServingConfig
from burnish.platform.sections import CheckpointConfig, ClusterConfig, LearnersConfig
from burnish.platform.validation import differing, digest, validate
from burnish.platform.watch import WatchConfig
from burnish.policies.flux2 import Flux2Config
from burnish.policies.kontext import KontextConfig
from burnish.policies.lora import AdapterConfig
from burnish.policies.pieces import RefinerConfig
from burnish.policies.qwen_edit import QwenEditConfig
from burnish.policies.sampling import SamplerConfig
from burnish.policies.tiny import TinyConfig
from burnish.rewards.rubric import RubricConfig
from burnish.rollouts.evaluation import EvaluationConfig
from burnish.rollouts.guard import GuardConfig
from burnish.rollouts.rollouter import RolloutConfig

T = TypeVar("T")
_MODEL = ConfigDict(frozen=True, extra="forbid", strict=True)
_RUN_OPTION: JsonDict = {"run_option": True}


class PolicyConfig(BaseModel):
    """Which model is trained."""

    model_config = _MODEL

    family: Literal["tiny", "kontext", "flux2", "qwen_edit"] = Field(
        default="tiny", description="name in the policy table"
    )
    tiny: TinyConfig = Field(default=TinyConfig(), description="shape of the tiny model; read where family is tiny")
    kontext: KontextConfig | None = Field(default=None, description="FLUX.1-Kontext; read where family is kontext")
    flux2: Flux2Config | None = Field(default=None, description="FLUX.2-klein; read where family is flux2")
    qwen_edit: QwenEditConfig | None = Field(
        default=None, description="Qwen-Image-Edit 2509 or 2511; read where family is qwen_edit"
    )

    @model_validator(mode="after")
    def _check_family(self) -> PolicyConfig:
        if getattr(self, self.family) is None:
            raise ValueError(f"{self.family}: got nothing, allowed a mapping with path: the family needs it")
        return self

    @property
    def config(self) -> BaseModel:
        """The chosen family's own configuration."""
        return getattr(self, self.family)


class GrpoStage(BaseModel):
    """Reinforcement learning on groups of samples."""

    model_config = _MODEL

    iterations: int = Field(default=20, description="sample, score, update", ge=1)
    examples_per_iteration: int = Field(default=8, description="groups an iteration", ge=1)
    group_size: int = Field(default=16, description="G, samples of one example", ge=2)
    sampler: SamplerConfig = Field(default=SamplerConfig(), description="how trajectories are integrated")
    trains: Literal["adapter", "all"] = Field(
        default="adapter",
        description="an adapter, or all weights: then the learner keeps float32 masters, a frozen copy for KL and its "
        "checkpoints hold the whole model",
    )
    adapter: AdapterConfig = Field(default=AdapterConfig(), description="the adapter, where it is what is trained")
    advantages: AdvantageConfig = Field(default=AdvantageConfig(), description="how rewards become advantages")
    dar: DarConfig = Field(default=DarConfig(), description="how hard groups are weighted")
    update: GrpoConfig = Field(default=GrpoConfig(), description="objective, KL, batches, optimiser")

    @property
    def trained_adapter(self) -> AdapterConfig | None:
        """The adapter that is trained; None where all weights are."""
        return self.adapter if self.trains == "adapter" else None


class RewardsConfig(RubricConfig):
    """The rubric, the actors that score under it, and how it may be changed while a run goes on."""

    workers: int = Field(
        default=1, description="reward actors of the rewards that no pool names", ge=1, json_schema_extra=_RUN_OPTION
    )
    num_cpus: float = Field(default=1.0, description="CPUs each of them takes", ge=0, json_schema_extra=_RUN_OPTION)
    num_gpus: float = Field(
        default=0.0, description="share of a GPU each of them takes", ge=0, json_schema_extra=_RUN_OPTION
    )
    resources: dict[str, float] = Field(
        default={}, description="Ray's custom resources each of them takes", json_schema_extra=_RUN_OPTION
    )
    concurrency: int = Field(
        default=8,
        description="groups a reward actor takes in at a time; their rows share model calls",
        ge=1,
        json_schema_extra=_RUN_OPTION,
    )
    pools: tuple[PoolConfig, ...] = Field(
        default=(), description="actors of their own for some rewards", json_schema_extra=_RUN_OPTION
    )
    control: bool = Field(
        default=True,
        description="open the run's control API on loopback, for `burnish rewards …`",
        json_schema_extra=_RUN_OPTION,
    )
    prepare_deadline: float = Field(
        default=600.0,
        description="seconds after which a new reward that is not ready is refused",
        gt=0.0,
        json_schema_extra=_RUN_OPTION,
    )
    deadline: float = Field(
        default=600.0,
        description="seconds after which scoring a group counts as hung",
        gt=0.0,
        json_schema_extra=_RUN_OPTION,
    )

    @model_validator(mode="after")
    def _check_pools(self) -> RewardsConfig:
        names = [pool.name for pool in self.pools]
        placed = [reward for pool in self.pools for reward in pool.rewards]
        twice = sorted({n for n in names if names.count(n) > 1} | {r for r in placed if placed.count(r) > 1})
        if twice:
            raise ValueError(f"pools: got {twice} more than once, allowed one pool a reward and unique names")
        unknown = sorted(set(placed) - {spec.name for spec in self.rewards})
        if unknown:
            raise ValueError(f"pools: got {unknown}, allowed names of rewards in the rubric")
        return self


class Recipe(BaseModel):
    """One experiment, complete: nothing that changes a number stands elsewhere, but for the seed."""

    model_config = _MODEL

    name: str = Field(
        description="part of the run id", pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", json_schema_extra=_RUN_OPTION
    )
    description: str = Field(default="", description="what it is for", json_schema_extra=_RUN_OPTION)
    evidence: str = Field(default="", description="how well it is proved, and by what", json_schema_extra=_RUN_OPTION)
    stages: tuple[Literal["sft", "grpo"], ...] = Field(
        default=("sft", "grpo"), description="in this order", min_length=1
    )
    data: DataConfig = Field(default=DataConfig(), description="which examples")
    policy: PolicyConfig = Field(default=PolicyConfig(), description="which model")
    sft: SftConfig = Field(default=SftConfig(), description="supervised: trains all weights; its result is GRPO's base")
    grpo: GrpoStage = Field(default=GrpoStage(), description="reinforcement learning on groups of samples")
    rewards: RewardsConfig = Field(description="what scores, and how it is combined")
    rollouts: RolloutConfig = Field(default=RolloutConfig(), description="how groups are collected")
    learners: LearnersConfig = Field(default=LearnersConfig(), description="where updates are computed")
    evaluation: EvaluationConfig = Field(default=EvaluationConfig(), description="how much is evaluated, how often")
    guard: GuardConfig = Field(default=GuardConfig(), description="when gold metrics overrule the reward")
    watch: WatchConfig = Field(default=WatchConfig(), description="when a run without a signal stops")
    refiner: RefinerConfig = Field(
        default=RefinerConfig(), description="how an image of any size is cropped and pasted"
    )
    checkpoints: CheckpointConfig = Field(default=CheckpointConfig(), description="commits of the run's state")
    cluster: ClusterConfig = Field(
        default=ClusterConfig(), description="how much a run puts up with", json_schema_extra=_RUN_OPTION
    )
    tracking: TrackingConfig = Field(default=TrackingConfig(), description="MLflow", json_schema_extra=_RUN_OPTION)
    serving: ServingConfig = Field(
        default=ServingConfig(), description="promotion while the run goes on", json_schema_extra=_RUN_OPTION
    )

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        problems = recipe_problems(self)  # pyright: ignore[reportArgumentType]  # one file, two names
        if problems:
            raise ConfigError("the recipe's parts do not fit", problems)
        return self

    @property
    def grpo_micro_batches(self) -> int:
        """Micro-batches of one rank in one GRPO update: (examples / updates) * (group size / micro-batch) / ranks."""
        grpo, world = self.grpo, self.learners.ranks
        update = {"micro_batch": grpo.update.micro_batch, "updates": grpo.update.updates_per_iteration}
        return grpo_micro_batches(grpo.examples_per_iteration, group_size=grpo.group_size, world=world, **update)

    @property
    def sft_micro_batches(self) -> int:
        """Micro-batches of one rank in one supervised step: batch / micro-batch / ranks."""
        return sft_micro_batches(self.sft.batch, micro_batch=self.sft.micro_batch, world=self.learners.ranks)

    def rank_groups(self, groups: Sequence[T]) -> list[list[T]]:
        """An iteration's groups in example order, dealt to the learner ranks: one list a rank, update after update."""
        updates, world = self.grpo.update.updates_per_iteration, self.learners.ranks
        dealt = (rank_groups(len(groups), updates=updates, rank=rank, world=world) for rank in range(world))
        return [[groups[i] for indices in update for i in indices] for update in dealt]


def load_recipe(name_or_path: str, overrides: Sequence[Override] = ()) -> Recipe:
    """Find, read, override and validate a recipe.

    Args:
        name_or_path: a name in `recipes/` or a path that ends in .yaml or .yml.
        overrides: (dotted field, YAML text), later ones win.

    Raises:
        ConfigError: with every problem: field, got, allowed, hint.
    """
    path = recipe_path(name_or_path)
    return validate(Recipe, apply_overrides(read_recipe(path), overrides), source=str(path))


def config_digest(recipe: Recipe) -> str:
    """sha256 (hex) of everything in the recipe that can change a number; run options are left out."""
    return digest(_comparable(recipe))


def _comparable(recipe: Recipe) -> Recipe:
    """The recipe without what changes no byte under its own rules: with the reproducible reduction, the rank count."""
    if recipe.learners.engine.reduction != "reproducible":
        return recipe
    return recipe.model_copy(update={"learners": recipe.learners.model_copy(update={"ranks": 1})})


def resolved_yaml(recipe: Recipe) -> str:
    """The recipe with overrides and defaults as YAML text; `load_recipe` of it gives an equal recipe."""
    return write_yaml(recipe.model_dump(mode="json"))


def changed_keys(old: Recipe, new: Recipe) -> tuple[str, ...]:
    """Dotted keys whose values differ and change the digest, sorted."""
    return tuple(differing(_comparable(old), _comparable(new)))


def check_resume(old: Recipe, new: Recipe, *, allow: Sequence[str] = ()) -> tuple[str, ...]:
    """Refuse a resume under a recipe that computes something else.

    Args:
        old: the run's recipe.
        new: what it would go on with.
        allow: dotted keys that may differ; a key allows all below it.

    Returns:
        The keys that differ and are allowed.

    Raises:
        ConfigError: naming every other key that differs.
    """
    changes = differing(_comparable(old), _comparable(new))
    refused = {k: v for k, v in changes.items() if not any(k == a or k.startswith(f"{a}.") for a in allow)}
    if refused:
        problems = [Problem(key, repr(b), repr(a), f"--allow-change {key}") for key, (a, b) in refused.items()]
        raise ConfigError("the recipe differs from the run's", problems)
    return tuple(changes)
