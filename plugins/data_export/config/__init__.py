"""Customer files and platform settings as frozen, validated models."""
