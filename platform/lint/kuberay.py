"""What KubeRay's operator checks at run time only, and what burnish needs of a Ray cluster on Kubernetes.

The schema says what keys and types are; the rules here are those of KubeRay's own validation, which would otherwise
show as a resource that never becomes ready, and a few of burnish's: token, digests, roles that some group offers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from burnish.data.errors import Problem
from burnish.platform.lint.documents import entries, mapping, under
from burnish.platform.lint.pods import GPU, pod_problems
from burnish.platform.lint.quantities import amount
from burnish.platform.lookup import did_you_mean

ROLES = ("role_learner", "role_rollout", "role_reward")
"""Ray resources by which a group says what it is for."""
OLDEST_RAY = (2, 52)
"""The first version with token authentication."""
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SPOT = re.compile("spot|preempt", re.IGNORECASE)
_OWN = ("num-cpus", "num-gpus", "memory", "resources")


def name_problems(metadata: Mapping[str, Any], *, longest: int) -> Iterator[Problem]:
    """KubeRay makes names of services and pods of it."""
    name = metadata.get("name")
    if not isinstance(name, str):
        yield Problem("metadata.name", "nothing", "a name")
    elif not _NAME.fullmatch(name) or len(name) > longest:
        allowed = f"at most {longest} of a-z, 0-9 and -, a letter first"
        yield Problem("metadata.name", repr(name), allowed)


def cluster_problems(spec: Mapping[str, Any], *, roles: bool) -> Iterator[Problem]:
    """Problems of a RayCluster's spec; `roles`: it trains, so its groups must offer every role."""
    yield from _access(spec)
    yield from under("networkPolicy", _network(mapping(spec, "networkPolicy")))
    yield from _fault_tolerance(spec)
    yield from _scaling(spec)
    head = mapping(spec, "headGroupSpec")
    yield from under("headGroupSpec", _group(head))
    names: set[Any] = set()
    for index, group in entries(spec, "workerGroupSpecs"):
        place = f"workerGroupSpecs.{index}"
        if group.get("groupName") in names:
            yield Problem(f"{place}.groupName", repr(group.get("groupName")), "a name that no other group has")
        names.add(group.get("groupName"))
        yield from under(place, _group(group))
        yield from under(place, _replicas(group))
        yield from under(place, _offers(group))
    if roles:
        yield from _roles(spec)


def _access(spec: Mapping[str, Any]) -> Iterator[Problem]:
    mode = mapping(spec, "authOptions").get("mode")
    if mode in (None, "disabled"):
        hint = "without a token anyone who reaches a pod can run commands in it"
        yield Problem("authOptions.mode", "nothing" if mode is None else repr(mode), "token", hint)
    version = re.match(r"(\d+)\.(\d+)", str(spec.get("rayVersion", "")))
    if version is None or (int(version[1]), int(version[2])) < OLDEST_RAY:
        allowed = f"the image's Ray version, at least {OLDEST_RAY[0]}.{OLDEST_RAY[1]}"
        yield Problem(
            "rayVersion", repr(spec.get("rayVersion")), allowed, "KubeRay refuses token authentication without"
        )


def _network(policy: Mapping[str, Any]) -> Iterator[Problem]:
    """KubeRay refuses rules for a direction that the mode leaves open; without DNS no worker finds the head."""
    mode = policy.get("mode", "DenyAll") if policy else None
    groups = {f"workerGroups.{index}": group for index, group in entries(policy, "workerGroups")}
    for place, rules in {"head": mapping(policy, "head"), "worker": mapping(policy, "worker"), **groups}.items():
        for name, open_in in (("ingressRules", "DenyAllEgress"), ("egressRules", "DenyAllIngress")):
            if rules.get(name) and mode == open_in:
                yield Problem(f"{place}.{name}", "rules", "nothing", f"{mode} does not restrict that direction")
        if mode in ("DenyAll", "DenyAllEgress") and not rules.get("egressRules"):
            yield Problem(f"{place}.egressRules", "nothing", "a rule for DNS", "no worker would find the head")


def _environment(group: Mapping[str, Any]) -> dict[str, Any]:
    found = entries(mapping(group, "template", "spec"), "containers")
    return {str(e.get("name")): e.get("value") for _, e in (entries(found[0][1], "env") if found else ())}


def _fault_tolerance(spec: Mapping[str, Any]) -> Iterator[Problem]:
    options, env = spec.get("gcsFaultToleranceOptions"), _environment(mapping(spec, "headGroupSpec"))
    for name in ("REDIS_USERNAME", "REDIS_PASSWORD", "RAY_REDIS_ADDRESS"):
        if name in env:
            allowed = "gcsFaultToleranceOptions instead"
            yield Problem("headGroupSpec.template.spec.containers.0.env", name, allowed, "KubeRay refuses both")
    if isinstance(options, Mapping) and options.get("backend", "redis") == "redis" and not options.get("redisAddress"):
        yield Problem("gcsFaultToleranceOptions.redisAddress", "nothing", "host:port of a Redis")


