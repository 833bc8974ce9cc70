"""Changes of the rubric while a run goes on: prepare beside, shadow, journal, switch at a boundary, keep the old.

The loop calls `turn` before it asks for an iteration's samples: what is decided there holds from the first iteration
that has not been asked for yet, so no group is ever scored by two rubrics. Nothing is waited for but what a replay
needs: a candidate loads in processes of its own while iterations go on under the rubric that is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from burnish.data.errors import BurnishError, RefusedError
from burnish.platform.candidates import Candidates, Preparation
from burnish.platform.changes import Change
from burnish.platform.desk import Request, RewardDesk
from burnish.platform.executor import Executor
from burnish.platform.ledger import Ledger
from burnish.platform.pools import Pools
from burnish.platform.rubric_edits import chosen_spec, edited
from burnish.platform.rubric_log import Pending, RubricLog, RubricState, Shadow
from burnish.platform.scoring import Scored
from burnish.platform.shadowing import Shadows
from burnish.rewards.order import identity
from burnish.rewards.rubric import RubricConfig


class Swaps:
    """The rubric of a stage, iteration by iteration.

    Args:
        executor: where candidates are loaded.
        pools: where rewards are.
        ledger: its journal gets every change before it is obeyed.
        desk: where changes are handed in.
        log: the states so far.
        candidates: loads what is not held yet.
        replay: states of another run that are to be repeated.
        changed: told every new state once it is written down.
    """

    def __init__(
        self,
        executor: Executor,
        pools: Pools,
        ledger: Ledger,
        desk: RewardDesk,
        log: RubricLog,
        *,
        candidates: Candidates,
        replay: Sequence[RubricState] = (),
        changed: Callable[[RubricState], None] = lambda state: None,
    ) -> None:
        self.log, self.pools = log, pools
        self._executor, self._ledger, self._desk = executor, ledger, desk
        self._candidates = candidates
        self._replay, self._changed = list(replay), changed
        self._shadows = Shadows(executor, pools)
        self._request: Request | None = None
        self._preparation: Preparation | None = None
        self._metrics: dict[str, float] = {}
        self._first = self._running = ledger.iteration
        desk.again()
        pending = log.newest.pending
        if pending is not None and desk.find(pending.id) is None:  # an earlier driver took it on
            desk.adopt(Request(pending.id, pending.change, requested="", state="shadowing"))

    def turn(self, running: int, first: int, last: int) -> None:
        """Between two iterations: bring changes forward.

        Args:
            running: the iteration that begins now.
            first, last: the iterations that will be asked for next; with a lag they lie ahead.
        """
        # Not before a change that was decided already: after a resume the run may stand before one of them.
        self._first, self._running = max(first, self.log.newest.iteration), running
        self._gather()
        self._end_shadow()
        if self._replay:
            self._repeat(last)
        else:
            while self._step():
                pass
        self._desk.publish(self.log, running)

    def observe(self, iteration: int, groups: Sequence[Scored]) -> dict[str, float]:
        """An iteration is scored: send it to the shadows; returns what is to be logged."""
        state = self.log.at(iteration)
        self._shadows.send(state, iteration, [(g.group, g.scores) for g in groups])
        found, self._metrics = self._metrics, {}
        return {"rubric/version": float(state.rubric.version), **found}

    def close(self) -> None:
        """The stage has ended: what was not done by now is refused, so that nobody waits for it."""
        if self._preparation is not None:
            self._candidates.discard(self._preparation)
            self._preparation = None
        for request in self._desk.close("nothing more: its GRPO stage has ended"):
            self._refuse(request, "the stage ended before it could act")

    def _step(self) -> bool:
        """Begin the next change, or bring the one in hand to its end; False where there is nothing to do now."""
        if self._request is None:
            self._request = self._begin()
            return self._request is not None
        prepared = self._prepared(self._request)
        if not prepared:
            return False
        request, self._request = self._request, None
        try:
            self._conclude(request)
        except BurnishError as error:
            self._refuse(request, _reason(error))
        return True

    def _begin(self) -> Request | None:
        """Take a change from the desk and start loading what it needs.

        While one change waits for its shadow, a second that begins with a shadow stays queued; others overtake it.
        """
        waits = self.log.newest.pending is not None
        request = self._desk.take(lambda change: not (waits and _shadows_first(change)))
        if request is None:
            return None
        try:
            wanted = [*edited(self.log, request.change).rewards]
            if _shadows_first(request.change):
                wanted.append(chosen_spec(self.log, request.change))
            self._preparation = self._candidates.load(wanted, like=request.change.name)
        except Exception as error:  # as below: nothing that is wrong with a candidate may end the run
            self._refuse(request, _reason(error))
            return self._begin()
        self._report(request, "preparing")
        return request

    def _prepared(self, request: Request) -> bool:
        """True once every candidate is loaded; a failed one refuses the change."""
        preparation = self._preparation
        assert preparation is not None
        try:
            if not self._candidates.ready(preparation):
                return False
            self._candidates.settle(preparation)
        except Exception as error:  # a candidate may fail in any way: the run goes on without it
            self._candidates.discard(preparation)
            self._request = self._preparation = None
            self._refuse(request, _reason(error))
            return False
        self._preparation = None
        if preparation.candidates:
            self._report(request, "prepared")
        return True

    def _conclude(self, request: Request) -> None:
        """Everything is loaded: start the shadow, or let the change hold from the next iteration asked for."""
        change, log = request.change, self.log
        config, shadows = edited(log, change), list(log.newest.shadows)
        if _shadows_first(change):
            shadow = self._shadow(change)
            after = change if change.action != "shadow" else Change(action="unshadow", name=shadow.spec.name)
            until = Pending(after, self._first + change.shadow, request.id) if change.shadow else None
            self._install(log.shadowed(self._first, [*shadows, shadow], change, until))
            self._report(request, "active" if change.action == "shadow" else "shadowing", iteration=self._first)
        elif change.action == "unshadow":
            self._unshadow(change.name, change)
            self._report(request, "active", iteration=self._first)
        else:
            self._activate(config, change)
            self._report(request, "active", iteration=self._first)

    def _shadow(self, change: Change) -> Shadow:
        spec = chosen_spec(self.log, change)
        version = self.log.number(spec.name, self._candidates.digest(spec))
        names = {s.name for s in self.log.newest.config.rewards}
        against = next((n for n in (change.name, spec.name) if n in names), "")
        return Shadow(spec, version, against)

    def _activate(self, config: RubricConfig, change: Change) -> None:
        active = {identity(spec) for spec in config.rewards}
        shadows = [s for s in self.log.newest.shadows if identity(s.spec) not in active]
        digests = {spec.name: self._candidates.digest(spec) for spec in config.rewards}
        state = self.log.next(self._first, config, digests=digests, change=change, shadows=shadows)
        self._install(replace(state, pending=self.log.newest.pending))

    def _unshadow(self, name: str, change: Change) -> None:
        """End a shadow, and with it what waited for its end."""
        kept = [s for s in self.log.newest.shadows if s.spec.name != name]
        self._shadows.forget(name)
        pending = self.log.newest.pending
        if pending is not None and _of_shadow(pending.change, name):
            request = self._desk.find(pending.id)
            if request is not None and request.state == "shadowing":
                self._refuse(request, change.why or "its shadow was ended")
            pending = None
        self._install(self.log.shadowed(self._first, kept, change, pending))

    def _install(self, state: RubricState) -> None:
        """Write the state down, then obey it; what no state needs any more is let go."""
        self._ledger.rubric_event(state)
        self.log.states.append(state)
        self._changed(state)
        before = self.log.before()
        needed = [self.log.at(self._running), *self.log.states[-1:], *([] if before is None else [before])]
        needed += [s for s in self.log.states if s.iteration >= self._running]
        specs = {identity(x): x for s in needed for x in (*s.config.rewards, *(h.spec for h in s.shadows))}
        for role in self.pools.retain(list(specs.values())):
            self._ledger.change_line({"state": "retired", "iteration": self._running, "name": role})

    def _gather(self, *, wait: bool = False) -> None:
        lines, failed = self._shadows.gather(wait=wait)
        for line in lines:
            self._ledger.journal.append(line)
            values = {"mean": line["mean"], "rank_correlation": line["rank_correlation"]}
            self._metrics |= {f"shadow/{line['name']}/{k}": v for k, v in values.items() if v is not None}
        for name, reason in failed.items():
            self._ledger.warn([f"the shadow {name!r} was dropped: {reason}"])
            self._unshadow(name, Change(action="unshadow", name=name, why=reason))

    def _end_shadow(self) -> None:
        """A shadow has run its iterations: what waited for it is done now."""
        pending = self.log.newest.pending
        if pending is None or self._first < pending.until:
            return
        self._gather(wait=True)
        if self.log.newest.pending is None:
            return
        self.log.states[-1] = replace(self.log.newest, pending=None)
        request = self._desk.find(pending.id)
        try:
            change = replace(pending.change, shadow=0)
            if change.action == "unshadow":
                self._unshadow(change.name, change)
            else:
                self._activate(edited(self.log, change), change)
        except BurnishError as error:
            if request is not None:
                self._refuse(request, _reason(error))
            return
        if request is not None and request.state == "shadowing":
            self._report(request, "active", iteration=self._first)

    def _repeat(self, last: int) -> None:
        """Replay: load the next state's rewards ahead of time, install what holds from an iteration asked for now.

        Raises:
            RefusedError: a reward is not the one that was recorded.
        """
        while self._replay:
            state = self._replay[0]
            if self._preparation is None:
                specs = [*state.config.rewards, *(s.spec for s in state.shadows)]
                self._preparation = self._candidates.load(specs, like=state.name)
            if state.iteration > last:
                return
            self._candidates.settle(self._preparation)
            self._preparation = None
            held = [*zip(state.config.rewards, state.rewards, strict=True)]
            held += [(shadow.spec, shadow.version) for shadow in state.shadows]
            for spec, version in held:
                if self._candidates.digest(spec) != version.digest:
                    raise RefusedError(f"reward {spec.name!r} is not the one of the events: its digest differs")
            self._replay.pop(0)
            self._install(replace(state, pending=None))

    def _report(self, request: Request, state: str, *, iteration: int | None = None) -> None:
        self._desk.report(request, state, iteration=iteration)
        self._line(request, state)

    def _refuse(self, request: Request, reason: str) -> None:
        self._desk.report(request, "refused", reason=reason)
        self._ledger.warn([f"the change {request.change.action} {_named(request.change)} was refused: {reason}"])
        self._line(request, "refused", why=reason)

    def _line(self, request: Request, state: str, *, why: str = "") -> None:
        change = request.change
        entry = {"id": request.id, "action": change.action, "name": _named(change), "why": why or change.why}
        self._ledger.change_line({**entry, "state": state, "iteration": self._running})


def _shadows_first(change: Change) -> bool:
    return change.action == "shadow" or (change.shadow > 0 and change.action in ("add", "swap"))


def _of_shadow(change: Change, name: str) -> bool:
    return name in (change.name, "" if change.spec is None else change.spec.name)


def _named(change: Change) -> str:
    return change.name or ("" if change.spec is None else change.spec.name)


def _reason(error: Exception) -> str:
    """One line: the message and its problems."""
    if isinstance(error, BurnishError):
        problems = "; ".join(f"{p.field}: got {p.got}, allowed {p.allowed}" for p in error.problems)
        return f"{error.message}: {problems}" if problems else error.message.splitlines()[0]
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
