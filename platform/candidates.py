"""Rewards that are being loaded beside a run: in processes of their own, tried there, settled or thrown away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from burnish.data.errors import RefusedError
from burnish.platform.executor import Executor, Handle
from burnish.platform.pools import Pools
from burnish.rewards.order import identity
from burnish.rewards.rubric import RewardSpec


@dataclass(eq=False)
class Preparation:
    """What one change needs: (spec, role, one attempt a worker) of each reward that is not held yet."""

    candidates: list[tuple[RewardSpec, str, list[Handle]]]
    since: float = field(default_factory=time.monotonic)


class Candidates:
    """Loads rewards beside the run and knows the digest of everything that is loaded.

    Args:
        executor: where attempts run.
        pools: where rewards are.
        digests: reward identity -> digest of what is held already.
        deadline: seconds after which a candidate that does not answer is refused.
    """

    def __init__(self, executor: Executor, pools: Pools, digests: dict[str, str], *, deadline: float) -> None:
        self._executor, self._pools, self._deadline = executor, pools, deadline
        self._digests = dict(digests)

    def digest(self, spec: RewardSpec) -> str:
        """Digest of a reward that is held."""
        return self._digests[identity(spec)]

    def load(self, specs: Sequence[RewardSpec], *, like: str) -> Preparation:
        """Start loading those of the rewards that are not held, in pools like that of the reward `like`."""
        new = {identity(spec): spec for spec in specs if not self._pools.holds(spec)}
        return Preparation([(s, *self._pools.start_beside(s, like=like)) for s in new.values()])

    def ready(self, preparation: Preparation) -> bool:
        """True once every attempt is over.

        Raises:
            RefusedError: the deadline has passed.
        """
        pending = [h for _, _, handles in preparation.candidates for h in handles if not self._executor.poll(h)]
        if pending and time.monotonic() - preparation.since > self._deadline:
            raise RefusedError(f"it was not ready within {self._deadline:.0f} s")
        return not pending

    def settle(self, preparation: Preparation) -> None:
        """The candidates are scored where they were loaded, from now on; waits for attempts that are not over.

        Raises:
            RefusedError: workers hold different files. Or whatever loading a candidate raised.
        """
        for spec, _, handles in preparation.candidates:
            digests = {self._executor.get(handle)[0] for handle in handles}
            if len(digests) != 1:
                raise RefusedError(f"workers hold different weight files of {spec.name!r}")
            self._digests[identity(spec)] = digests.pop()
        for spec, role, _ in preparation.candidates:
            self._pools.settle(spec, role)

    def discard(self, preparation: Preparation) -> None:
        """Stop the candidates' processes."""
        for _, role, _ in preparation.candidates:
            self._pools.discard(role)