def _scaling(spec: Mapping[str, Any]) -> Iterator[Problem]:
    scaled, options = spec.get("enableInTreeAutoscaling") is True, mapping(spec, "autoscalerOptions")
    env = _environment(mapping(spec, "headGroupSpec"))
    if options and not scaled:
        yield Problem("enableInTreeAutoscaling", "not true", "true", "autoscalerOptions have no effect without it")
    if "RAY_enable_autoscaler_v2" in env:
        field = "headGroupSpec.template.spec.containers.0.env"
        yield Problem(field, "RAY_enable_autoscaler_v2", "autoscalerOptions.version: v2")
    groups = [("headGroupSpec", mapping(spec, "headGroupSpec"))]
    groups += [(f"workerGroupSpecs.{i}", group) for i, group in entries(spec, "workerGroupSpecs")]
    for place, group in groups:
        policy = mapping(group, "template", "spec").get("restartPolicy", "Never")
        if scaled and options.get("version", "v2") == "v2" and policy != "Never":
            field = f"{place}.template.spec.restartPolicy"
            yield Problem(field, repr(policy), "Never, or nothing", "the v2 autoscaler replaces pods itself")
        if scaled and group.get("suspend") is True:
            yield Problem(f"{place}.suspend", "true", "nothing", "a group cannot be suspended under the autoscaler")
        low, high = group.get("minReplicas", 0), group.get("maxReplicas", 0)
        if not scaled and isinstance(low, int) and isinstance(high, int) and low < high:
            hint = "nobody scales it: set enableInTreeAutoscaling"
            yield Problem(f"{place}.maxReplicas", str(high), f"{low}, minReplicas", hint)


def _group(group: Mapping[str, Any]) -> Iterator[Problem]:
    params, resources = mapping(group, "rayStartParams"), mapping(group, "resources")
    both = [name for name in _OWN if name in params] if resources else []
    for name in both:
        yield Problem(f"rayStartParams.{name}", repr(params[name]), "nothing", "the group's `resources` say it already")
    if "labels" in params:
        yield Problem("rayStartParams.labels", repr(params["labels"]), "nothing", "use the group's `labels`")
    if params.get("block") == "false":
        yield Problem("rayStartParams.block", "false", "nothing", "the container would end at once")
    template = mapping(group, "template")
    selector = mapping(template, "spec", "nodeSelector")
    marks = [group.get("groupName", ""), *selector, *selector.values()]
    yield from under("template", pod_problems(template, spot=any(_SPOT.search(str(mark)) for mark in marks)))


def _replicas(group: Mapping[str, Any]) -> Iterator[Problem]:
    low, high = group.get("minReplicas", 0), group.get("maxReplicas")
    now = group.get("replicas", low)
    if not all(isinstance(n, int) for n in (low, now)) or not isinstance(high, int | None):
        return
    if high is None:
        yield Problem("maxReplicas", "nothing", ">= minReplicas", "the default is 2147483647")
    elif low > high:
        yield Problem("minReplicas", str(low), f"<= {high}, maxReplicas")
    elif not low <= now <= high:
        yield Problem("replicas", str(now), f"{low} to {high}: minReplicas to maxReplicas")


def _offers(group: Mapping[str, Any]) -> Iterator[Problem]:
    """What Ray is told that a pod has must be what Kubernetes gives it."""
    found = entries(mapping(group, "template", "spec"), "containers")
    limits = mapping(found[0][1], "resources", "limits") if found else {}
    for name, key in (("CPU", "cpu"), ("GPU", GPU)):
        told, given = amount(mapping(group, "resources").get(name)), amount(limits.get(key, 0))
        if told is not None and given is not None and told > given and (name == "GPU" or key in limits):
            yield Problem(f"resources.{name}", str(told), f"at most {limits.get(key, 0)}, the limit of {key}")
    for name in mapping(group, "resources"):
        if name.startswith("role") and name not in ROLES:
            yield Problem(f"resources.{name}", "an unknown role", ", ".join(ROLES), did_you_mean(name, ROLES))


def _roles(spec: Mapping[str, Any]) -> Iterator[Problem]:
    groups = [group for _, group in entries(spec, "workerGroupSpecs") if group.get("maxReplicas") != 0]
    offered = {name for group in groups for name in mapping(group, "resources")}
    marked = offered & set(ROLES)
    for role in ROLES if marked else ():
        if role not in offered:
            hint = "its workers would wait for a place for ever"
            yield Problem("workerGroupSpecs", f"no group with resources.{role}", f"a group that offers {role}", hint)
