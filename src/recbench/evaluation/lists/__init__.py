"""What lists are like beside being right: diverse, calibrated, popular, surprising, fair, stable. Chosen by name with ``evaluation.metrics``."""
