"""The alerts: rules that Prometheus takes, each tried by promtool on series where it fires and where it must not.

The cases are promtool's own files: `promtool test rules tests/unit/alerts/cases/*.yaml` runs them without pytest.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.tools.needs import or_skip
from tests.tools.wanted import PROMETHEUS

from coterie_node.api.metrics.table import FAMILIES
from coterie_operator.metrics import Metrics

ROOT = Path(__file__).parents[3]
RULES = ROOT / "chart" / "rules" / "coterie.yaml"
RUNBOOK = ROOT / "docs" / "operations.md"
CASES = sorted(Path(__file__).with_name("cases").glob("*.yaml"))
SEVERITIES = {"critical", "warning"}


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}


def expectations(file: Path) -> list[dict[str, Any]]:
    return [one for test in yaml.safe_load(file.read_text())["tests"] for one in test["alert_rule_test"]]


@pytest.fixture(scope="module")
def promtool() -> str:
    with or_skip():
        return PROMETHEUS.program("promtool")


def run(promtool: str, *arguments: str, at: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool, *arguments], cwd=at, capture_output=True, text=True, check=False)


def test_prometheus_takes_the_rules(promtool: str) -> None:
    done = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(RULES), at=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should_and_only_then(promtool: str, file: Path) -> None:
    done = run(promtool, "test", "rules", file.name, at=file.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_firing_and_not_firing() -> None:
    tried = Counter((one["alertname"], bool(one.get("exp_alerts"))) for file in CASES for one in expectations(file))
    assert {name for name, _ in tried} == set(alerts())
    assert [(name, fires) for name in alerts() for fires in (True, False) if not tried[name, fires]] == []


@pytest.mark.parametrize("change", ["never fires", "fires at once"])
@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_spoilt_alerts_are_noticed(promtool: str, tmp_path: Path, file: Path, change: str) -> None:
    """Cases that pass whatever the rules say would be worth nothing."""
    rules = yaml.safe_load(RULES.read_text())
    spoilt = {one["alertname"] for one in expectations(file) if "exp_alerts" in one}
    for rule in (rule for group in rules["groups"] for rule in group["rules"] if rule["alert"] in spoilt):
        if change == "never fires":
            rule["expr"] = f"({rule['expr']}) unless on () vector(1)"
        elif not rule.pop("for", None):
            spoilt.remove(rule["alert"])
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    cases = {**yaml.safe_load(file.read_text()), "rule_files": ["rules.yaml"]}
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(cases))
    done = run(promtool, "test", "rules", "cases.yaml", at=tmp_path)
    assert spoilt - set(re.findall(r"alertname: (\w+)", done.stdout + done.stderr)) == set()


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_what_it_means_and_what_to_do(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"]["severity"] in SEVERITIES
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "runbook_url"}
    assert said["runbook_url"] == f"docs/operations.md#{name.lower()}"
    assert "{{" in said["description"], "the description shows no value"
    assert len(said["summary"]) <= 60


def sections() -> dict[str, str]:
    """Return the runbook's sections by the names of their alerts."""
    found = re.split(r"^#+ (.+)\n", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]
    return {head: text for head, text in zip(found[::2], found[1::2], strict=True) if head.startswith("Coterie")}


def test_every_alert_has_a_section_in_the_runbook_and_every_section_an_alert() -> None:
    assert list(sections()) == list(alerts())


@pytest.mark.parametrize("part", ["means", "look", "do", "no problem"])
def test_every_section_of_the_runbook_has_all_parts(part: str) -> None:
    assert [name for name, text in sections().items() if f"**{part}:**" not in text] == []


def test_the_runbook_tells_a_severity_that_is_the_rule_s() -> None:
    told = {name: text.split(maxsplit=1)[0].strip("*.") for name, text in sections().items()}
    assert told == {name: rule["labels"]["severity"] for name, rule in alerts().items()}


def test_alerts_use_metrics_that_exist() -> None:
    node = {family.name for family in FAMILIES}
    operator = {sample.name for metric in Metrics().registry.collect() for sample in metric.samples}
    families = {metric.name for metric in Metrics().registry.collect()}
    used = {found for rule in alerts().values() for found in re.findall(r"\bcoterie_\w+", rule["expr"])}
    bare = {re.sub(r"_(bucket|count|sum)$", "", name) for name in used}
    assert bare - node - operator - families - {f"{name}_total" for name in families} == set()
