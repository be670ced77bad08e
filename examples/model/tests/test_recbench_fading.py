"""The contract of every recbench model, kept by ours: three lines."""

from recbench.models.testing import contract_tests

globals().update(contract_tests("fading", keys={"hidden_size": 32}))
