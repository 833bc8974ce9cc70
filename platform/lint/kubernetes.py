"""The kinds of Kubernetes objects that burnish ships: RayCluster, RayJob, RayService, PersistentVolumeClaim."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from burnish.data.errors import Problem
from burnish.platform.lint.command_lines import command_problems
from burnish.platform.lint.documents import Document, entries, mapping, parse, under
from burnish.platform.lint.kuberay import cluster_problems, name_problems
from burnish.platform.lint.schema import shape_problems
from burnish.platform.lint.serve_config import serve_problems
from burnish.platform.lookup import did_you_mean
from burnish.serve.hosts import USER_TOKEN, beyond_loopback

SUBMISSION_MODES = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
SERVER = "burnish.serve.deploy:build"
UPGRADES = ("NewCluster", "NewClusterWithIncrementalUpgrade", "None")
LONGEST = {"RayCluster": 63, "RayJob": 47, "RayService": 47}
"""Characters of a name, as KubeRay allows them."""


def kubernetes_problems(document: Document) -> Iterator[Problem]:
    """Problems of one object: its shape, then the rules of its kind."""
    tree, kind = document.tree, document.tree.get("kind")
    if kind not in RULES:
        yield Problem("kind", repr(kind), ", ".join(RULES), did_you_mean(str(kind), RULES))
        return
    yield from shape_problems(tree, "kubernetes", str(kind))
    if kind in LONGEST:
        yield from name_problems(mapping(tree, "metadata"), longest=LONGEST[str(kind)])
    yield from under("spec", RULES[str(kind)](mapping(tree, "spec")))


def _cluster(spec: Mapping[str, Any]) -> Iterator[Problem]:
    yield from cluster_problems(spec, roles=True)


def _job(spec: Mapping[str, Any]) -> Iterator[Problem]:
    mode, selector = spec.get("submissionMode", SUBMISSION_MODES[0]), mapping(spec, "clusterSelector")
    if mode not in SUBMISSION_MODES:
        hint = did_you_mean(str(mode), SUBMISSION_MODES)
        yield Problem("submissionMode", repr(mode), ", ".join(SUBMISSION_MODES), hint)
    yield from _limits(spec)
    entrypoint = spec.get("entrypoint")
    if not entrypoint and mode != "InteractiveMode":
        yield Problem("entrypoint", "nothing", "the command to run, for example burnish train … --resume auto")
    yield from under("entrypoint", command_problems(str(entrypoint or ""), again=bool(spec.get("backoffLimit"))))
    if mode == "InteractiveMode" and spec.get("backoffLimit"):
        yield Problem("backoffLimit", str(spec["backoffLimit"]), "0 in InteractiveMode")
    if mode == "SidecarMode":
        for name in ("submitterPodTemplate", "submitterConfig", "clusterSelector"):
            if spec.get(name):
                yield Problem(name, "set", "nothing in SidecarMode")
    if "rayClusterSpec" in spec:
        yield from under("rayClusterSpec", cluster_problems(mapping(spec, "rayClusterSpec"), roles=True))
    elif not selector.get("ray.io/cluster"):
        yield Problem("rayClusterSpec", "nothing", "a cluster, or clusterSelector with ray.io/cluster")
    if spec.get("suspend") is True and (selector or spec.get("shutdownAfterJobFinishes") is not True):
        yield Problem("suspend", "true", "false, or shutdownAfterJobFinishes and no clusterSelector")
    if isinstance(spec.get("runtimeEnvYAML"), str):
        _, broken = parse(spec["runtimeEnvYAML"], source="runtimeEnvYAML")
        yield from broken


def _limits(spec: Mapping[str, Any]) -> Iterator[Problem]:
    for name, least in (
        ("backoffLimit", 0),
        ("activeDeadlineSeconds", 1),
        ("preRunningDeadlineSeconds", 1),
        ("ttlSecondsAfterFinished", 0),
    ):
        if isinstance(spec.get(name), int) and spec[name] < least:
            yield Problem(name, str(spec[name]), f">= {least}")
    if spec.get("ttlSecondsAfterFinished", 0) and spec.get("shutdownAfterJobFinishes") is not True:
        hint = "the time to live counts after a shutdown only"
        yield Problem("ttlSecondsAfterFinished", str(spec["ttlSecondsAfterFinished"]), "0", hint)


def _service(spec: Mapping[str, Any]) -> Iterator[Problem]:
    strategy, cluster = mapping(spec, "upgradeStrategy"), mapping(spec, "rayClusterConfig")
    kind = strategy.get("type", UPGRADES[0])
    if kind not in UPGRADES:
        yield Problem("upgradeStrategy.type", repr(kind), ", ".join(UPGRADES), did_you_mean(str(kind), UPGRADES))
    if kind == UPGRADES[1]:
        yield from _incremental(mapping(strategy, "clusterUpgradeOptions"), cluster)
    delay = spec.get("rayClusterDeletionDelaySeconds", 0)
    if isinstance(delay, int) and delay < 0:
        yield Problem("rayClusterDeletionDelaySeconds", str(delay), ">= 0")
    if mapping(cluster, "headGroupSpec", "headService", "metadata").get("name"):
        yield Problem("rayClusterConfig.headGroupSpec.headService.metadata.name", "set", "nothing: KubeRay names it")
    yield from under("rayClusterConfig", cluster_problems(cluster, roles=False))
    yield from under("rayClusterConfig", _callers(cluster))
    text = spec.get("serveConfigV2")
    if text is None or text == "":
        yield Problem("serveConfigV2", "nothing", "a Serve config as text")
    elif isinstance(text, str):
        tree, broken = parse(text, source="serveConfigV2")
        yield from broken or under("serveConfigV2", [*serve_problems(tree), *_port(tree, cluster)])
        yield from under("rayClusterConfig", _user_token(tree, cluster))


def _port(serve: Mapping[str, Any], cluster: Mapping[str, Any]) -> Iterator[Problem]:
    """The port that Serve listens on must be one of a worker's, or the service finds nobody."""
    port = mapping(serve, "http_options").get("port", 8000)
    for _, group in entries(cluster, "workerGroupSpecs"):
        containers = entries(mapping(group, "template", "spec"), "containers")
        if any(p.get("containerPort") == port for _, c in containers for _, p in entries(c, "ports")):
            return
    if mapping(serve).get("proxy_location") != "Disabled":
        yield Problem("http_options.port", str(port), "a containerPort of a worker group")


