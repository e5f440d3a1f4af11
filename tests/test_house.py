"""What CONTRIBUTING.md promises of the repository itself, held by tests so that nobody has to remember it."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prometheus_client.metrics import MetricWrapperBase

from logsvc import config, metrics
from scripts import tables

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REGISTRIES = [
    ".".join(parts)
    for parts in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("golang", "org"),
        ("crates", "io"),
        ("maven", "org"),
        ("deb", "debian", "org"),
    ]
]
FEW_VALUES = {"source", "operation", "tier", "reason", "representation", "outcome", "method", "route", "rule", "status"}
FEW_VALUES |= {"role"}
METRICS = {name: metric for name, metric in vars(metrics).items() if isinstance(metric, MetricWrapperBase)}


@cache
def committed() -> tuple[Path, ...]:
    """Files under version control, and those that are about to be, but for data of others."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = [ROOT / name for name in listing.splitlines() if not name.startswith("tests/data/")]
    return tuple(path for path in paths if path.is_file())


def lines_of(*suffixes: str) -> Iterator[tuple[str, str]]:
    """`file:number` and text of every line of the text files with these suffixes (of all where none is given)."""
    for path in committed():
        if path.suffix in suffixes or (not suffixes and path.suffix != ".png"):
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                yield f"{path.relative_to(ROOT)}:{number}", line


def python_files(folder: str) -> list[Path]:
    return [path for path in committed() if path.suffix == ".py" and path.is_relative_to(ROOT / folder)]


def test_nothing_ties_the_repository_to_one_machine() -> None:
    path = re.compile(r"(^|[^A-Za-z0-9_.~-])/(work|farm|root|home/\w+)/")
    assert [place for place, line in lines_of() if path.search(line)] == []


def test_no_file_names_a_package_registry() -> None:
    # Modules of Go are called as if they were addresses.
    places = [place for place, line in lines_of() if any(host in line for host in REGISTRIES)]
    assert [place for place in places if Path(place.partition(":")[0]).name not in {"go.mod", "go.sum"}] == []


def test_locks_have_what_is_declared_with_hashes() -> None:
    project, groups = PYPROJECT["project"], PYPROJECT["dependency-groups"]
    roles = [*project["dependencies"], *groups["build"]]
    run = [*roles, *project["optional-dependencies"]["embedded"]]
    for file, declared in {"roles": roles, "run": run, "test": [*run, *groups["dev"]]}.items():
        text = (ROOT / "requirements" / f"{file}.txt").read_text()
        entries = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]
        locked = {canonicalize_name(entry.partition("==")[0]) for entry in entries}
        assert {canonicalize_name(Requirement(name).name) for name in declared} <= locked, "make lock"
        assert [entry.partition(" ")[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_what_is_imported_is_declared() -> None:
    project = PYPROJECT["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["embedded"]]
    known = {canonicalize_name(Requirement(name).name) for name in declared}
    of_module = packages_distributions()
    missing = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in python_files("logsvc")
        for module in imports(path)
        if module not in sys.stdlib_module_names and module != "logsvc"
        if not known & {canonicalize_name(name) for name in of_module.get(module, [])}
    }
    assert missing == set()


def imports(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module.partition(".")[0])
    return modules


def test_every_setting_says_what_it_means() -> None:
    silent = [name for name, field in config.fields() if not sentence(field.description)]
    assert silent == []


def test_every_metric_says_what_it_means() -> None:
    silent = [
        name for name, metric in METRICS.items() for each in metric.describe() if not sentence(each.documentation)
    ]
    assert silent == []


def sentence(text: str | None) -> bool:
    return text is not None and re.fullmatch(r"[A-Z].+[.]", text, re.DOTALL) is not None


@pytest.mark.parametrize("name", METRICS)
def test_labels_have_few_values(name: str) -> None:
    assert set(METRICS[name]._labelnames) <= FEW_VALUES


def test_every_metric_is_measured() -> None:
    code = "".join(path.read_text() for path in python_files("logsvc"))
    assert [name for name in METRICS if f"metrics.{name}" not in code and name != "build"] == []


def test_the_tables_of_the_documentation_are_up_to_date() -> None:
    text = tables.FILE.read_text("utf-8")
    assert tables.with_tables(text) == text, "make tables"
    assert "| `http.port` | `8080` |" in text
    assert "| `logsvc_tails` | gauge |" in text


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {link}"
        for path in committed()
        if path.suffix == ".md"
        for link in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", path.read_text("utf-8"))
        if not (path.parent / link).exists()
    ]
    assert broken == []


def test_decisions_are_listed() -> None:
    listed = (ROOT / "docs/adr/README.md").read_text("utf-8")
    records = [path.name for path in (ROOT / "docs/adr").glob("[0-9]*.md")]
    assert [name for name in records if f"]({name})" not in listed] == []


def test_files_stay_readable() -> None:
    long = [place for place, _ in lines_of(".py", ".js") if int(place.rpartition(":")[2]) == 500]
    assert long == []


def test_tests_wait_for_states_and_not_for_time() -> None:
    """A sleep that waits for nothing (a moment chosen by chance, a client's backoff) says so in a comment."""
    sleeping = []
    for path in python_files("tests"):
        text = path.read_text("utf-8")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"asyncio.sleep", "time.sleep", "sleep"}:
                a_turn_of_the_loop = ast.unparse(node.args[0]) == "0"
                if not a_turn_of_the_loop and "# " not in "".join(lines[max(0, node.lineno - 5) : node.lineno]):
                    sleeping.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert sleeping == []


def test_no_pattern_has_what_debians_python_gets_wrong() -> None:
    """CPython before 3.11.5 lets a possessive or atomic group match what it shouldn't (gh-106052)."""
    possessive_group = re.compile(r"[)](?:[*+?]|[{][0-9,]+[}])[+]|[(][?]>")
    assert [place for place, line in lines_of(".py") if possessive_group.search(line)] == []


def test_a_check_that_is_switched_off_says_why() -> None:
    off = re.compile(r"# *(?:noqa\b|type: *ignore)")
    reason = re.compile(r"# *(?:noqa: [A-Z0-9, ]+|type: *ignore\[[a-z-, ]+\])\s+[-#] *\w+")
    unexplained = []
    for path in committed():
        lines = path.read_text("utf-8").splitlines() if path.suffix == ".py" and "tests" not in path.parts else []
        for number, line in enumerate(lines):
            above = any(before.strip().startswith("# ") for before in lines[max(0, number - 5) : number])
            if off.search(line) and not reason.search(line) and not above:
                unexplained.append(f"{path.relative_to(ROOT)}:{number + 1}")
    assert unexplained == []
