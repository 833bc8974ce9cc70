"""The shipped Slurm script with stand-ins for srun, ray, burnish and scontrol: who gets the signal, what requeues."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "clusters" / "slurm" / "train.sbatch"
DRIVER = """#!/bin/bash
echo "$@" >"$LOG/arguments"
env | grep RAY_AUTH >"$LOG/environment"
trap 'sleep 0.3; echo committed >"$LOG/committed"; exit 130' TERM
touch "$LOG/running"
for _ in $(seq "${STEPS:-100}"); do sleep 0.1; done
exit "${CODE:-0}"
"""
PROGRAMS = {
    "burnish": DRIVER,
    "srun": '#!/bin/bash\necho "$@" >>"$LOG/srun"\nexec sleep 30\n',
    "ray": "#!/bin/bash\nexit 0\n",
    "scontrol": '#!/bin/bash\necho "$@" >>"$LOG/scontrol"\n',
}


@pytest.fixture
def submit(tmp_path):
    """Start the script in a process group of its own; what is left of it is killed at the end."""
    folder, started = tmp_path / "env" / "bin", []
    folder.mkdir(parents=True)
    for name, text in {**PROGRAMS, "activate": f'PATH="{folder}:$PATH"\n'}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    def start(**more):
        given = {"BURNISH_ENV": str(tmp_path / "env"), "BURNISH_RUNS_DIR": str(tmp_path), "BURNISH_RECIPE": "smoke"}
        env = {**os.environ, **given, "LOG": str(tmp_path), "SLURM_JOB_ID": "77", **more}
        started.append(subprocess.Popen(["bash", str(SCRIPT)], env=env, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)


def wait_for(path):
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_signal_reaches_the_driver_which_commits_and_the_job_goes_back_into_the_queue(submit, tmp_path):
    job = submit()
    wait_for(tmp_path / "running")
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 130
    assert (tmp_path / "committed").exists() and (tmp_path / "scontrol").read_text() == "requeue 77\n"


@pytest.mark.parametrize(
    ("code", "restarts", "requeued"), [(0, 0, False), (4, 3, True), (4, 20, False), (2, 0, False), (5, 0, False)]
)
def test_only_a_failure_of_the_infrastructure_is_tried_again_and_not_for_ever(
    submit, tmp_path, code, restarts, requeued
):
    job = submit(STEPS="1", CODE=str(code), SLURM_RESTART_COUNT=str(restarts))
    assert job.wait(30) == code and (tmp_path / "scontrol").exists() == requeued


def test_every_role_is_started_with_a_token_that_is_on_no_command_line(submit, tmp_path):
    submit(STEPS="1").wait(30)
    lines = (tmp_path / "srun").read_text()
    token = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines())
    assert all(f'"role_{role}": 1' in lines for role in ("learner", "rollout", "reward"))
    assert token["RAY_AUTH_MODE"] == "token" and len(token["RAY_AUTH_TOKEN"]) == 64
    assert token["RAY_AUTH_TOKEN"] not in lines and "--resume auto" in (tmp_path / "arguments").read_text()
