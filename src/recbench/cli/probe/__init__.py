"""``recbench probe KIND RUN_FOLDER``."""
