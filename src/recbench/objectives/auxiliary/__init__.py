"""Terms beside the loss of a model of users and items."""