def _user_token(serve: Mapping[str, Any], cluster: Mapping[str, Any]) -> Iterator[Problem]:
    """Our server does not start under names that others can use without a token for them, wherever its pod is."""
    applications = [app for _, app in entries(serve, "applications") if app.get("import_path") == SERVER]
    if not any(beyond_loopback(mapping(app, "args").get("hosts")) for app in applications):
        return
    for index, group in entries(cluster, "workerGroupSpecs"):
        containers = entries(mapping(group, "template", "spec"), "containers")
        given = [env for _, env in (entries(containers[0][1], "env") if containers else ())]
        if not any(env.get("name") == USER_TOKEN and mapping(env, "valueFrom", "secretKeyRef") for env in given):
            field = f"workerGroupSpecs.{index}.template.spec.containers.0.env"
            hint = "the server's hosts are not loopback alone, so it does not start without"
            yield Problem(field, f"no {USER_TOKEN}", f"{USER_TOKEN} from valueFrom.secretKeyRef", hint)


def _callers(cluster: Mapping[str, Any]) -> Iterator[Problem]:
    """A server behind a policy that lets nobody in answers nobody."""
    policy = mapping(cluster, "networkPolicy")
    rules = [mapping(policy, "worker"), *(group for _, group in entries(policy, "workerGroups"))]
    closed = bool(policy) and policy.get("mode", "DenyAll") != "DenyAllEgress"
    if closed and not any(part.get("ingressRules") for part in rules):
        yield Problem("networkPolicy.worker.ingressRules", "nothing", "a rule for those who call the server")


def _incremental(options: Mapping[str, Any], cluster: Mapping[str, Any]) -> Iterator[Problem]:
    place = "upgradeStrategy.clusterUpgradeOptions"
    if cluster.get("enableInTreeAutoscaling") is not True:
        yield Problem("rayClusterConfig.enableInTreeAutoscaling", "not true", "true for an incremental upgrade")
    for name, low, high in (
        ("maxSurgePercent", 0, 100),
        ("stepSizePercent", 0, 100),
        ("intervalSeconds", 1, 1 << 31),
    ):
        value = options.get(name, 100 if name == "maxSurgePercent" else None)
        if not isinstance(value, int) or not low <= value <= high:
            yield Problem(f"{place}.{name}", "nothing" if value is None else str(value), f"{low} to {high}")
    if not options.get("gatewayClassName"):
        yield Problem(f"{place}.gatewayClassName", "nothing", "name of a gateway class")


def _claim(spec: Mapping[str, Any]) -> Iterator[Problem]:
    modes = spec.get("accessModes")
    if isinstance(modes, list) and "ReadWriteMany" not in modes:
        yield Problem(
            "accessModes", ", ".join(map(str, modes)), "ReadWriteMany", "every pod of a run writes or reads it"
        )
    if "storage" not in mapping(spec, "resources", "requests"):
        yield Problem("resources.requests.storage", "nothing", "a quantity")


RULES: dict[str, Callable[[Mapping[str, Any]], Iterator[Problem]]] = {
    "RayCluster": _cluster,
    "RayJob": _job,
    "RayService": _service,
    "PersistentVolumeClaim": _claim,
}
