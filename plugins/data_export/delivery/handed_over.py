"""What a kind of target contributes to the hand-over sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_export.check.shared_steps import OPENS, PROBE, Step


@dataclass(frozen=True, slots=True)
class Handover:
    """What the hand-over sheet says of a target: what `check` tries, what the owner sets up, how files are fetched."""

    checks: Sequence[Step] = (OPENS, *PROBE)
    #: Markdown for the owner, a template of Jinja that gets `values`; None where there is nothing to say.
    template: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    #: Copies the data files to the folder `{folder}`, as a command for a shell; empty: they are there already.
    fetch: str = ""
    #: Who we are to the owner, if the file says so, and what stands for it if not; empty: nobody is granted a right.
    principal: str | None = None
    placeholder: str = ""
    #: What the sheet cannot know, with what to do about it.
    still_open: Sequence[str] = ()
    #: What the owner calls the target and its folder, where that is not the address.
    place: str = ""
    root: str = ""
    #: Our private key on the workers, whose public half the owner needs.
    key_path: str | None = None
