"""A Dockerfile: the same image from the same text, and no root in it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from burnish.data.errors import Problem
from burnish.platform.lint.documents import Document
from burnish.platform.lint.images import image_problems
from burnish.platform.lookup import did_you_mean

_WORDS = """
ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER VOLUME
WORKDIR
"""
INSTRUCTIONS = frozenset(_WORDS.split())
_SECRET = re.compile(r"(\w*(?:TOKEN|SECRET|PASSWORD|API_?KEY)\w*)=(\S+)", re.IGNORECASE)


def dockerfile_problems(document: Document) -> Iterator[Problem]:
    """Problems of a Dockerfile."""
    stages: set[str] = set()
    user, command = "root", 0
    for number, word, rest in _instructions(document.text):
        where = f"line {number}"
        if word not in INSTRUCTIONS:
            yield Problem(where, word, ", ".join(sorted(INSTRUCTIONS)), did_you_mean(word, INSTRUCTIONS))
        if word == "FROM":
            image, _, name = re.sub(r"--\S+\s+", "", rest).partition(" AS ")
            if image.strip() not in stages and image.strip() != "scratch":
                yield from image_problems(where, image.strip())
            stages.add(name.strip())
            user = "root"
        elif word == "USER":
            user = rest.partition(":")[0].strip()
        elif word in ("CMD", "ENTRYPOINT"):
            command = number
        yield from _risks(where, word, rest)
    if user in ("root", "0"):
        yield Problem("USER", user, "a user that is not root", "KubeRay's pods here run as user 1000")
    if not command:
        yield Problem("CMD", "nothing", "CMD or ENTRYPOINT")


def _risks(where: str, word: str, rest: str) -> Iterator[Problem]:
    if word == "ADD":
        yield Problem(where, "ADD", "COPY", "ADD fetches and unpacks")
    if word in ("ENV", "ARG"):
        for name, _ in _SECRET.findall(rest):
            if name != "RAY_AUTH_MODE":
                yield Problem(where, f"{name} in {word}", "a secret mounted at run time", "it stays in the image")
    if word != "RUN":
        return
    if re.search(r"(curl|wget)[^|]*\|\s*(ba)?sh", rest):
        yield Problem(where, "a download that is run", "packages of a pinned version")
    if re.search(r"pip3? install(?![^&|;]*(-c|--constraint|--no-deps)\s)", rest):
        yield Problem(where, "pip install without constraints", "pip install -c constraints.txt …")
    if re.search(r"--(extra-)?index-u" + "rl", rest):
        yield Problem(where, "an address of a package index", "pip's own configuration", "it is the builder's choice")


def _instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, instruction, the rest with its continued lines joined)."""
    joined, start = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#") or not (joined or line.strip()):
            continue
        start = start or number
        joined += line.rstrip().removesuffix("\\").strip() + " "
        if not line.rstrip().endswith("\\"):
            word, _, rest = joined.strip().partition(" ")
            yield start, word.upper(), rest.strip()
            joined, start = "", 0
