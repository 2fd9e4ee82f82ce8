"""Where an image lies in the image store: `images_uri` of platform.yaml, taken apart."""

from collections.abc import Callable
from urllib.parse import urlsplit
from uuid import UUID

from data_export.errors import ConfigError
from data_export.layout import plain_extension


def split_images_uri(template: str) -> tuple[str, str]:
    """The folder that holds every image, to open a store on, and the template of the keys below it.

    `gs://images/all/{site_id}/{input_id}` is `("gs://images/all/", "{site_id}/{input_id}")`.

    Raises:
        ConfigError: a placeholder in the bucket's name; one store is opened for all sites.
    """
    fixed = template.partition("{")[0]
    root = fixed[: fixed.rfind("/") + 1]
    parts = urlsplit(root)
    if not (parts.netloc or parts.path):
        raise ConfigError(f"source.images_uri {template!r} has a placeholder in the bucket: name one bucket")
    return root, template[len(root) :]


def source_key_of(key_template: str, site_id: UUID) -> Callable[[str, str | None], str]:
    """What names the image of `(input_id, file_extension)` below the folder of `split_images_uri`.

    The function raises ValueError for an extension that could leave the folder.
    """
    of_site = key_template.replace("{site_id}", str(site_id))

    def source_key(input_id: str, file_extension: str | None) -> str:
        return of_site.replace("{input_id}", input_id).replace("{file_extension}", plain_extension(file_extension))

    return source_key
