"""Head and two nodes on loopback: a run across them, a node killed in mid-iteration, one added, one drained."""

import os
import socket
import subprocess
import sys
import time

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]

PLACES = ("--rollouts.workers", "2", "--rollouts.resources", "{role_rollout: 1}", "--learners.resources", "{head: 1}")
LONGER = ("--grpo.iterations", "80")
HEALTH = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}


def free_ports(names):
    sockets = [socket.socket() for _ in names]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = {name: opened.getsockname()[1] for name, opened in zip(names, sockets, strict=True)}
    for opened in sockets:
        opened.close()
    return ports


def node_ports():
    """Fixed ports: on a busy machine a node that picks its own gives up waiting for its agent."""
    return free_ports(
        ["metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port"]
    )


@pytest.fixture(scope="module")
def nodes():
    """A cluster of head and two nodes that each have a place for one rollout worker."""
    from ray.cluster_utils import Cluster

    old = {name: os.environ.get(name) for name in HEALTH}
    os.environ.update(HEALTH)
    head = {"num_cpus": 2, "resources": {"head": 4}, "include_dashboard": False}
    cluster = again_and_again(lambda: Cluster(initialize_head=True, head_node_args=head | node_ports()))
    yield cluster, [add(cluster) for _ in range(2)]
    cluster.shutdown()
    for name, value in old.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def add(cluster):
    return again_and_again(lambda: cluster.add_node(num_cpus=1, resources={"role_rollout": 1}, **node_ports()))


def again_and_again(start, attempts=4):
    """On a busy machine a node gives up on itself after 30 seconds; it raises a bare Exception then."""
    for _ in range(attempts - 1):
        try:
            return start()
        except Exception as error:
            print(f"a node did not start: {str(error).splitlines()[0]}")
    return start()


def wait_for(child, condition, seconds=240):
    """Wait until it is true; returns how many seconds that took."""
    start = time.monotonic()
    while not condition():
        assert child.process.exitcode is None and time.monotonic() < start + seconds, child.text
        time.sleep(0.05)
    return time.monotonic() - start


def drain(cluster, node):
    command = ["drain-node", "--address", cluster.address, "--node-id", node.node_id]
    more = [
        "--reason",
        "DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message",
        "test",
        "--deadline-remaining-seconds",
        "30",
    ]
    subprocess.run([sys.executable, "-m", "ray.scripts.scripts", *command, *more], check=True, timeout=120)


def iterations(child):
    path = child.run.path / "metrics.jsonl" if child.runs.infos() else None
    return path.read_text().count('"grpo"') if path is not None and path.exists() else 0


def test_a_run_across_nodes_comes_to_the_bytes_of_one_process(burnish, smoke_digest, nodes):
    child = burnish("smoke", *PLACES, executor="ray", RAY_ADDRESS=nodes[0].address)
    assert child.wait(400) == 0, child.text
    assert child.summary["state_digest"] == smoke_digest


def test_roles_that_no_node_can_hold_are_refused_in_seconds(burnish, nodes):
    child = burnish("smoke", *PLACES, "--rollouts.workers", "3", executor="ray", RAY_ADDRESS=nodes[0].address)
    assert child.wait(120) == 2
    assert "rollouts.workers: got 3 x" in child.text and "'role_rollout': 2" in child.text


def test_a_run_waits_for_a_node_that_joins_late(burnish, smoke_digest, nodes):
    more = ("--rollouts.workers", "3", "--cluster.wait_for_nodes", "120")
    child = burnish("smoke", *PLACES, *more, executor="ray", RAY_ADDRESS=nodes[0].address)
    wait_for(child, lambda: "waiting for nodes, 120 s at most: rollouts.workers" in child.text)
    late = add(nodes[0])
    assert child.wait(400) == 0, child.text
    assert child.summary["state_digest"] == smoke_digest
    nodes[0].remove_node(late)


def test_a_node_killed_one_added_and_one_drained_cost_time_and_no_byte(burnish, nodes, tmp_path):
    cluster, (first, second) = nodes
    child = burnish("smoke", *LONGER, *PLACES, executor="ray", RAY_ADDRESS=cluster.address)
    wait_for(child, lambda: iterations(child) >= 2)
    cluster.remove_node(second, allow_graceful=False)
    lost = wait_for(child, lambda: iterations(child) >= 6)
    assert lost < 30
    add(cluster)
    wait_for(child, lambda: "a rollout worker is ready: 2 at work" in child.text)
    drain(cluster, first)
    obeyed = wait_for(child, lambda: "stand on nodes that will go" in child.text, 20)
    print(f"four iterations with a node lost: {lost:.1f} s; drain obeyed {obeyed:.1f} s after its command returned")
    assert child.wait(400) == 0, child.text
    alone = burnish("smoke", *LONGER, runs=tmp_path / "alone")
    assert alone.wait(400) == 0, alone.text
    assert child.summary["state_digest"] == alone.summary["state_digest"]
    counts, wanted = child.summary["counts"], alone.summary["counts"]
    assert counts["resent"] >= 1 and counts["groups"] == wanted["groups"]
