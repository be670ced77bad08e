"""What a training imports sooner or later, whatever its model; ``forked.py`` has it imported once."""

from importlib import import_module

from recbench.training.quick_import import without_accessories

with without_accessories():
    for module in (
        "recbench.cli.run",
        "recbench.experiment.run",
        "recbench.models.sequence_model",
        "recbench.training.fit",
    ):
        import_module(module)
