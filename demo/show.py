"""Prints what customers have received."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import accumulate

from data_export.config.models import CustomerExport
from data_export.window import ExportWindow
from demo.mailbox import fetch, link_of, mails_about, text_of
from demo.platform import EmbeddedPlatform
from demo.targets import Received, received

IMAGES_SHOWN = 2
LINE_SHOWN = 100


def show(platform: EmbeddedPlatform, exports: Mapping[str, CustomerExport], days: Sequence[datetime]) -> None:
    """The tree of every target, one mail with its link fetched, one record, totals."""
    windows = [ExportWindow(day, day + timedelta(days=1)) for day in days]
    totals: Counter[str] = Counter()
    for name, export in exports.items():
        target = received(platform, export)
        print(f"\n{name}: {'a mailbox' if target is None else target.uri}")
        if target is None:
            mails = [mails[-1] for window in windows if (mails := mails_about(platform, name, window))]
            totals["mails"] += len(mails)
            for mail in mails[:1]:
                _show_mail(str(mail), text_of(mail))
                _show_link(link_of(mail), fetch(mail).content, fetch(mail).status_code)
        else:
            totals += _show_tree(target)
    _show_record(next(filter(None, (received(platform, export) for export in exports.values()))))
    print("\nIn all: " + ", ".join(f"{count:,} {what}" for what, count in totals.items()), flush=True)


def _show_tree(target: Received) -> Counter[str]:
    """Every folder and file, of images the first few; returns how many of what there is."""
    totals: Counter[str] = Counter()
    folders: dict[str, list[str]] = {}
    for name in target.names():
        folder, _, file = name.rpartition("/")
        folders.setdefault(folder, []).append(file)
    printed: set[str] = set()
    for folder, files in folders.items():
        for path in accumulate(folder.split("/"), "{}/{}".format):
            if path not in printed:
                print(f"{_indent(path)}{path.rpartition('/')[2]}/")
                printed.add(path)
        kind = "images" if folder.endswith("/inputs") else "receipts" if "/receipts/" in folder else "data files"
        totals[kind] += len(files)
        for file in files[: IMAGES_SHOWN if kind == "images" else None]:
            print(f"{_indent(folder)}  {file}{_size(target.read(f'{folder}/{file}'), kind)}")
        if kind == "images" and len(files) > IMAGES_SHOWN:
            print(f"{_indent(folder)}  ... and {len(files) - IMAGES_SHOWN:,} more")
    return totals


def _indent(path: str) -> str:
    return "  " * (path.count("/") + 1)


def _size(content: bytes, kind: str) -> str:
    lines = content.count(b"\n")
    return f"  ({len(content):,} bytes{f', {lines} work orders' if kind == 'data files' else ''})"


def _show_mail(whole: str, text: str) -> None:
    headers = [
        line for line in whole.partition("\n\n")[0].splitlines() if line.startswith(("From:", "To:", "Subject:"))
    ]
    for line in [*headers, "", *text.splitlines()]:
        print(f"  | {line}")


def _show_link(link: str, content: bytes, status: int) -> None:
    first = content.partition(b"\n")[0].decode()
    print(f"  GET {link.partition('?')[0]}?...")
    print(f"  -> {status}, {len(content):,} bytes, first line: {first[:LINE_SHOWN]}...")


def _show_record(target: Received) -> None:
    """The shortest record with an image, a check and a job: every part of the format on one screen."""
    name = next((name for name in target.names() if "/data/" in name), None)
    if name is None:
        return
    lines = [line for line in target.read(name).splitlines() if b'"check"' in line and b'"task_name"' in line]
    print(f"\nOne line of {target.uri}{name}, indented:")
    print(json.dumps(json.loads(min(lines, key=len)), indent=2, ensure_ascii=False) if lines else "(none)")
