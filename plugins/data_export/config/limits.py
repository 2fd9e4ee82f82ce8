"""`limits` as they are written, in platform.yaml and in a customer file; `data_export.limits` says which hold."""

from datetime import date

from pydantic import BaseModel, ConfigDict, Field

from data_export.config.moments import Day

_CENTURY = 36_525  # in days
_DAY = 24 * 60  # in minutes
_MAX_RUNS = 100
_MAX_SITES = 1024


class LimitSettings(BaseModel):
    """`limits` of platform.yaml: what an export may ask for."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    max_window_days: int = Field(default=400, ge=1, le=_CENTURY, description="longest window")
    earliest: Day = Field(default=date(2020, 1, 1), description="no window starts before this day, UTC")
    max_active_runs: int = Field(
        default=3, ge=1, le=_MAX_RUNS, description="runs of one export at once, and runs of one backfill at once"
    )
    sites_at_once: int = Field(
        default=2,
        ge=1,
        le=_MAX_SITES,
        description="sites of one export worked on at once, by each run and by each step: its share of the workers",
    )
    settle_minutes: int = Field(
        default=5, ge=0, le=_DAY, description="how long after its end a window is read, so that late commits are in"
    )
    late_after_hours: float = Field(
        default=2, ge=0.001, le=8760, description="hours after a window's end; one not delivered by then is told of"
    )


class CustomerLimits(BaseModel):
    """`limits` of a customer file: narrower than the platform's, never wider; `settle_minutes` and `late_after_hours`
    may be either."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    max_window_days: int | None = Field(default=None, ge=1, le=_CENTURY, description="longest window, in days")
    earliest: Day | None = Field(default=None, description="no window starts before this day, UTC")
    max_active_runs: int | None = Field(
        default=None, ge=1, le=_MAX_RUNS, description="runs of the export at once, and runs of one backfill at once"
    )
    settle_minutes: int | None = Field(
        default=None, ge=0, le=_DAY, description="how long after its end a window is read, so that late commits are in"
    )
    late_after_hours: float | None = Field(
        default=None, ge=0.001, le=8760, description="hours after a window's end; one not delivered by then is told of"
    )
