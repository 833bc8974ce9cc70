"""`burnish lint`: what ships passes once the user's values are in it, and every planted error is found."""

import json
import re
from pathlib import Path

import pytest

from burnish.data.errors import ConfigError
from burnish.platform.cli import main
from burnish.platform.lint.files import lint, write
from burnish.platform.lint.values import PLACE, VALUES, collect, fill

CLUSTERS = Path(__file__).parents[2] / "clusters"
SHIPPED = sorted(p.relative_to(CLUSTERS).as_posix() for p in CLUSTERS.rglob("*") if p.is_file() and p.suffix != ".env")

# The sixteen of KubeRay: eleven that its schema refuses, five that only its operator does.
JOB, SERVICE = "kuberay/rayjob.yaml", "kuberay/rayservice.yaml"
SIXTEEN = {
    "a misspelt field": (JOB, "enableInTreeAutoscaling", "enableInTreeAutoscalling", "did you mean enableInTree"),
    "replicas as text": (JOB, "replicas: 2\n", 'replicas: "2"\n', "replicas: got"),
    "no head group": (JOB, "headGroupSpec:", "headGroup:", "headGroupSpec: got nothing"),
    "no template": (JOB, "template:", "temlate:", "template: got nothing"),
    "no group name": (JOB, "groupName: reward", "suspend: false", "groupName: got nothing"),
    "an unknown auth mode": (JOB, "mode: token", "mode: tokens", "authOptions.mode: got"),
    "an unknown upscaling mode": (JOB, "upscalingMode: Default", "upscalingMode: Fast", "upscalingMode: got"),
    "a start parameter as a number": (
        JOB,
        "rayStartParams: {}",
        "rayStartParams: {metrics-export-port: 8080}",
        "rayStartParams.metrics-export-port: got 8080, allowed text",
    ),
    "a Serve config that is no text": (SERVICE, r"serveConfigV2: \|", "serveConfigV2:", "serveConfigV2: got"),
    "a wrong quantity": (JOB, "memory: 16Gi", "memory: 16Gib", "memory: got"),
    "an unknown network policy": (JOB, "mode: DenyAllIngress", "mode: Deny", "networkPolicy.mode: got"),
    "an unknown submission mode": (JOB, "K8sJobMode", "K8sMode", "did you mean K8sJobMode"),
    "a negative backoff limit": (JOB, "backoffLimit: 3", "backoffLimit: -1", "backoffLimit: got -1"),
    "more at least than at most": (JOB, "minReplicas: 2", "minReplicas: 20", "minReplicas: got 20"),
    "no entrypoint": (JOB, r"  entrypoint: (.*\n)+?(?=  submission)", "", "entrypoint: got nothing"),
    "an unknown upgrade": (SERVICE, "type: NewCluster", "type: NewClusters", "upgradeStrategy.type: got"),
}


@pytest.fixture
def filled(tmp_path, values):
    """Write a shipped file with values and a change of its text; a pattern must be there to be changed."""

    def make(name, old="", new=""):
        text = fill((CLUSTERS / name).read_text(), values)
        changed, count = re.subn(old, lambda _: new, text) if old else (text, 1)
        assert count, old
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(changed)
        return path

    return make


def refusal(path, values=None):
    with pytest.raises(ConfigError) as caught:
        lint(path, values or {})
    return caught.value


@pytest.mark.parametrize("name", SHIPPED)
def test_each_shipped_file_passes_with_the_users_values_and_not_without(name, values):
    assert [checked.path for checked in lint(CLUSTERS / name, values)] == [CLUSTERS / name]
    needed = set(PLACE.findall((CLUSTERS / name).read_text()))
    assert not needed or {p.got.split()[0] for p in refusal(CLUSTERS / name).problems} == needed


def test_values_that_the_files_need_are_those_of_the_example_file(values):
    used = {name for file in SHIPPED for name in PLACE.findall((CLUSTERS / file).read_text())}
    listed = re.findall(r"^(\w+)=$", (CLUSTERS / "values.env").read_text(), re.MULTILINE)
    page = (CLUSTERS.parent / "docs" / "operations" / "lint.md").read_text()
    assert used == set(VALUES) == set(listed) == set(values) == {n for n in VALUES if f"`{n}`" in page}


@pytest.mark.parametrize(("file", "old", "new", "found"), SIXTEEN.values(), ids=SIXTEEN)
def test_each_of_the_sixteen_planted_errors_is_found(filled, file, old, new, found):
    error = refusal(filled(file, old, new))
    assert found in str(error) and error.exit_code == 2


def test_all_problems_come_at_once_each_with_its_file_and_field(filled, tmp_path):
    filled(*SIXTEEN["an unknown upgrade"][:3])
    both = filled(JOB, "backoffLimit: 3", "backoffLimit: -1")
    both.write_text(both.read_text().replace("K8sJobMode", "Mode").replace("memory: 16Gi", "memory: x"))
    fields = [problem.field for problem in refusal(tmp_path).problems]
    assert {f.split(": ")[0] for f in fields} == {str(both), str(tmp_path / SERVICE)} and len(fields) >= 4
    assert f"{both}: spec.submissionMode" in fields and f"{both}: spec.backoffLimit" in fields


def test_values_come_from_a_file_and_the_command_line_wins(tmp_path):
    file = tmp_path / "mine.env"
    file.write_text("# mine\nBURNISH_RECIPE=smoke\nBURNISH_REGION=\n")
    assert collect(file, ["BURNISH_RECIPE=tiny"]) == {"BURNISH_RECIPE": "tiny"}
    with pytest.raises(ConfigError) as caught:
        collect(file, ["BURNISH_IMAGE=burnish:latest", "BURNISH_RECIP=x", "nonsense"])
    assert len(caught.value.problems) == 3 and "did you mean BURNISH_RECIPE?" in str(caught.value)


def test_what_is_written_is_what_was_checked(tmp_path, values):
    checked = lint(CLUSTERS, values)
    write(checked, CLUSTERS, tmp_path / "out")
    assert len(lint(tmp_path / "out", {})) == len(checked) == len(SHIPPED)
    with pytest.raises(ConfigError):
        write(checked, CLUSTERS, tmp_path / "out")


@pytest.mark.parametrize(
    "text",
    [b"\xff\xfe", b"a: 1\na: 2\n", b"a: &x 1\nb: *x\n", b"kind: RayClutser\n", b"hello: world\n", b"[1, 2]\n", b""],
)
def test_a_file_that_is_nothing_known_is_refused(tmp_path, text):
    path = tmp_path / "file.yaml"
    path.write_bytes(text)
    assert refusal(path).problems


def test_a_directory_without_any_file_is_refused(tmp_path):
    assert "nothing to check" in str(refusal(tmp_path))


def test_the_command_says_what_it_checked_and_leaves_with_2_on_a_problem(capsys, tmp_path, values):
    given = [f"--set={name}={value}" for name, value in values.items()]
    with pytest.raises(SystemExit) as left:
        main(["lint", str(CLUSTERS), "--json", *given, "--write", str(tmp_path / "out")])
    assert not left.value.code and len(json.loads(capsys.readouterr().out)["files"]) == len(SHIPPED)
    with pytest.raises(SystemExit) as left:
        main(["lint", str(CLUSTERS), "--json"])
    assert left.value.code == 2 and "BURNISH_IMAGE unset" in capsys.readouterr().err
