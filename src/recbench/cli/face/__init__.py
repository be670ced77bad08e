"""What ``import recbench`` offers to people: the doors of the command line as functions that return typed results."""
