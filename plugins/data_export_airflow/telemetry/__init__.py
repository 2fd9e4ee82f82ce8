"""What monitoring sees of the exports: metrics and lineage."""
