"""What each part of the method is worth: arms of one recipe that differ in one switch, on a shared fine-tuning.

    python benchmarks/ablation.py [RECIPE] --seeds 3 [--jobs 2] [--iterations N] [--runs-dir DIR]
        [--markdown benchmarks/ablation.md]
    python benchmarks/ablation.py [RECIPE] --reuse DIR        # read finished runs of DIR, start nothing

Every arm is a recipe file of its own (written to the runs directory), so its digest says that it differs. The arm
without reinforcement learning is the fine-tuning itself; the others start on its base (`burnish train --from`).
Intervals are Student's t over seeds of the paired relative change of the held-out masked error, ODE sampler.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import Page, parser
from studies import Job, Study, column, finished, mean, over_seeds, percent, relative, train_all

from burnish.platform.lookup import read_recipe, recipe_path
from burnish.platform.overrides import apply_overrides

Tree = dict[str, Any]
ERROR = column("masked_mse")
SFT_ONLY, FULL, CONTROL = "no-rl", "full", "shuffled-advantages"


def _no_rl(tree: Tree) -> None:
    tree["stages"] = ["sft"]


def _no_masked_pixel(tree: Tree) -> None:
    kept = [r for r in tree["rewards"]["rewards"] if r["kind"] != "masked_pixel"]
    tree["rewards"]["rewards"] = kept
    dar = tree["grpo"].get("dar", {})
    if dar.get("reward") and dar["reward"] not in [r["name"] for r in kept]:
        dar["reward"] = ""


def _no_dar(tree: Tree) -> None:
    tree["grpo"].setdefault("dar", {})["enabled"] = False


def _no_drs(tree: Tree) -> None:
    for reward in tree["rewards"]["rewards"]:
        reward.pop("drs", None)


def _weighted_sum(tree: Tree) -> None:
    tree["rewards"]["aggregation"] = "weighted_sum"


def _shuffled(tree: Tree) -> None:
    tree["grpo"].setdefault("advantages", {})["control"] = "shuffled"


ARMS: dict[str, Callable[[Tree], None]] = {
    SFT_ONLY: _no_rl,
    FULL: lambda tree: None,
    "no-masked-pixel": _no_masked_pixel,
    "no-dar": _no_dar,
    "no-drs": _no_drs,
    "weighted-sum": _weighted_sum,
    CONTROL: _shuffled,
}


def arm_tree(recipe: Tree, arm: str) -> Tree:
    """A recipe with one switch turned."""
    tree = copy.deepcopy(recipe)
    ARMS[arm](tree)
    return {**tree, "name": f"ablation-{arm}"}


def write_arms(recipe: Tree, directory: Path) -> dict[str, Path]:
    """Arm -> its recipe file; JSON is YAML."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = {arm: directory / f"{arm}.yaml" for arm in ARMS}
    for arm, path in paths.items():
        path.write_text(json.dumps(arm_tree(recipe, arm), indent=1))
    return paths


def run_arms(recipe: Tree, *, seeds: int, at_once: int, runs_dir: Path) -> None:
    """Fine-tune once a seed, then run every other arm of that seed on its base."""
    files = write_arms(recipe, runs_dir / "recipes")
    numbers = range(seeds)

    def job(arm: str, seed: int, *more: str) -> Job:
        return Job(f"{arm}-{seed}", (str(files[arm]), "--seed", str(seed), *more), runs_dir)

    bases = train_all([job(SFT_ONLY, seed) for seed in numbers], at_once=at_once)
    others = [job(arm, seed, "--from", bases[seed].name) for seed in numbers for arm in ARMS if arm != SFT_ONLY]
    train_all(others, at_once=at_once)


def by_arm(studies: Sequence[Study]) -> dict[str, list[Study]]:
    """Arm -> its runs by seed; the newest where a seed has several."""
    found: dict[str, dict[int, Study]] = {arm: {} for arm in ARMS}
    for study in sorted(studies, key=lambda s: s.path.name):
        name = json.loads((study.path / "run.json").read_text())["recipe"].removeprefix("ablation-")
        if name in found:
            found[name][study.seed] = study
    return {arm: [runs[seed] for seed in sorted(runs)] for arm, runs in found.items()}


