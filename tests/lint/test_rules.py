"""Rules beyond shapes: one planted error each, in the files that ship."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import pytest

from burnish.data.errors import ConfigError
from burnish.platform.lint.files import lint
from burnish.platform.lint.promql import expression_problems
from burnish.platform.lint.quantities import amount
from burnish.platform.lint.schema import load
from burnish.platform.lint.values import fill

JOB, SERVICE, CLUSTER, CLAIM = (f"kuberay/{n}.yaml" for n in ("rayjob", "rayservice", "raycluster", "runs-claim"))
UP, SLURM, DOCKER = "ray-up/cluster.yaml", "slurm/train.sbatch", "Dockerfile"
RULES, BOARD = "monitoring/rules.yaml", "monitoring/dashboard.json"
CLUSTERS = Path(__file__).parents[2] / "clusters"
SHA = r"@sha256:\w{64}"
PLANTED = {
    "a tag instead of a digest": (JOB, f"burnish{SHA}", "burnish:latest", "image: got"),
    "a digest cut short": (JOB, SHA, "@sha256:abab", "image: got"),
    "no token": (JOB, "mode: token", "mode: disabled", "authOptions.mode: got 'disabled'"),
    "a Ray without tokens": (JOB, '"2.60.0"', '"2.40.0"', "rayVersion: got"),
    "rules for a way that is open": (JOB, "ingressRules", "egressRules", "DenyAllIngress does not restrict"),
    "no way to the names": (JOB, "mode: DenyAllIngress", "mode: DenyAll", "head.egressRules: got nothing"),
    "a server for nobody": (SERVICE, r"worker:\n( .*\n)+?(?= +enableIn)", "worker: {}\n", "who call the server"),
    "a server for all": (SERVICE, r" *- name: BURNISH_USER_TOKEN\n(.*\n){4}", "", "env: got no BURNISH_USER_TOKEN"),
    "root allowed": (JOB, "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot: got false"),
    "root by number": (JOB, "runAsUser: 1000", "runAsUser: 0", "runAsUser: got 0"),
    "escalation": (JOB, "allowPrivilegeEscalation: false", "privileged: true", "allowPrivilegeEscalation: got nothing"),
    "a secret in the manifest": (JOB, "RAY_USAGE_STATS_ENABLED", "HF_TOKEN", "value: got a literal secret"),
    "the token switched off": (JOB, "RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE", "value: got '0', allowed token"),
    "more asked than allowed": (JOB, "memory: 64Gi", "memory: 1Ti", "requests.memory: got 1Ti, allowed at most 64Gi"),
    "shared GPUs": (JOB, r'limits:\n( +)cpu: "8"\n +memory: 64Gi\n +nvidia.com/gpu: "1"', "limits: {}", "limits"),
    "no time to drain": (JOB, "PeriodSeconds: 120", "PeriodSeconds: 60", "allowed >= 100: the drain's 90 s and 10"),
    "a drain without an end": (JOB, "--deadline-remaining-seconds 90", "", "drain-node without a deadline"),
    "a spot group without a drain": (JOB, "ray drain-node", "ray stop", "preStop: got nothing"),
    "a mount of nothing": (JOB, r"name: shm(?=\n +emptyDir)", "name: shn", "volumeMounts.1.name: got 'shm'"),
    "resources said twice": (JOB, "rayStartParams: {}", 'rayStartParams: {num-cpus: "1"}', "Params.num-cpus: got"),
    "labels among parameters": (JOB, "rayStartParams: {}", 'rayStartParams: {labels: "a=b"}', "rayStartParams.labels"),
    "a group twice": (JOB, "groupName: reward", "groupName: learner", "a name that no other group has"),
    "too many replicas": (JOB, "replicas: 2\n", "replicas: 99\n", "replicas: got 99, allowed 2 to 16"),
    "a scaler that is off": (JOB, "Autoscaling: true", "Autoscaling: false", "enableInTreeAutoscaling: got not true"),
    "pods that restart": (
        JOB,
        "terminationGracePeriodSeconds: 120",
        "restartPolicy: Always",
        "restartPolicy: got 'Always'",
    ),
    "a role nobody offers": (JOB, "role_reward", "role_rewards", "no group with resources.role_reward"),
    "more GPUs than the pod has": (JOB, 'GPU: "1"', 'GPU: "2"', "resources.GPU: got 2, allowed at most 1"),
    "a name of capitals": (JOB, "name: burnish-train", "name: Burnish", "metadata.name: got 'Burnish'"),
    "a name too long": (JOB, "name: burnish-train", "name: " + "b" * 48, "at most 47"),
    "a retry from the start": (JOB, " --resume auto", "", "burnish train without --resume"),
    "an option that does not exist": (JOB, "--runs-dir", "--run-dir", "burnish train …"),
    "a command that does not exist": (JOB, "burnish train", "burnish trian", "burnish trian"),
    "an open quote": (JOB, "burnish train", "burnish 'train", "quotes closed"),
    "no deadline at all": (JOB, "Seconds: 604800", "Seconds: 0", "activeDeadlineSeconds: got 0"),
    "a time to live without an end": (JOB, "JobFinishes: true", "JobFinishes: false", "ttlSecondsAfterFinished: got"),
    "interactive and again": (JOB, "K8sJobMode", "InteractiveMode", "backoffLimit: got 3, allowed 0"),
    "no cluster": (JOB, "rayClusterSpec:", "clusterSelector: {}\n  x:", "rayClusterSpec: got nothing"),
    "a key that Serve ignores": (
        SERVICE,
        "route_prefix",
        "route_prefx",
        "applications.0.route_prefx: got an unknown key",
    ),
    "a route that is none": (SERVICE, "route_prefix: /", "route_prefix: x", "a path that begins with /"),
    "an import path that is none": (SERVICE, "burnish.serve.deploy:build", "build", "import_path: got"),
    "a port that nobody opens": (SERVICE, "port: 8000", "port: 9000", "http_options.port: got 9000"),
    "an upgrade in steps without steps": (SERVICE, "NewCluster\n", "NewClusterWithIncrementalUpgrade\n", "stepSizePer"),
    "a claim for one": (CLAIM, "ReadWriteMany", "ReadWriteOnce", "accessModes: got ReadWriteOnce"),
    "an object that is not ours": (CLAIM, "PersistentVolumeClaim", "Deployment", "kind: got 'Deployment'"),
    "ray up: more at least than at most": (UP, "min_workers: 2", "min_workers: 17", "min_workers: got 17"),
    "ray up: fewer in all": (UP, "max_workers: 21", "max_workers: 3", "max_workers: got 3, allowed >= 4"),
    "ray up: an unknown key": (UP, "idle_timeout_minutes", "idle_timeout_minute", "did you mean idle_timeout_minutes"),
    "ray up: a head of no type": (UP, "head_node_type: head", "head_node_type: haed", "did you mean head?"),
    "ray up: a tag": (UP, SHA, ":v1", "docker.image: got"),
    "ray up: no token": (UP, "RAY_AUTH_MODE=token ", "", "no RAY_AUTH_MODE=token"),
    "ray up: no token file": (UP, "file_mounts:\n.*\n", "", "file_mounts: got no token file"),
    "ray up: an open dashboard": (UP, "host=127.0.0.1", "host=::", "--dashboard-host ::"),
    "ray up: an image of Ray's choice": (UP, '      ImageId: ".*"\n', "", "learner.node_config.ImageId: got nothing"),
    "ray up: what Ray would install": (UP, "\nhead_setup_commands: .*", "", "head_setup_commands: got nothing"),
    "slurm: an unknown option": (SLURM, "--requeue", "--requeu", "did you mean requeue"),
    "slurm: a directive too late": (SLURM, "umask 077", "#SBATCH --mem=1G", "directives above the first command"),
    "slurm: a node that ends the job": (SLURM, "#SBATCH --no-kill\n", "", "no --no-kill"),
    "slurm: a step with one CPU": (SLURM, "--cpus-per-task=16 ray", "ray", "srun takes no such option"),
    "slurm: a driver that comes first": (SLURM, " --cluster.wait_for_nodes 600", "", "no --cluster.wait_for_nodes"),
    "slurm: a signal to all": (SLURM, "B:USR1@300", "USR1@300", "--signal: got 'USR1@300'"),
    "slurm: no trap": (SLURM, "USR1 TERM", "TERM", "no trap of USR1"),
    "slurm: no token": (SLURM, "RAY_AUTH_MODE=token", "", "no RAY_AUTH_MODE=token"),
    "slurm: a log that is cut": (SLURM, "#SBATCH --open-mode=append\n", "", "no --open-mode=append"),
    "slurm: a script that is none": (SLURM, "\nfi\n", "\n", "a script that `bash -n` accepts"),
    "slurm: from the start": (SLURM, "--resume auto ", "", "burnish train without --resume"),
    "image: a base by tag": (DOCKER, SHA, ":3.12", "got 'python:3.12'"),
    "image: root": (DOCKER, "USER 1000:1000\n", "", "USER: got root"),
    "image: no constraints": (DOCKER, "-c /tmp/constraints.txt ", "", "pip install without constraints"),
    "image: a secret": (DOCKER, "RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN=abc", "RAY_AUTH_TOKEN in ENV"),
    "image: a misspelt instruction": (DOCKER, "WORKDIR /runs", "WORKDR /runs", "did you mean WORKDIR"),
    "rules: a metric nobody exports": (RULES, "ray_burnish_staleness", "ray_burnish_stalenes", "did you mean ray_burn"),
    "rules: a counter without its ending": (RULES, "restarts_total", "restarts", "ray_burnish_restarts"),
    "rules: a label it does not have": (RULES, "phase=~", "phases=~", "has no label phases"),
    "rules: grouped by nothing": (RULES, r"by \(run, stage\) \(rate", "by (rum) (rate", "label rum"),
    "rules: an open bracket": (RULES, r"staleness\) > 4", "staleness > 4", "brackets"),
    "rules: a wrong duration": (RULES, "for: 5m", "for: 5 minutes", "a duration"),
    "rules: no runbook": (RULES, "runbook_url", "runbook", "runbook_url: got nothing"),
    "rules: no severity": (RULES, "severity: critical", "severity: bad", "severity: got 'bad'"),
    "board: a metric nobody exports": (BOARD, "ray_burnish_groups_total", "ray_burnish_group", "did you mean ray_burn"),
    "board: a source of its own": (BOARD, r"\$\{datasource\}", "abc", "datasource.uid: got 'abc'"),
    "board: panels over panels": (BOARD, '"x": 12,\n +"y": 4', '"x": 6,\n "y": 4', "over panel"),
    "board: a panel nobody explains": (BOARD, '"description": "Share[^"]*"', '"description": ""', "description: got"),
    "board: a number twice": (BOARD, '"id": 2,', '"id": 1,', "a number that no other panel has"),
}
ONCE = {"more asked than allowed"}
"""Errors that are planted at the first place only."""


@pytest.mark.parametrize("name", PLANTED)
def test_each_planted_error_is_found(name, tmp_path, values):
    file, old, new, found = PLANTED[name]
    text = fill((CLUSTERS / file).read_text(), values)
    changed, times = re.subn(old, lambda _: new, text, count=int(name in ONCE))
    assert times
    path = tmp_path / Path(file).name
    path.write_text(changed)
    with pytest.raises(ConfigError) as caught:
        lint(path, {})
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('rate(ray_burnish_samples_total{run="a"}[5m]) > 0', []),
        ('histogram_quantile(0.9, sum by (le) (rate(burnish_request_seconds_bucket{route="/v1"}[5m])))', []),
        ("ray_burnish_iteration offset 1h / on (run) ray_burnish_iterations_planned", []),
        ("time() - 1800 > bool 5e3", []),
        ("ray_node_mem_used{instance='a'} and up", ["up"]),
        ("sum(burnish_nothing) by (run)", ["burnish_nothing"]),
    ],
)
def test_names_of_an_expression_are_read(text, names):
    assert [problem.got for problem in expression_problems(text)] == names


def test_quantities_are_compared_as_numbers():
    assert amount("500m") == 0.5 and amount("16Gi") == 16 * 2**30 and amount("1e3") == amount("1k") == amount(1000)
    assert amount("16Gib") is amount(True) is amount(None) is amount("") is None


def test_the_serve_schema_knows_the_keys_of_the_installed_serve():
    source = Path(importlib.util.find_spec("ray").origin).parent / "serve" / "schema.py"
    classes = {n.name: n for n in ast.parse(source.read_text()).body if isinstance(n, ast.ClassDef)}
    parts = {"serve": "ServeDeploySchema", "application": "ServeApplicationSchema", "deployment": "DeploymentSchema"}
    for part, name in parts.items():
        fields = {n.target.id for n in classes[name].body if isinstance(n, ast.AnnAssign)} - {"model_config"}
        assert set(load("serve")["$defs"][part]["properties"]) == fields


@pytest.mark.parametrize("name", ["kubernetes", "serve", "monitoring"])
def test_a_schema_is_one_and_refers_only_to_what_it_defines(name):
    from jsonschema import Draft202012Validator

    schema = load(name)
    Draft202012Validator.check_schema(schema)
    referred = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)))
    assert referred and referred <= set(schema["$defs"])
