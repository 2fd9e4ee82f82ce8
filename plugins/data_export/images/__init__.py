"""Copies any number of images from the platform's image store to a target."""

from data_export.images.bounds import CopyLimits, Progress
from data_export.images.copy import copy_images
from data_export.images.copy_one import CopyRules
from data_export.images.fetch import source_key_of, split_images_uri

__all__ = ["CopyLimits", "CopyRules", "Progress", "copy_images", "source_key_of", "split_images_uri"]
