"""How far a copy of many images is."""

from dataclasses import dataclass
from datetime import timedelta

from data_export import sizes


@dataclass(frozen=True, slots=True)
class Progress:
    """Images done of all, bytes sent and seconds spent, since this attempt began."""

    done: int
    total: int
    bytes: int
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None before the first image."""
        return (self.total - self.done) * self.seconds / self.done if self.done else None

    def __str__(self) -> str:
        """`12,000 of 500,000 images (2.4 %), 310 MB, 45.2 MB/s, 0:21:10 left`."""
        share = 100 * self.done / self.total if self.total else 100
        left = "" if self.seconds_left is None else f", {timedelta(seconds=round(self.seconds_left))} left"
        return (
            f"{self.done:,} of {self.total:,} images ({share:.1f} %), {sizes.in_words(self.bytes)}, "
            f"{sizes.in_words(self.bytes_per_second)}/s{left}"
        )
