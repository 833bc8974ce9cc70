"""A headless Chromium, driven through its DevTools socket: real key, mouse and touch events, and a log of requests."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-extensions --hide-scrollbars --remote-debugging-port=0"
)
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "Home": 36, "Delete": 46}
KEYS |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
SHIFT, CONTROL = 8, 2


@contextmanager
def started(profile: Path) -> "Iterator[Chromium]":
    """A browser as long as the context lasts; `profile` is a fresh directory."""
    command = [str(PROGRAM), *FLAGS.split(), f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    port_file = profile / "DevToolsActivePort"
    try:
        wait(lambda: port_file.exists() and port_file.read_text().count("\n") == 1, "the browser", 60.0)
        port, path = port_file.read_text().split()
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, compression=None, proxy=None) as socket:
            yield Chromium(socket)
    finally:
        process.terminate()
        process.wait(10)


def wait(done: Callable[[], Any], what: str, seconds: float = 15.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.03)


class Chromium:
    """A browser with one tab at a time.

    Args:
        socket: to its DevTools.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._count = socket, 0
        self._session = self._context = self.chooser = None
        self.requests: list[str] = []
        self.troubles: list[str] = []

    def fresh(self, downloads: Path) -> None:
        """Leave the tab for one without history, storage or cache, whose downloads go to this directory."""
        self._session, old = None, self._context
        if old is not None:
            self.send("Target.disposeBrowserContext", browserContextId=old)
        self._context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", url="about:blank", browserContextId=self._context)["targetId"]
        allowed = {"behavior": "allow", "downloadPath": str(downloads), "browserContextId": self._context}
        self.send("Browser.setDownloadBehavior", **allowed)
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM", "Log"):
            self.send(f"{domain}.enable")
        self.requests, self.troubles = [], []

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and take its answer; events on the way are noted."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        self._socket.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        while True:
            got = json.loads(self._socket.recv(timeout=30))
            if got.get("id") == self._count:
                assert "error" not in got, f"{method}: {got['error']}"
                return got["result"]
            self._note(got["method"], got.get("params", {}))

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.troubles.append(str(params["exceptionDetails"].get("exception", {}).get("description")))
        elif method == "Log.entryAdded" and params["entry"]["source"] == "security":
            self.troubles.append(params["entry"]["text"])
        elif method == "Page.fileChooserOpened":
            self.chooser = params["backendNodeId"]

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        found = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, f"{script}: {found}"
        return found["result"].get("value")

    def until(self, script: str, seconds: float = 15.0) -> None:
        """Wait until an expression in the page is true."""
        wait(lambda: self.run(f"Boolean({script})"), f"{script}; the page says {self.alert!r}", seconds)

    @property
    def alert(self) -> str:
        """What the page complains of."""
        hidden = "document.getElementById('alert')?.hidden !== false"
        return self.run(f"{hidden} ? '' : document.getElementById('alert').innerText") if self._session else ""

    def open(self, url: str, *, width: int = 1280, height: int = 800, phone: bool = False, dark: bool = False) -> None:
        """Load a page into a window of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Emulation.setTouchEmulationEnabled", enabled=phone)
        media = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        self.send("Emulation.setEmulatedMedia", features=[{"name": k, "value": v} for k, v in media.items()])
        self.send("Page.navigate", url=url)
        self.until(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})")

    def choose(self, *files: Path) -> None:
        """Choose files in the dialog that the page opens; call with none before it opens, with files after."""
        if not files:
            self.send("Page.setInterceptFileChooserDialog", enabled=True)
            return
        wait(lambda: self.run("1") and self.chooser, "a file dialog")
        self.send("DOM.setFileInputFiles", backendNodeId=self.chooser, files=[str(f) for f in files])
        self.chooser = None

    def give(self, selector: str, *files: Path) -> None:
        """Choose files in a file input."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(f) for f in files])

    def place(self, selector: str, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        """Where a point of an element lies in the window; x and y are parts of its sides."""
        box = self.run(f"(({{x,y,width,height}}) => [x,y,width,height])({_query(selector)}.getBoundingClientRect())")
        return box[0] + x * box[2], box[1] + y * box[3]

    def click(self, selector: str) -> None:
        """Click an element, once nothing covers its middle."""
        self.run(f"{_query(selector)}.scrollIntoView({{block: 'nearest'}})")
        self.until(f"{_query(selector)}.contains(document.elementFromPoint(...{json.dumps(self.place(selector))}))")
        self.drag([self.place(selector)])

    def drag(self, points: list[tuple[float, float]]) -> None:
        """Press the mouse at the first point, move through the others, let go."""
        for kind, (x, y) in [
            ("mousePressed", points[0]),
            *(("mouseMoved", p) for p in points[1:]),
            ("mouseReleased", points[-1]),
        ]:
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def swipe(self, points: list[tuple[float, float]]) -> None:
        """A finger goes down at the first point, through the others, and up."""
        for i, (x, y) in enumerate(points):
            self.send(
                "Input.dispatchTouchEvent", type="touchMove" if i else "touchStart", touchPoints=[{"x": x, "y": y}]
            )
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, *keys: str, modifiers: int = 0) -> None:
        """Press keys by name, or type single characters."""
        for key in keys:
            code = KEYS.get(key) or ord(key.upper()[0])
            text = "\r" if key == "Enter" else key if len(key) == 1 and not modifiers & CONTROL else ""
            common = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
            self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
            self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def tab_to(self, selector: str) -> None:
        """Press Tab until an element has the focus; fails after a round through the page."""
        for _ in range(60):
            if self.run(f"document.activeElement === {_query(selector)}"):
                return
            self.press("Tab")
        raise AssertionError(f"Tab does not reach {selector}")

    def type(self, text: str) -> None:
        """Type text where the focus is."""
        self.send("Input.insertText", text=text)

    def shoot(self, file: Path) -> None:
        """Save what is seen as PNG."""
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


def _query(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)})"
