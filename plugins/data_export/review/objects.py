"""What an export will write, said before it writes anything."""

from dataclasses import dataclass

from data_export import layout
from data_export.config.models import CustomerExport
from data_export.window import ExportWindow


@dataclass(frozen=True, slots=True)
class SampleObjects:
    """Full addresses of the first site's objects; of a mailed link the name under which the file is saved."""

    data: str
    image: str | None
    receipt: str | None


def sample_objects(name: str, export: CustomerExport, window: ExportWindow) -> SampleObjects:
    """The objects of one window; `<input_id>` and `<file_extension>` stand for what the source says."""
    site, root = export.sites[0], export.connector_config.address()
    if root is None:
        return SampleObjects(layout.link_file_name(name, export.export_type, window), None, None)
    image = layout.image_key(site, "<input_id>", None) + "<file_extension>"
    return SampleObjects(
        data=root + layout.data_key(site, export.export_type, window),
        image=root + image if export.export_images else None,
        receipt=root + layout.receipt_key(site, export.export_type, window) if export.delivery_receipt else None,
    )
