"""What is laid over a model's loss: distillation from a teacher, and contrastive terms."""