def arm_row(arm: str, arms: dict[str, list[Study]]) -> list[str]:
    """One line of the table."""
    runs, full = arms[arm], {s.seed: s for s in arms[FULL]}
    change = [relative(s.base, s.final, ERROR) for s in runs]
    against = [relative(full[s.seed].final, s.final, ERROR) for s in runs if s.seed in full]
    figures = {name: np.mean([mean(s.final, column(name)) for s in runs]) for name in _SHOWN}
    return [
        arm,
        runs[0].digest[:8],
        str(len(runs)),
        f"{np.mean([mean(s.final, ERROR) for s in runs]):.5f}",
        "-" if arm == SFT_ONLY else percent(over_seeds(change)),
        "-" if arm == FULL else percent(over_seeds(against)),
        *(f"{figures[name]:.{digits}f}" for name, digits in _SHOWN.items()),
        ", ".join(sorted({str(s.summary["stages"].get("grpo", {}).get("ended") or "-") for s in runs})),
    ]


_SHOWN = {"edge_ratio": 3, "glyph_accuracy": 3, "outside_mse": 5}


def report(page: Page, arms: dict[str, list[Study]]) -> None:
    """The table, and what must hold whatever the figures are."""
    present = {arm: runs for arm, runs in arms.items() if runs}
    header = ["arm", "digest", "seeds", "masked error", "against its base", "against full"]
    page.table([*header, "edge ratio", "glyphs", "outside", "guard"], [arm_row(arm, present) for arm in present])
    digests = {runs[0].digest for runs in present.values()}
    one_each = all(len({s.digest for s in runs}) == 1 for runs in present.values())
    passed = one_each and len(digests) == len(present)
    page.verdict("each switch changes the digest", passed, f"{len(digests)} digests, {len(present)} arms")
    bases: dict[int, set[str]] = {}
    for study in (s for runs in present.values() for s in runs):
        bases.setdefault(study.seed, set()).add(study.base_digest)
    shared = all(len(found) == 1 for found in bases.values())
    page.verdict("the arms of a seed share one base", shared, f"seeds {', '.join(map(str, sorted(bases)))}")
    spread = [x for s in present[FULL] for x in s.metrics("dar/effective_spread")]
    if spread:
        page.verdict("DAR's effective spread > 0 in full", min(spread) > 0, f"{min(spread):.3f} to {max(spread):.3f}")
    control(page, present)


def control(page: Page, arms: dict[str, list[Study]]) -> None:
    """Shuffled advantages must not improve: the interval of their change is not wholly below 0."""
    if CONTROL not in arms:
        return
    change = over_seeds([relative(s.base, s.final, ERROR) for s in arms[CONTROL]])
    passed = None if np.isnan(change.high) else not change.high < 0
    page.verdict("shuffled advantages do not improve the held-out error", passed, percent(change))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 1 where a claim failed."""
    options = parser(__doc__)
    options.add_argument("recipe", nargs="?", default="tiny")
    options.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, …")
    options.add_argument("--jobs", type=int, default=1, help="runs beside each other")
    options.add_argument("--iterations", type=int, help="GRPO iterations instead of the recipe's")
    options.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="change every arm; repeatable")
    options.add_argument("--runs-dir", type=Path, default=Path("runs/ablation"))
    options.add_argument("--reuse", type=Path, metavar="DIR", help="read the finished runs of DIR, start nothing")
    asked = options.parse_args(arguments)
    changes = [tuple(text.split("=", 1)) for text in asked.set]
    if asked.iterations is not None:
        changes.append(("grpo.iterations", str(asked.iterations)))
    directory = asked.reuse or asked.runs_dir
    if asked.reuse is None:
        recipe = apply_overrides(read_recipe(recipe_path(asked.recipe)), changes)
        run_arms(recipe, seeds=asked.seeds, at_once=asked.jobs, runs_dir=directory)
    arms = by_arm(finished(directory))
    if not arms[FULL]:
        options.error("no finished run of the full arm found")
    page = Page("Ablation")
    report(page, arms)
    return page.close(asked.markdown)


if __name__ == "__main__":
    sys.exit(main())
