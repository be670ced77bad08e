"""recbench: sequential recommenders compared under one split, one ranking kernel, one budget and one result row."""

__version__ = "0.1.0"
