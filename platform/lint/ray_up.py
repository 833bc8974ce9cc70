"""A cluster file of `ray up`: the schema is Ray's own, the rules are those that Ray checks late or not at all."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from burnish.data.errors import Problem
from burnish.platform.lint.documents import Document, mapping
from burnish.platform.lint.images import image_problems
from burnish.platform.lint.kuberay import ROLES
from burnish.platform.lint.schema import schema_problems
from burnish.platform.lookup import did_you_mean

_EVERYWHERE = re.compile(r"--dashboard-host[= ](?!127\.0\.0\.1|localhost)(\S+)")


@functools.cache
def ray_schema() -> dict[str, Any]:
    """The schema that the installed Ray ships; finding it does not import Ray."""
    spec = importlib.util.find_spec("ray")
    assert spec is not None and spec.submodule_search_locations
    path = Path(next(iter(spec.submodule_search_locations))) / "autoscaler" / "ray-schema.json"
    return json.loads(path.read_text("utf-8"))


def ray_up_problems(document: Document) -> Iterator[Problem]:
    """Problems of a cluster file."""
    tree = document.tree
    yield from schema_problems(tree, ray_schema())
    for place in ("docker", "docker.head", "docker.worker"):
        section, _, who = place.partition(".")
        name = f"{who}_image" if who else "image"
        if name in mapping(tree, section):
            yield from image_problems(f"{section}.{name}", mapping(tree, section)[name])
    yield from _node_types(tree)
    yield from _commands(tree)
    if mapping(tree, "provider").get("type") == "aws":
        yield from _defaults_of_aws(tree)


def _node_types(tree: Mapping[str, Any]) -> Iterator[Problem]:
    types, most = mapping(tree, "available_node_types"), tree.get("max_workers", 2)
    head = tree.get("head_node_type")
    if types and head not in types:
        yield Problem("head_node_type", repr(head), ", ".join(types), did_you_mean(str(head), types))
    asked, offered = 0, set[str]()
    for name in types:
        node = mapping(types, name)
        low, high = node.get("min_workers", 0), node.get("max_workers", 0 if name == head else most)
        offered |= set(mapping(node, "resources"))
        if not isinstance(low, int) or not isinstance(high, int):
            continue
        asked += low
        if low > high:
            yield Problem(f"available_node_types.{name}.min_workers", str(low), f"<= {high}, max_workers")
        for role in (r for r in mapping(node, "resources") if r.startswith("role") and r not in ROLES):
            field = f"available_node_types.{name}.resources.{role}"
            yield Problem(field, "an unknown role", ", ".join(ROLES), did_you_mean(role, ROLES))
    if isinstance(most, int) and asked > most:
        yield Problem("max_workers", str(most), f">= {asked}, the sum of min_workers")
    for role in (r for r in ROLES if offered & set(ROLES) and r not in offered):
        yield Problem("available_node_types", f"no node with resources.{role}", f"a node type that offers {role}")


def _defaults_of_aws(tree: Mapping[str, Any]) -> Iterator[Problem]:
    """What Ray puts in by itself where nothing is said."""
    for name, node in mapping(tree, "available_node_types").items():
        if isinstance(node, Mapping) and "ImageId" not in mapping(node, "node_config"):
            field = f"available_node_types.{name}.node_config.ImageId"
            yield Problem(field, "nothing", "ami-…", "Ray takes an image of its own, perhaps too old for torch")
    for part in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        if part not in tree:
            yield Problem(part, "nothing", "[] or commands", "Ray's own for AWS install packages beside the image's")


def _commands(tree: Mapping[str, Any]) -> Iterator[Problem]:
    for part in ("head_start_ray_commands", "worker_start_ray_commands"):
        commands = tree.get(part)
        starts = [(i, c) for i, c in enumerate(commands or ()) if isinstance(c, str) and "ray start" in c]
        if not starts:
            hint = "Ray's defaults start without a token where your home directory has none"
            yield Problem(part, "no `ray start`", "RAY_AUTH_MODE=token ray start …", hint)
        for index, command in starts:
            if "RAY_AUTH_MODE=token" not in command:
                yield Problem(f"{part}.{index}", "no RAY_AUTH_MODE=token", "RAY_AUTH_MODE=token ray start …")
            found = _EVERYWHERE.search(command)
            if found:
                hint = "reach it through `ray dashboard`"
                yield Problem(f"{part}.{index}", f"--dashboard-host {found[1]}", "127.0.0.1", hint)
    if not any("auth_token" in str(name) for name in mapping(tree, "file_mounts")):
        yield Problem("file_mounts", "no token file", "~/.ray/auth_token: ~/.ray/auth_token")
