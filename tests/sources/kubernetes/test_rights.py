"""`logsvc check` asks for the rights that the documentation names. tests/kubernetes asks a real API server."""

import re
from pathlib import Path

import orjson
import pytest

from logsvc.sources.kubernetes.rights import NEEDED

ROOT = Path(__file__).parents[3]
RULE = re.compile(r"- (\{apiGroups: .*\})")


@pytest.mark.parametrize(
    ("source", "name"),
    [("files", "logsvc-collect"), ("api", "logsvc-collect-api"), ("rollouts", "logsvc-collect-rollouts")],
)
def test_they_are_those_that_are_documented(source: str, name: str) -> None:
    assert {(right.resource.group, right.resource.name, verb) for right in NEEDED[source] for verb in right.verbs} == (
        documented(name)
    )


def documented(role: str) -> set[tuple[str, str, str]]:
    """Group, resource and verb of all rules."""
    parts = (ROOT / "docs" / "operations.md").read_text().split("```")
    (part,) = [part for part in parts if f"kind: ClusterRole\nmetadata: {{name: {role}}}" in part]
    rules = [orjson.loads(re.sub(r"(\w+):", r'"\1":', rule)) for rule in RULE.findall(part)]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
