"""What the code must not do, read from its syntax trees. docs/security.md says why."""

import ast

import pytest

PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "torch.load", "__import__"}
FORBIDDEN = {"shell": True, "verify": False, "trust_remote_code": True, "allow_pickle": True, "weights_only": False}
ANYWHERE = "0.0." + "0.0"
REVIEWED: set[str] = set()
"""`path: finding` that a person has looked at and allowed; empty today."""


def findings(module):
    """Every dangerous call, argument, import and default of a module."""
    for name in module.imports():
        if name.split(".")[0] in PICKLES:
            yield f"{module.path}: import {name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and node.value == ANYWHERE:
            yield f"{module.path}: listens on every interface"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        tensors_only = any(k.arg == "weights_only" and getattr(k.value, "value", None) is True for k in node.keywords)
        if called in CALLS and not (called == "torch.load" and tensors_only):
            yield f"{module.path}: {called}"
        for keyword in node.keywords:
            value = getattr(keyword.value, "value", None)
            if keyword.arg in FORBIDDEN and value is FORBIDDEN[keyword.arg]:
                yield f"{module.path}: {keyword.arg}={value}"


def test_no_module_does_what_is_forbidden(modules):
    assert sorted({found for module in modules for found in findings(module)} - REVIEWED) == []


def test_what_is_loaded_from_a_hub_or_a_folder_is_safetensors(modules):
    calls = [(m, n) for m in modules for n in ast.walk(m.tree) if isinstance(n, ast.Call)]
    loads = [(m, n) for m, n in calls if ast.unparse(n.func).endswith((".from_pretrained", ".load_lora_adapter"))]
    asked = {(m.path, n.lineno): ast.unparse(n) for m, n in loads}
    assert asked and [where for where, text in asked.items() if "use_safetensors=True" not in text] == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from cloudpickle import loads",
        "eval(text)",
        "torch.load(path)",
        "subprocess.run(line, shell=True)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        f"serve(host={ANYWHERE!r})",
    ],
)
def test_each_planted_danger_is_found(module, code):
    assert list(findings(module("platform", code)))
