"""Whoever reads a receipt or a manifest finds each of its keys on the page about the delivered files."""

import re

import pytest
from pydantic import BaseModel

from data_export.config.platform import ROOT
from data_export.pipeline.manifest import Manifest, ManifestFile, ManifestImages, ManifestSite
from data_export.receipt import DataFile, ImagesCopied, Receipt, SiteReceipt

KINDS = {
    "Receipts": (Receipt, SiteReceipt, ImagesCopied, DataFile),
    "Manifests": (Manifest, ManifestSite, ManifestFile, ManifestImages),
}


@pytest.mark.parametrize("section", KINDS)
def test_every_key_is_explained(section: str) -> None:
    text = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*", text.partition(f"\n## {section}\n")[2].partition("\n## ")[0], re.MULTILINE)
    told = set(re.findall(r"`(\w+)`", "\n".join(rows)))
    assert keys(*KINDS[section]) - told == set()


def keys(*models: type[BaseModel]) -> set[str]:
    return {name for model in models for name, field in model.model_fields.items() if not field.exclude}
