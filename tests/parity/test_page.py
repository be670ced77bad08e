"""``docs/parity.md`` lists what the checks of this folder compare."""

from __future__ import annotations

import re

from tests.parity import page


def test_page_lists_every_check() -> None:
    expected = [
        {
            "Model": check.model,
            "Reference": check.reference,
            "Commit": check.commit,
            "Comparisons": str(len(check.bounds)),
            "Set by hand": check.set_by_hand,
        }
        for check in page.checks()
    ]
    found = [{name: row[name] for name in page.COLUMNS if name not in page.MEASURED} for row in page.rows_of_page()]
    assert found == expected, "docs/parity.md is out of date: run `python -m tests.parity.page`"


def test_page_names_what_is_meant_to_differ() -> None:
    for check, row in zip(page.checks(), page.rows_of_page(), strict=True):
        meant = [what for what, bound in check.bounds.items() if bound.meant]
        cell = row["Meant to differ"]
        named = [] if cell == "-" else [re.sub(r" \d\.\de[+-]\d\d$", "", entry) for entry in cell.split("; ")]
        assert named == meant, f"{check.model}: run `python -m tests.parity.page`"


def test_differences_on_the_page_are_within_the_bounds() -> None:
    for check, row in zip(page.checks(), page.rows_of_page(), strict=True):
        equal = [bound for bound in check.bounds.values() if not bound.meant]
        if row["Largest difference"] == "-":
            assert not equal
            continue
        difference, size = (float(part) for part in row["Largest difference"].split(" of "))
        assert any(bound.holds(difference, size) for bound in equal), f"{check.model}: {row['Largest difference']}"


def test_sum_of_comparisons_on_the_page() -> None:
    checks = page.checks()
    total = sum(len(check.bounds) for check in checks)
    assert total >= 263
    assert f"{total} comparisons in {len(checks)} checks." in page.PAGE.read_text()


def test_a_result_says_what_failed() -> None:
    """A check whose numbers are wrong is not reported as one that holds."""
    from tests.parity.compare import Check, Pair, differs, within

    bounds = {"equal": within(1e-3), "far": within(1e-3), "apart": differs(1.0)}
    pairs = {"equal": Pair(1.0, 1.0), "far": Pair(1.0, 2.0), "apart": Pair([1.0], [1.5])}
    result = page.Result.of(Check("model", "reference", "-", bounds, lambda: pairs))
    assert result.failed == ["far", "apart"]
    assert (result.largest_difference, result.of_values_up_to) == (1.0, 2.0)
    assert result.meant_to_differ == {"apart": 0.5}
