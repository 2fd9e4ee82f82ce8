"""What a change of the customer files means, and what an export will write, said before it happens."""
