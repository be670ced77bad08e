"""What every model owes, as tests that ship with recbench: outside packages import them from ``recbench.models.testing``."""
