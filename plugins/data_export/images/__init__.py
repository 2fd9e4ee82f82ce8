"""Copies images from the platform's image store to a target, at any number."""

from data_export.images.address import source_key_of, split_images_uri
from data_export.images.copy import copy_images
from data_export.images.limits import CopyLimits
from data_export.images.progress import Progress
from data_export.images.settle import CopyRules

__all__ = ["CopyLimits", "CopyRules", "Progress", "copy_images", "source_key_of", "split_images_uri"]
