"""The search for better values of a model's keys: Optuna through Hydra's sweeper, with a budget, and trials that are given up early."""
