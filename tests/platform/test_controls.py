"""Negative controls: what must not learn does not, beside what does."""

import math

import pytest

LEARNS = {
    "sft.steps": "250",
    "grpo.iterations": "8",
    "grpo.examples_per_iteration": "4",
    "grpo.dar.enabled": "false",
    "evaluation.count": "128",
    "evaluation.samplers": "[ode]",
    "evaluation.every": "0",
    "guard.enabled": "false",
}


def options(changes):
    return [word for name, value in changes.items() for word in (f"--{name}", value)]


def change(child):
    """Relative change of the held-out masked error over all examples: (mean, high end of the interval)."""
    assert child.wait() == 0, child.text
    figure = child.summary["stages"]["grpo"]["heldout"]["ode"]["change"]["primary"]["masked_mse"]["relative"]
    return figure["mean"], figure["high"]


@pytest.mark.timeout(600)
def test_rewards_lower_the_held_out_error_and_shuffled_advantages_do_not(burnish):
    learned = burnish("tiny", *options(LEARNS))
    mean, high = change(learned)
    assert mean < -0.02
    assert high < 0.0
    control = burnish(
        "tiny",
        *options({**LEARNS, "grpo.advantages.control": "shuffled"}),
        "--from",
        learned.run.id,
        runs=learned.runs.root,
    )
    shuffled, _ = change(control)
    assert math.isfinite(shuffled)
    assert shuffled > mean / 3
