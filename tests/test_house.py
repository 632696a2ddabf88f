"""The house keeps its arrows and its clock."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STOREYS = ["catalog", "customers", "entitlements", "invoicing", "payments", "deals", "billing_admin"]
# Only these read the clock; everything else receives `now`.
CLOCKS = {
    "billing_admin/hot/door.py",
    "billing_admin/middleware.py",
    "billing_admin/tasks.py",
    "billing_admin/management/commands/seed_demo.py",
}


def sources(app: str) -> list[Path]:
    return [p for p in sorted((ROOT / app).rglob("*.py")) if "migrations" not in p.parts]


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("app", STOREYS)
def test_each_app_imports_only_what_lies_below_it(app: str) -> None:
    above = set(STOREYS[STOREYS.index(app) + 1 :])

    wrong = {str(p.relative_to(ROOT)): imported(p) & above for p in sources(app)}

    assert not {path: names for path, names in wrong.items() if names}


def test_only_the_doors_read_the_clock() -> None:
    clock = re.compile(r"timezone\.now\(|datetime\.now\(|utcnow\(|time\.time\(\)")

    readers = {str(p.relative_to(ROOT)) for app in STOREYS for p in sources(app) if clock.search(p.read_text())}

    assert readers <= CLOCKS, f"the clock is read in {sorted(readers - CLOCKS)}"


def test_pure_modules_import_no_models() -> None:
    pure = [
        "catalog/money.py",
        "catalog/periods.py",
        "catalog/terms.py",
        "entitlements/balances.py",
        "entitlements/allowances.py",
        "entitlements/access.py",
        "invoicing/lines.py",
        "billing_admin/flows/change.py",
        "billing_admin/flows/outlook.py",
        "billing_admin/flows/plan_change.py",
    ]

    for name in pure:
        text = (ROOT / name).read_text()
        assert ".models import" not in text, name
        assert ".objects" not in text, name


def test_every_app_has_one_initial_migration() -> None:
    for app in STOREYS[:-1]:
        files = [p.name for p in (ROOT / app / "migrations").glob("0*.py")]
        assert files == ["0001_initial.py"], app
