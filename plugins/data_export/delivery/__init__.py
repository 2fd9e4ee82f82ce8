"""Where exports go: one module per kind of target, all keeping the contract in `base`."""
