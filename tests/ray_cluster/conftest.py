"""A Ray of two nodes on this machine, for the tests of this folder."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="package")
def address():
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # 15 by default: on a busy machine the jobs would hardly run
        two = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            two.add_node(num_cpus=1)
            yield two.address
        finally:
            two.shutdown()
