"""Does `burnish train` learn? Several seeds of a recipe, before and after, on the same held-out examples and noise.

    python benchmarks/learning.py [RECIPE] --seeds 5 [--jobs 2] [--runs-dir DIR] [--markdown benchmarks/learning.md]
    python benchmarks/learning.py --reuse DIR        # read finished runs of DIR, start nothing

Further arguments of `burnish train` (dotted overrides) follow a bare `--`. All figures are under the ODE sampler and
before paste-back. Two intervals: Student's t over seeds, and a bootstrap over what was drawn, pooled over seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from harness import Page, parser
from studies import (
    Column,
    Job,
    Study,
    chosen,
    column,
    edge_distance,
    finished,
    glyph_error,
    mean,
    over_seeds,
    over_sources,
    percent,
    plain,
    read,
    relative,
    train_all,
)

from burnish.rollouts.intervals import Interval

SFT_BAR, LOGO_BAR, GRPO_BAR, MIN_SEEDS, MIN_EXAMPLES = 1 / 3, 1 / 5, -0.08, 5, 256
MINUTES = 8.0
ERROR = column("masked_mse")
NOT_WORSE: dict[str, Column] = {
    "edge ratio's distance to 1": edge_distance,
    "glyph errors (1 - accuracy)": glyph_error,
    "outside error": column("outside_mse"),
}


def error_left(study: Study, source: str | None = None) -> float:
    """Held-out masked error after fine-tuning over the degraded input's."""
    return mean(study.base, ERROR, source) / mean(study.base, column("input_masked_mse"), source)


def seed_table(page: Page, studies: Sequence[Study]) -> None:
    """One row a seed."""
    header = ["seed", "degraded", "SFT", "left", "left, logos", "GRPO", "change", "edge ratio", "glyphs", "outside"]
    rows = []
    for study in studies:
        pair = (study.base, study.final)
        edges, glyphs, outside = (
            " -> ".join(f"{mean(rows_, column(name)):.{digits}f}" for rows_ in pair)
            for name, digits in (("edge_ratio", 3), ("glyph_accuracy", 3), ("outside_mse", 5))
        )
        errors = [mean(study.base, column("input_masked_mse")), mean(study.base, ERROR), mean(study.final, ERROR)]
        degraded, fine_tuned, final = (f"{error:.5f}" for error in errors)
        left = [f"{error_left(study, source):.3f}" for source in (None, "drawn_logo")]
        numbers = [str(study.seed), degraded, fine_tuned, *left, final, f"{relative(*pair, ERROR):+.1%}"]
        rows.append([*numbers, edges, glyphs, outside, f"{study.wall / 60:.1f}", _ended(study)])
    page.table([*header, "minutes", "guard"], rows)


def _ended(study: Study) -> str:
    return str(study.summary["stages"].get("grpo", {}).get("ended") or "-")


def sft_verdicts(page: Page, studies: Sequence[Study]) -> None:
    """Fine-tuning against its bars, on the mean over seeds."""
    for name, source, bar in (("all drawn examples", None, SFT_BAR), ("drawn logos", "drawn_logo", LOGO_BAR)):
        left = over_seeds([error_left(study, source) for study in studies])
        passed = None if np.isnan(left.mean) else bool(left.mean <= bar)
        page.verdict(f"SFT leaves at most {bar:.3f} of the degraded error, {name}", passed, f"{left.mean:.3f}")


def grpo_verdicts(page: Page, studies: Sequence[Study]) -> None:
    """Reinforcement learning against its bar; both intervals must exclude 0."""
    pairs = [(study.base, study.final) for study in studies]
    seeds = over_seeds([relative(*pair, ERROR) for pair in pairs])
    sources = over_sources(pairs, ERROR, ratio=True)
    lower = seeds.mean <= GRPO_BAR and seeds.high < 0 and sources.high < 0
    enough = len(studies) >= MIN_SEEDS and len(studies[0].base.ids) >= MIN_EXAMPLES
    detail = f"over {len(studies)} seeds {percent(seeds)}, over sources {percent(sources)}"
    page.verdict(
        "GRPO lowers it by at least 8 %, both intervals exclude 0", lower if enough or not lower else None, detail
    )
    if lower and not enough:
        page.say(f"  (needs {MIN_SEEDS} seeds and {MIN_EXAMPLES} examples to count)")
    for name, of in NOT_WORSE.items():
        seeds = over_seeds([mean(after, of) - mean(before, of) for before, after in pairs])
        sources = over_sources(pairs, of, ratio=False)
        page.verdict(f"{name} not worse", _not_worse(seeds, sources), f"seeds {plain(seeds)}, sources {plain(sources)}")


def _not_worse(*intervals: Interval) -> bool | None:
    """False where an interval of the change lies wholly above 0; None where it does not apply to these examples."""
    if any(np.isnan(i.mean) for i in intervals):
        return None
    return not any(i.low > 0 for i in intervals)


def report(page: Page, studies: Sequence[Study]) -> None:
    """Tables and verdicts."""
    first = studies[0]
    digests = {study.digest[:12] for study in studies}
    page.say(
        f"{len(studies)} seeds, {len(first.base.ids)} held-out examples of which {len(chosen(first.base))} drawn, "
        f"recipe digest {', '.join(sorted(digests))}; command of the first run: `{first.summary['command']}`",
        "",
    )
    seed_table(page, studies)
    page.verdict("one recipe", len(digests) == 1, f"{len(digests)} digest(s)")
    sft_verdicts(page, studies)
    grpo_verdicts(page, studies)
    slowest = max(study.wall for study in studies) / 60
    page.verdict(f"a run takes at most {MINUTES:g} minutes", slowest <= MINUTES, f"the slowest {slowest:.1f} minutes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 1 where a bar was missed."""
    options = parser(__doc__)
    options.add_argument("recipe", nargs="?", default="tiny")
    options.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, …")
    options.add_argument("--jobs", type=int, default=1, help="runs beside each other")
    options.add_argument("--runs-dir", type=Path, default=Path("runs/learning"))
    options.add_argument("--reuse", type=Path, metavar="DIR", help="read the finished runs of DIR, start nothing")
    given = list(sys.argv[1:] if arguments is None else arguments)
    cut = given.index("--") if "--" in given else len(given)
    asked, more = options.parse_args(given[:cut]), given[cut + 1 :]
    if asked.reuse is not None:
        studies = finished(asked.reuse)
    else:
        jobs = [
            Job(f"{Path(asked.recipe).stem}-{seed}", (asked.recipe, "--seed", str(seed), *more), asked.runs_dir)
            for seed in range(asked.seeds)
        ]
        studies = [read(path) for path in train_all(jobs, at_once=asked.jobs)]
    if not studies:
        options.error("no finished run found")
    page = Page("Learning: held-out error before and after")
    report(page, studies)
    return page.close(asked.markdown)


if __name__ == "__main__":
    sys.exit(main())
