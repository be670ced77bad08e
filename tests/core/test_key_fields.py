"""Which fields of a config enter a key."""

from __future__ import annotations

from dataclasses import dataclass, field

from recbench.core.key_fields import key_values


def test_a_field_that_came_later_enters_a_key_only_where_it_says_something():
    @dataclass
    class Sizes:
        width: int = 8
        heads: int = field(default=1, metadata={"later": True})
        rates: list[float] = field(default_factory=list, metadata={"later": True})

    assert key_values(Sizes()) == {"width": 8}
    assert key_values(Sizes(heads=2, rates=[0.1])) == {"width": 8, "heads": 2, "rates": [0.1]}

    @dataclass
    class Whole:
        depth: int = 3
        sizes: Sizes = field(default_factory=Sizes, metadata={"later": True})

    assert key_values(Whole()) == {"depth": 3}
    assert key_values(Whole(sizes=Sizes(heads=2))) == {"depth": 3, "sizes": {"width": 8, "heads": 2}}
