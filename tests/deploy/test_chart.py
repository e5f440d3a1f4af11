"""What can be told of the chart without Helm. tests/kubernetes installs it."""

import re
from pathlib import Path

import aiohttp
import orjson

from logsvc import metrics
from tests.support.ports import free_port
from tests.support.roles import Role

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart"
RULE = re.compile(r"- (\{apiGroups: .*\})")


def expressions() -> list[str]:
    panels = orjson.loads((CHART / "dashboard.json").read_bytes())["panels"]
    drawn = [target["expr"] for panel in panels for target in panel["targets"]]
    return drawn + re.findall(r"expr: ((?!>-).*|>-\n(?: {10}.*\n)+)", (CHART / "alerts.yaml").read_text())


def test_alerts_and_dashboard_ask_for_metrics_that_there_are() -> None:
    body, _ = metrics.render()
    known = set(re.findall(r"^# TYPE (\w+) ", body.decode(), re.MULTILINE))
    asked = {name for expression in expressions() for name in re.findall(r"\blogsvc_\w+", expression)}
    assert len(asked) > 10
    assert {re.sub("_bucket$", "", name) for name in asked} <= known


async def test_the_alert_of_a_missing_role_is_silenced_by_that_role_alone(tmp_path: Path) -> None:
    (expression,) = [each for each in expressions() if "absent(" in each]
    awaited = set(re.findall(r"absent\((.*?)\)", expression))
    assert len(awaited) == expression.count("absent")
    nowhere = f"127.0.0.1:{free_port()}"
    settings = {"kafka.bootstrap": f'["{nowhere}"]', "clickhouse.urls": f'["http://{nowhere}"]', "probe.port": 0}
    settings["sessions.keys"] = '["0123456789abcdef0123456789abcdef0123456789a"]'
    shown = {}
    for name in ("collect", "store", "drain", "serve"):
        given = ("--node", "n", "--data", str(tmp_path / "data")) if name == "collect" else ()
        async with Role(tmp_path / name, (name, *given), "", settings) as role:
            role.launch()
            await role.said("probes and metrics are at")
            async with aiohttp.ClientSession() as client, client.get(f"{role.probes}/metrics") as answer:
                samples = await answer.text()
            shown[name] = {series for series in awaited if re.search(rf"^{re.escape(series)}", samples, re.MULTILINE)}
    assert all(len(series) == 1 for series in shown.values()), shown
    assert set().union(*shown.values()) == awaited


def test_collect_may_do_what_the_documentation_says_and_no_more() -> None:
    parts = (ROOT / "docs" / "operations.md").read_text().split("```")
    documented = [RULE.findall(part) for part in parts if "kind: ClusterRole\n" in part]
    templates = CHART / "templates"
    before, _, others = (templates / "collect.yaml").read_text().partition("{{- if $files }}\n  - {api")
    both = RULE.findall(before)
    files, _, api = others.partition("{{- else }}")
    rules = [[*both, *RULE.findall("- {api" + files)], RULE.findall((templates / "rollouts.yaml").read_text())]
    rules.append([*both, *RULE.findall(api)])
    assert rules == documented


def test_every_value_has_a_type_and_no_other_is_taken() -> None:
    """The schema has what values.yaml has: a name that is only in one of them is a slip."""
    schema = orjson.loads((CHART / "values.schema.json").read_bytes())
    text = (CHART / "values.yaml").read_text()
    groups = set(re.findall(r"^(\w+):", text, re.MULTILINE))
    assert groups == schema["properties"].keys() - {"global"}
    for group in groups:
        block = re.split(r"^(?=\w)", text[text.index(f"\n{group}:") + 1 :], flags=re.MULTILINE)[1]
        names = set(re.findall(r"^  (\w+):", block, re.MULTILINE)) or set(
            re.findall(r"(\w+): ", block.partition(":")[2])
        )
        declared = schema["properties"][group].get("properties", {}).keys()
        assert names == declared or group == "secret", group
        assert schema["properties"][group].get("additionalProperties") is not True


def test_the_chart_is_of_this_version() -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert (
        re.findall(r"^(?:appVersion|version): (.*)", (CHART / "Chart.yaml").read_text(), re.MULTILINE)
        == [version[1]] * 2
    )
