"""Which failures concern one image, so that the others and the data go on, and which concern the whole place."""

import logging

from data_export.errors import (
    AccessDenied,
    CredentialsRefused,
    DataExportError,
    HostKeyMismatch,
    ObjectRefused,
    TargetFull,
    TargetNotFound,
    TargetRefused,
    TransientError,
    line_of,
)
from data_export.images.listing import ListedImage

LISTED = 100
#: So many failures with no image in between that went well: it is the place that fails, not its images.
_FAULTS_IN_A_ROW = 20
_REFUSALS_IN_A_ROW = 100
_log = logging.getLogger(__name__)


class Failures:
    """The images of one copy that could not be read or stored.

    A refusal of one image is final. What may pass (a reset, a 503, a file that is gone when its size is asked for) is
    set aside and tried again when all others are done; what then still fails is final on the `last_try` only, before
    that the whole copy is to be repeated. A failure stops the copy where it says that the place is full, or refuses our
    login, or where nothing else goes well: then the images are not to blame.
    """

    def __init__(self, *, last_try: bool = True) -> None:
        self._last_try = last_try
        self.count = 0
        self.lines: list[str] = []
        self._aside: list[tuple[ListedImage, DataExportError]] = []
        #: By the key of an image that is or was set aside: how many were copied when its first try began.
        self._copied_before: dict[str, int] = {}
        #: Whether the bucket is missing, or the name of one image is refused so, shows when others are copied.
        self._not_found: list[tuple[ListedImage, DataExportError]] = []
        self._refusal: DataExportError | None = None
        self._in_a_row = 0
        self._again = False
        self._copied = self._found = 0

    def went_well(self, *, copied: bool) -> None:
        """Another image was copied, or found at the target."""
        self._in_a_row = 0
        self._copied += copied
        self._found += not copied

    @property
    def copied(self) -> int:
        return self._copied

    def add(self, image: ListedImage, error: DataExportError, copied_before: int) -> None:
        """
        Args:
            copied_before: `copied` when its first try began.

        Raises:
            DataExportError: the error itself, where it concerns more than this image.
        """
        if isinstance(error, ObjectRefused):
            self._final(image, error)
            return
        if not _may_be_of_one(error):
            raise error
        self._in_a_row += 1
        if isinstance(error, TargetNotFound):
            self._not_found.append((image, error))
            if self._in_a_row >= _FAULTS_IN_A_ROW:
                raise error
            return
        if isinstance(error, TransientError):
            self._aside.append((image, error))
            self._copied_before.setdefault(image.key, copied_before)
            if self._in_a_row >= _FAULTS_IN_A_ROW and not self._again:
                raise error
            return
        self._refusal = self._refusal or error
        self._final(image, error)
        if self._in_a_row >= _REFUSALS_IN_A_ROW:
            raise error

    def take_aside(self) -> list[ListedImage]:
        """The images to try once more, which are no longer set aside; that none of them goes well says nothing."""
        images = [image for image, _ in self._aside]
        self._aside.clear()
        self._in_a_row = 0
        self._again = True
        return images

    def settle(self) -> None:
        """Counts what is still set aside as failed; to be called when all images were tried, and both places answer.

        Raises:
            DataExportError: a later try may still help, or nothing else went well, so that it is the place that fails.
        """
        if self._aside:
            if not self._last_try:
                raise self._aside[0][1]
            since = min(self._copied_before[image.key] for image, _ in self._aside)
            if len(self._aside) > 1 and self._copied == since and not self._found:
                raise self._aside[0][1]
            for image, fault in self._aside:
                self._final(image, fault)
        for image, refusal in self._not_found:
            if not (self._copied or self._found):
                raise refusal
            self._final(image, refusal)
        if self._refusal is not None and self.count > 1 and not (self._copied or self._found):
            raise self._refusal

    @property
    def are_aside(self) -> bool:
        return bool(self._aside)

    def _final(self, image: ListedImage, error: DataExportError) -> None:
        self.count += 1
        line = f"{image.name}: {line_of(error)}"
        if self.count <= LISTED:
            _log.warning("image failed: %s", line)
        self.lines = sorted([*self.lines, line])[:LISTED]


def _may_be_of_one(error: DataExportError) -> bool:
    if isinstance(error, TargetFull | CredentialsRefused | HostKeyMismatch):
        return False
    return isinstance(error, TransientError | AccessDenied | TargetNotFound | TargetRefused)
