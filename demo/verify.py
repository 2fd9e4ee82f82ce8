"""Whether everything that the demo promises is at its customers', byte for byte."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from data_export.config.models import CustomerExport
from data_export.layout import data_key
from data_export.window import ExportWindow
from demo.data import DemoData, image_bytes
from demo.expected import expected_file, expected_images
from demo.mailbox import fetch, mails_about
from demo.platform import EmbeddedPlatform
from demo.targets import Received, received


def missing(
    platform: EmbeddedPlatform, data: DemoData, exports: Mapping[str, CustomerExport], days: Sequence[datetime]
) -> list[str]:
    """A line for every object or mail of these days that is not there, or not as it must be."""
    windows = [ExportWindow(day, day + timedelta(days=1)) for day in days]
    return missing_of(platform, data, exports, windows)


def missing_of(
    platform: EmbeddedPlatform,
    data: DemoData,
    exports: Mapping[str, CustomerExport],
    windows: Sequence[ExportWindow],
) -> list[str]:
    """As `missing`, of any windows."""
    problems: list[str] = []
    for name, export in exports.items():
        target = received(platform, export)
        for window in windows:
            found = (
                _of_mail(platform, data, name, export, window)
                if target is None
                else _of_target(target, data, export, window)
            )
            problems += (f"{name}: {problem}" for problem in found)
    return problems


def _of_target(target: Received, data: DemoData, export: CustomerExport, window: ExportWindow) -> Iterator[str]:
    there = set(target.names())
    for site_id in export.sites:
        what = site_id, export.export_type, window.start, window.end
        key = data_key(site_id, export.export_type, window)
        if key not in there:
            yield f"{target.uri}{key} is missing"
        elif target.read(key) != expected_file(data, *what):
            yield f"{target.uri}{key} has another content than the source"
        if export.export_images:
            yield from _of_images(target, there, expected_images(data, *what) - {data.missing_image}, window)


def _of_images(target: Received, there: set[str], images: set[str], window: ExportWindow) -> Iterator[str]:
    keys = {image: image.replace("/", "/inputs/", 1) for image in sorted(images)}
    lost = [key for key in keys.values() if key not in there]
    if lost:
        yield f"{len(lost)} of {len(keys)} images of {window} are missing, the first is {target.uri}{lost[0]}"
    for image, key in keys.items():
        if key in there and target.read(key) != image_bytes(image):
            yield f"{target.uri}{key} has another content than the image store"


def _of_mail(
    platform: EmbeddedPlatform, data: DemoData, name: str, export: CustomerExport, window: ExportWindow
) -> Iterator[str]:
    mails = mails_about(platform, name, window)
    if not mails:
        yield f"no mail about the window {window}"
        return
    wanted = b"".join(
        expected_file(data, site_id, export.export_type, window.start, window.end) for site_id in export.sites
    )
    answer = fetch(mails[-1])
    if answer.status_code != 200 or answer.content != wanted:
        yield f"the link mailed for {window} gives {answer.status_code}, {len(answer.content)} bytes, not the data"
