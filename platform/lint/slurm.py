"""A batch script of Slurm: its directives, and what a run that goes back into the queue needs.

sbatch ignores a directive after the first command without a word, and a job that is not allowed to requeue is lost at
the end of its time.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

from burnish.data.errors import Problem
from burnish.platform.lint.command_lines import command_problems
from burnish.platform.lint.documents import Document, under
from burnish.platform.lookup import did_you_mean

_OPTIONS = """
account array begin chdir comment constraint container container-id contiguous core-spec cores-per-socket cpu-freq
cpus-per-gpu cpus-per-task dependency distribution error exclude exclusive export extra-node-info get-user-env gpu-bind
gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task gres gres-flags hint hold ignore-pbs input job-name
kill-on-invalid-dep licenses mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nice
no-kill no-requeue nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket
open-mode output overcommit oversubscribe parsable partition power prefer priority profile propagate qos quiet reboot
requeue reservation segment signal sockets-per-node spread-job stepmgr switches test-only thread-spec threads-per-core
time time-min tmp tres-bind tres-per-task uid use-min-nodes verbose wait wait-all-nodes wckey wrap
"""
OPTIONS = frozenset(_OPTIONS.split())
"""Long options of sbatch."""
_DIRECTIVE = re.compile(r"#SBATCH\s+(.*?)\s*(?:\s#.*)?")
_SHORT = re.compile(r"-[A-Za-z]\b")


def slurm_problems(document: Document) -> Iterator[Problem]:
    """Problems of a batch script."""
    lines = document.text.splitlines()
    yield from _syntax(document.text)
    given: dict[str, str] = {}
    began = False
    for number, line in enumerate(lines, start=1):
        match = _DIRECTIVE.fullmatch(line)
        if match is None:
            began = began or bool(line.strip() and not line.lstrip().startswith("#"))
            continue
        if began:
            yield Problem(f"line {number}", line, "directives above the first command", "sbatch ignores it here")
        yield from under(f"line {number}", _directive(match[1], given))
    yield from _needed(given, "\n".join(line for line in lines if not line.lstrip().startswith("#")))
    joined = ""
    for number, line in enumerate(lines, start=1):
        joined += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        if re.match(r"\s*burnish\s", joined):
            yield from under(f"line {number}", command_problems(joined, again="requeue" in given))
        joined = ""


def _syntax(text: str) -> Iterator[Problem]:
    shell = shutil.which("bash")
    if not text.startswith("#!"):
        yield Problem("line 1", "no interpreter", "#!/bin/bash", "sbatch refuses the script")
    if shell is None:
        return
    ran = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True, timeout=30)
    for line in ran.stderr.splitlines()[:1]:
        yield Problem("script", line.partition("bash: ")[2] or line, "a script that `bash -n` accepts")


def _directive(text: str, given: dict[str, str]) -> Iterator[Problem]:
    if text == "hetjob" or _SHORT.match(text):
        return
    name, _, value = text.removeprefix("--").replace(" ", "=", 1).partition("=")
    given[name] = value.strip()
    if not text.startswith("--") or name not in OPTIONS:
        yield Problem(name, text, "an option of sbatch", did_you_mean(name, OPTIONS))


def _needed(given: dict[str, str], body: str) -> Iterator[Problem]:
    if "requeue" not in given:
        yield Problem("#SBATCH", "no --requeue", "--requeue", "a preempted job is cancelled otherwise")
    if given.get("open-mode") != "append":
        yield Problem("#SBATCH", "no --open-mode=append", "--open-mode=append", "a restart cuts the log off otherwise")
    signal = re.fullmatch(r"B:(?:SIG)?(\w+)@(\d+)", given.get("signal", ""))
    if signal is None:
        hint = "B: signals the script alone; Ray's processes would die of it"
        yield Problem("#SBATCH --signal", repr(given.get("signal", "nothing")), "B:USR1@300", hint)
    elif not re.search(rf"^\s*trap\s.*\b{signal[1]}\b", body, re.MULTILINE):
        yield Problem("trap", f"no trap of {signal[1]}", f"trap … {signal[1]}", "the signal would end the script")
    if "no-kill" not in given:
        yield Problem("#SBATCH", "no --no-kill", "--no-kill", "Slurm ends the job with its first lost node otherwise")
    steps = re.findall(r"^\s*srun\b.*", body.replace("\\\n", " "), re.MULTILINE)
    for step in (step for step in steps if "ray start" in step and "--cpus-per-task" not in step):
        yield Problem("srun", step.strip()[:60], "--cpus-per-task=…", "srun takes no such option from the directives")
    if steps and "burnish train" in body and "--cluster.wait_for_nodes" not in body:
        hint = "the run is refused where it starts before the nodes have joined"
        yield Problem("burnish train", "no --cluster.wait_for_nodes", "--cluster.wait_for_nodes SECONDS", hint)
    for text, allowed, hint in (
        ("RAY_AUTH_MODE=token", "export RAY_AUTH_MODE=token", "every user of the cluster could run commands as you"),
        ("umask 077", "umask 077 before the token is made", "others could read the token"),
        ("set -euo pipefail", "set -euo pipefail", "a failed step would go unnoticed"),
    ):
        if text not in body:
            yield Problem("script", f"no {text}", allowed, hint)
    exposed = re.search(r"--dashboard-host[= ](?!127\.0\.0\.1|localhost)(\S+)", body)
    if exposed:
        yield Problem("script", f"--dashboard-host {exposed[1]}", "127.0.0.1")
