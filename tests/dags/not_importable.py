"""A module of somebody else that cannot be imported, for the tests of notifiers."""

raise RuntimeError("s3cret-token is no address")
