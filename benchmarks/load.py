"""Clients that ask a server of burnish again and again, and the server in a process of its own."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests
from PIL import Image

from burnish.data.photos import bundled_scenes

REPLICA, INGRESS = "ServeReplica:burnish:Replica", "ServeReplica:burnish:Ingress"
START_SECONDS = 240.0


def request_body(*, side: int = 128, **fields: object) -> bytes:
    """A request of `POST /v1/refine`: a crop of a bundled photograph and a box in its middle."""
    (scene,) = [s for s in bundled_scenes("heldout") if s.name == "flower"]
    picture, stream = Image.open(scene.path).convert("RGB").crop((200, 100, 200 + side, 100 + side)), io.BytesIO()
    picture.save(stream, "PNG")
    box = [side // 4, side // 4, side // 2, side // 2]
    return json.dumps({"image": base64.b64encode(stream.getvalue()).decode(), "box": box, **fields}).encode()


@dataclass(frozen=True)
class Try:
    """One request on the wire."""

    since: float
    seconds: float
    status: int
    version: str = ""
    retry_after: str = ""
    late: bool = False


@dataclass
class Load:
    """Closed-loop clients: each asks, waits for the answer, and asks again; what may pass is sent again.

    Args:
        url: the server.
        body: what everybody sends.
        clients: how many.
        again: send a refused request again under its key, after the seconds that the server says.
    """

    url: str
    body: bytes
    clients: int
    again: bool = True
    tries: list[Try] = field(default_factory=list)
    lost: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> Load:
        """Begin."""
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> list[Try]:
        """Let every client finish its request; all tries."""
        self.ended.set()
        for thread in self._threads:
            thread.join()
        return self.tries

    def during(self, seconds: float) -> list[Try]:
        """Run for so long."""
        self.start()
        time.sleep(seconds)
        return self.stop()

    def _ask(self) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not self.ended.is_set():
                self._request(session)

    def _request(self, session: requests.Session) -> None:
        headers = {"content-type": "application/json", "idempotency-key": uuid.uuid4().hex}
        for count in range(12):
            made = self._try(session, headers, late=count > 0)
            self.tries.append(made)
            if made.status == 200:
                return
            time.sleep(float(made.retry_after or 1.0))
            if not self.again:
                return
        self.lost += 1

    def _try(self, session: requests.Session, headers: dict[str, str], *, late: bool) -> Try:
        since = time.monotonic()
        try:
            reply = session.post(f"{self.url}/v1/refine", data=self.body, headers=headers, timeout=120.0)
        except requests.RequestException:
            return Try(since, time.monotonic() - since, 0, late=late)
        version = reply.headers.get("x-burnish-version", "")
        after = reply.headers.get("retry-after", "")
        return Try(since, time.monotonic() - since, reply.status_code, version, after, late)


def percentile(tries: Sequence[Try]) -> float:
    """p99 of the answered tries' seconds, p95 where there are under 200; NaN without any."""
    seconds = sorted(t.seconds for t in tries if t.status == 200)
    if not seconds:
        return float("nan")
    share = 0.99 if len(seconds) >= 200 else 0.95
    return seconds[min(len(seconds) - 1, int(share * len(seconds)))]


def median(tries: Sequence[Try]) -> float:
    """p50 of the answered tries' seconds."""
    return statistics.median(t.seconds for t in tries if t.status == 200)


@dataclass(frozen=True)
class Server:
    """A server in a process of its own."""

    url: str
    directory: Path
    pid: int

    @property
    def token(self) -> str:
        """Its admin token."""
        return (self.directory / "admin.token").read_text().strip()

    def processes(self) -> dict[int, str]:
        """It and all its children: pid -> command line."""
        parents, names = {}, {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parents[int(path.name)] = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
                names[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        family = {self.pid}
        for _ in range(6):
            family |= {child for child, parent in parents.items() if parent in family}
        return {pid: names[pid] for pid in sorted(family) if pid in names}

    def kill(self, name: str) -> int:
        """SIGKILL to the first process of a name; its pid."""
        pid = next(pid for pid, line in self.processes().items() if name in line)
        os.kill(pid, signal.SIGKILL)
        return pid

    def memory(self) -> dict[str, int]:
        """Bytes by name, shared pages dealt out (PSS)."""
        found: dict[str, int] = {}
        for pid, line in self.processes().items():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            (size,) = [int(text.split()[1]) << 10 for text in lines if text.startswith("Pss:")]
            name = next((n for n in (REPLICA, INGRESS, "ProxyActor", "ServeController") if n in line), "rest")
            found[name] = found.get(name, 0) + size
        return found


@contextmanager
def served(run: str, runs: Path, place: Path, *options: str) -> Iterator[Server]:
    """`burnish serve` of a run; it is asked to end on the way out."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = ["serve", run, "--runs-dir", str(runs), "--directory", str(place), "--port", str(port), *options]
    with place.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "burnish.platform.cli", *line], stdout=log, stderr=log, start_new_session=True
        )
        try:
            server = Server(f"http://127.0.0.1:{port}", place, process.pid)
            _wait_ready(server, process, place.with_suffix(".log"))
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120.0)


def _wait_ready(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if requests.get(f"{server.url}/readyz", timeout=5.0).status_code == 200:
                return
        except requests.RequestException:
            pass
        time.sleep(0.5)
    raise SystemExit(log.read_text())
