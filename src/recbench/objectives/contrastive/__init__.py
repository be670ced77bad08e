"""Contrastive terms beside the loss of any sequence model: ``model.auxiliary=[cl4srec]`` and its like."""
