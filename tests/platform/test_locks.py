import json
import os
import socket
import subprocess
import sys
import time

import pytest

from burnish.data.errors import InfrastructureError
from burnish.platform.locks import Holder, RunLock, RunLockedError

HOLD = """
import sys, time
from pathlib import Path
from burnish.platform.locks import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
ORPHAN = """
import os, sys, time
from pathlib import Path
from burnish.platform.locks import RunLock
RunLock(Path(sys.argv[1])).acquire()
if os.fork() == 0:
    print(os.getpid(), flush=True)
    time.sleep(60)
os._exit(137)
"""


@pytest.fixture
def other_driver(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_driver_is_refused_in_two_seconds_and_told_who_holds_the_run(tmp_path, other_driver):
    start = time.monotonic()
    with pytest.raises(RunLockedError, match=f"process {other_driver.pid} on {socket.gethostname()}") as caught:
        RunLock(tmp_path).acquire()
    assert time.monotonic() - start < 2
    assert isinstance(caught.value, InfrastructureError)
    assert RunLock(tmp_path).held_elsewhere()


def test_the_lock_of_a_killed_driver_is_free_at_once(tmp_path, other_driver):
    other_driver.kill()
    other_driver.wait()
    with RunLock(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_a_lock_that_a_dead_drivers_child_still_holds_is_taken_over(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ORPHAN, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    orphan = int(child.stdout.readline())
    assert child.wait() == 137
    try:
        with RunLock(tmp_path) as lock:
            assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
            with pytest.raises(RunLockedError):
                RunLock(tmp_path).acquire()
        lock.release()
    finally:
        os.kill(orphan, 9)
        child.stdout.close()


def test_a_lock_can_be_taken_again_after_release(tmp_path):
    with RunLock(tmp_path):
        assert RunLock(tmp_path).held_elsewhere()
    assert not RunLock(tmp_path).held_elsewhere()


def test_only_a_process_of_this_host_is_ever_called_dead():
    here = socket.gethostname()
    assert not Holder(here, os.getpid()).is_dead
    assert not Holder("elsewhere", 2**22 + 5).is_dead
    assert Holder(here, 2**22 + 5).is_dead
    assert not Holder(here, 0).is_dead
