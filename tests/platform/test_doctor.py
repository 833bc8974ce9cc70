from importlib import metadata

import pytest

from burnish.platform import doctor
from burnish.platform.doctor import Check, available_memory, exit_code, report


def found(checks):
    return {check.name: check for check in checks}


def test_this_machine_is_fit(tmp_path):
    checks = report(runs_dir=tmp_path / "not" / "there")
    assert exit_code(checks) == 0
    assert {"python", "torch", "ray", "memory", "disk", "mlflow state", "weights"} <= found(checks).keys()
    assert list(tmp_path.iterdir()) == []


def test_more_roles_than_fit_into_memory_fail(tmp_path):
    check = found(report(runs_dir=tmp_path, roles=10**6, executor="ray"))["memory"]
    assert check.status == "fail" and "fewer workers" in check.hint
    assert exit_code([check]) == 4


@pytest.mark.parametrize(
    ("version", "status"), [("2.10.0", "ok"), ("3.0", "ok"), ("2.9.1+cpu", "fail"), (None, "fail")]
)
def test_a_package_below_its_floor_fails(version, status):
    def version_of(name):
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    assert doctor._package("torch", (2, 10), version_of).status == status


def test_the_control_groups_limit_counts_where_it_is_lower(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   1000 kB\n")
    assert available_memory(tmp_path) == 1000 * 1024
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("5000\n")
    (group / "memory.current").write_text("2000\n")
    assert available_memory(tmp_path) == 3000
    assert available_memory(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("environment", "status"),
    [
        ({}, "ok"),
        ({"RAY_AUTH_MODE": "disabled"}, "warn"),
        ({"RAY_ADDRESS": "ray://h:1"}, "warn"),
        ({"RAY_ADDRESS": "ray://h:1", "RAY_AUTH_MODE": "token"}, "ok"),
    ],
)
def test_an_open_ray_is_warned_of(environment, status):
    assert doctor._ray(environment).status == status


def test_weights_are_listed_where_there_are_any(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "hub" / "models--owner--name").mkdir(parents=True)
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "w.safetensors").touch()
    cached, extra, nothing = doctor._weights((tmp_path / "extra", tmp_path / "hub"))
    assert "owner/name" in cached.detail and "w.safetensors" in extra.detail and nothing.status == "warn"


def test_warnings_do_not_fail_the_command():
    assert exit_code([Check("a", "ok", ""), Check("b", "warn", "")]) == 0
