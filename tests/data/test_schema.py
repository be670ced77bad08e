"""Keys of prepared data: what enters them, and that a field which came later leaves the old ones alone."""

import pytest

from recbench.core.errors import UserError
from recbench.data.schema import content_settings
from recbench.data.sources import config_class
from recbench.data.sources.amazon import AmazonConfig
from recbench.data.sources.synthetic_config import SyntheticConfig
from recbench.data.sources.table_config import TableConfig
from recbench.data.store import folder_name


@pytest.mark.parametrize(
    ("config", "files", "folder"),
    [
        # As they were before data.session_gap was a key.
        (SyntheticConfig(), {}, "synthetic-732740fcb73f2088"),
        (
            AmazonConfig(),
            {"reviews_Beauty_5.json.gz": {"sha256": "0" * 64}},
            "amazon-2014-Beauty-b778c3750dedd0a3",
        ),
        (TableConfig(path="events.csv"), {"interactions.csv": {"sha256": "1" * 64}}, "table-events-35f97daac37911e2"),
    ],
)
def test_a_later_field_leaves_old_keys_alone(config, files, folder):
    assert folder_name(config, files) == folder
    config.session_gap = 1800
    assert folder_name(config, files) != folder


def test_a_gap_that_is_set_is_part_of_the_content():
    assert "session_gap" not in content_settings(TableConfig(path="x.csv"))
    assert content_settings(TableConfig(path="x.csv", session_gap=60))["session_gap"] == 60
    # A source that is cut by default says so in its key.
    assert content_settings(config_class("retailrocket")())["session_gap"] == 1800


@pytest.mark.parametrize("gap", [0, -5])
def test_a_gap_without_length_is_refused(gap):
    with pytest.raises(UserError, match=f"data.session_gap={gap} must be at least 1 second"):
        SyntheticConfig(session_gap=gap).validate()
