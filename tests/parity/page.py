"""The table of ``docs/parity.md``, made from the checks of this folder.

python -m tests.parity.page           run every check and write the table into the page
python -m tests.parity.page --json    run every check and print the results as JSON, one entry a check
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.parity.compare import Check

PAGE = Path(__file__).parents[2] / "docs" / "parity.md"
FIRST, LAST = "<!-- table: python -m tests.parity.page -->", "<!-- end of table -->"
COLUMNS = ("Model", "Reference", "Commit", "Comparisons", "Largest difference", "Meant to differ", "Set by hand")
#: Of a row, what depends on rounding and so on the machine.
MEASURED = ("Largest difference", "Meant to differ")


@dataclass(frozen=True)
class Result:
    """A check that was run. ``largest_difference``: of what must be equal, with ``of_values_up_to`` the largest value of that comparison."""

    model: str
    reference: str
    commit: str
    comparisons: int
    largest_difference: float
    of_values_up_to: float
    meant_to_differ: dict[str, float]
    set_by_hand: str
    failed: list[str]

    @classmethod
    def of(cls, check: Check) -> Result:
        found = check.differences()
        equal = [found[what] for what, bound in check.bounds.items() if not bound.meant]
        difference, size = max(equal, default=(0.0, 0.0))
        meant = {what: found[what][0] for what, bound in check.bounds.items() if bound.meant}
        failed = [what for what, bound in check.bounds.items() if not bound.holds(*found[what])]
        fixed = check.model, check.reference, check.commit, len(check.bounds)
        return cls(*fixed, difference, size, meant, check.set_by_hand, failed)

    def cells(self) -> list[str]:
        """One for each column of the table."""
        meant = "; ".join(f"{what} {difference:.1e}" for what, difference in self.meant_to_differ.items())
        largest = f"{self.largest_difference:.1e} of {self.of_values_up_to:.2g}" if self.of_values_up_to else "-"
        fixed = [self.model, self.reference, self.commit, str(self.comparisons)]
        return [*fixed, largest, meant or "-", self.set_by_hand]


def checks() -> list[Check]:
    """The checks of every test file here, in the order of their names."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))
    modules = [importlib.import_module(f"tests.parity.{name}") for name in names]
    return [check for module in modules for check in getattr(module, "CHECKS", [])]


def table(results: list[Result]) -> str:
    """Markdown: a row a check, and a line with the sum."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(result.cells() for result in results)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    total = sum(result.comparisons for result in results)
    return "\n".join([FIRST, *lines, "", f"{total} comparisons in {len(results)} checks.", LAST])


def rows_of_page() -> list[dict[str, str]]:
    """The table of the page as it is, by column."""
    lines = PAGE.read_text().split(FIRST)[1].split(LAST)[0].strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line.startswith("|")]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run the parity checks and write their table.")
    parser.add_argument("--json", action="store_true", help="print the results instead of writing the page")
    words = parser.parse_args(arguments)
    results = [Result.of(check) for check in checks()]
    if words.json:
        print(json.dumps([asdict(result) for result in results], indent=1))
    else:
        before, _, rest = PAGE.read_text().partition(FIRST)
        PAGE.write_text(before + table(results) + rest.partition(LAST)[2])
    failed = [f"{result.model}: {what}" for result in results for what in result.failed]
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    raise SystemExit(main())
