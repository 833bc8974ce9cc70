"""What a pod template must keep, beside its shape: same bytes, no root, honest resources, time to drain.

Called by `kuberay.py` for every group. Kubernetes would find some of it when pods are made, and nothing would find the
rest before the first spot node leaves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from burnish.data.errors import Problem
from burnish.platform.lint.documents import entries, mapping, under
from burnish.platform.lint.images import image_problems
from burnish.platform.lint.quantities import amount

GPU = "nvidia.com/gpu"
MARGIN = 10
"""Seconds that a pod needs beyond its drain."""
_SECRET = re.compile("token|secret|password|credential|api_?key", re.IGNORECASE)
_DRAIN = re.compile(r"--deadline-remaining-seconds[ =](\d+)")
_DEFAULT_GRACE = 30


def pod_problems(template: Mapping[str, Any], *, spot: bool) -> Iterator[Problem]:
    """Problems of a pod template; `spot`: its node may be taken away, so it must drain."""
    spec = mapping(template, "spec")
    yield from under("spec", _security(spec))
    volumes = {volume.get("name") for _, volume in entries(spec, "volumes")}
    for kind in ("initContainers", "containers"):
        for index, container in entries(spec, kind):
            yield from under(f"spec.{kind}.{index}", _container(container, mapping(spec, "securityContext"), volumes))
    for index, volume in entries(spec, "volumes"):
        memory = mapping(volume, "emptyDir")
        if memory.get("medium") == "Memory" and "sizeLimit" not in memory:
            field = f"spec.volumes.{index}.emptyDir.sizeLimit"
            yield Problem(field, "nothing", "a quantity", "memory volumes count as the pod's memory")
    yield from under("spec", _drain(spec, spot=spot))


def _security(spec: Mapping[str, Any]) -> Iterator[Problem]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name) is True:
            yield Problem(name, "true", "false", "Ray's ports would be the node's")


def _container(own: Mapping[str, Any], pod: Mapping[str, Any], volumes: set[Any]) -> Iterator[Problem]:
    yield from image_problems("image", own.get("image"))
    security = {**pod, **mapping(own, "securityContext")}
    if security.get("runAsNonRoot") is not True:
        yield Problem("securityContext.runAsNonRoot", _shown(security.get("runAsNonRoot")), "true")
    if security.get("runAsUser") == 0:
        yield Problem("securityContext.runAsUser", "0", ">= 1", "0 is root")
    if security.get("allowPrivilegeEscalation") is not False:
        got = _shown(security.get("allowPrivilegeEscalation"))
        yield Problem("securityContext.allowPrivilegeEscalation", got, "false")
    if security.get("privileged") is True:
        yield Problem("securityContext.privileged", "true", "false")
    for index, env in entries(own, "env"):
        yield from under(f"env.{index}", _env(env))
    for index, mount in entries(own, "volumeMounts"):
        if mount.get("name") not in volumes:
            allowed = ", ".join(sorted(map(str, volumes))) or "a volume of the pod"
            yield Problem(f"volumeMounts.{index}.name", repr(mount.get("name")), allowed)
    yield from under("resources", _resources(mapping(own, "resources")))


def _env(env: Mapping[str, Any]) -> Iterator[Problem]:
    name, value = str(env.get("name", "")), env.get("value")
    if name == "RAY_AUTH_MODE" and value != "token":
        yield Problem("value", _shown(value), "token", "or leave it out: authOptions sets it")
    elif _SECRET.search(name) and name != "RAY_AUTH_MODE" and isinstance(value, str) and value:
        yield Problem(
            "value", "a literal secret", "valueFrom.secretKeyRef", f"{name} would be readable in the manifest"
        )


def _resources(resources: Mapping[str, Any]) -> Iterator[Problem]:
    requests, limits = mapping(resources, "requests"), mapping(resources, "limits")
    for name in ("cpu", "memory"):
        if name not in requests:
            yield Problem(f"requests.{name}", "nothing", "a quantity", "the scheduler places by requests")
    if "memory" not in limits:
        yield Problem("limits.memory", "nothing", "a quantity", "Ray takes the node's memory for the pod's otherwise")
    for name in sorted(requests.keys() & limits.keys()):
        asked, most = amount(requests[name]), amount(limits[name])
        if asked is None or most is None:
            continue
        if name == GPU and asked != most:
            yield Problem(f"requests.{name}", str(requests[name]), f"{limits[name]}, the limit", "GPUs are not shared")
        elif asked > most:
            yield Problem(f"requests.{name}", str(requests[name]), f"at most {limits[name]}, the limit")
    if GPU in requests and GPU not in limits:
        yield Problem(f"limits.{GPU}", "nothing", f"{requests[GPU]}, the request", "Kubernetes refuses it otherwise")


def _drain(spec: Mapping[str, Any], *, spot: bool) -> Iterator[Problem]:
    grace = spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE)
    found = False
    for index, container in entries(spec, "containers"):
        command = mapping(container, "lifecycle", "preStop", "exec").get("command")
        text = " ".join(map(str, command)) if isinstance(command, list) else ""
        if "drain-node" not in text:
            continue
        found, seconds = True, _DRAIN.search(text)
        field = f"containers.{index}.lifecycle.preStop.exec.command"
        if seconds is None:
            yield Problem(field, "drain-node without a deadline", "--deadline-remaining-seconds N")
        elif isinstance(grace, int) and grace < int(seconds[1]) + MARGIN:
            allowed = f">= {int(seconds[1]) + MARGIN}: the drain's {seconds[1]} s and {MARGIN}"
            yield Problem(
                "terminationGracePeriodSeconds", str(grace), allowed, "the pod is killed before it is drained"
            )
    if spot and not found:
        hint = "a spot node that leaves without a word costs the work in flight"
        yield Problem("containers.0.lifecycle.preStop", "nothing", "an exec of `ray drain-node … sleep`", hint)


def _shown(value: object) -> str:
    return "nothing" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
