"""Which moment of the source a window may be read at: not before its end, and not before who was writing has ended."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from data_export.errors import SourceRejected, SourceUnavailable
from data_export.source.database import Source
from data_export.source.errors import shortened
from data_export.source.queries import Query
from data_export.window import ExportWindow

_log = logging.getLogger(__name__)
# How long a source that is behind the window's end is waited for here; then the task tries again.
_BEHIND_SECONDS = 120.0
# An idle primary sends its standby nothing. A receiver that outlives its own timeout was answered meanwhile; so much
# longer it is looked at.
_IDLE_MARGIN = 5.0
# How long the last commits may be on their way before nothing but idleness is left as an explanation.
_ON_THE_WAY = 2.0
_LONGEST_PAUSE = 5.0
_SAY_EVERY = 60.0

# Every role may call these. The snapshot ends with the last transaction that has ended: who began to write after that
# is between it and the next number to be given out, of which `age` knows, as of the transaction's first call. The
# columns of pg_stat_wal_receiver are NULL without pg_read_all_stats. A publisher says that it has sent all, with its
# clock, several times a minute, and a subscriber has then written all of that.
_PRIMARY_OR_STANDBY = """
SELECT pg_is_in_recovery(), clock_timestamp(),
    pg_snapshot_xmin(shown)::text::int8,
    pg_snapshot_xmax(shown)::text::int8 + age((pg_snapshot_xmax(shown)::text::int8 % 4294967296)::text::xid),
    CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() END,
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() - '0/0' END::int8,
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() - '0/0' END::int8,
    (SELECT pid FROM pg_stat_wal_receiver),
    (SELECT setting::float8 / 1000::float8 FROM pg_settings WHERE name = 'wal_receiver_timeout'),
    (SELECT last_msg_send_time FROM pg_stat_wal_receiver WHERE latest_end_lsn <= pg_last_wal_replay_lsn()),
    (SELECT min(heard) FROM (
        SELECT coalesce(max(latest_end_time), 'epoch') AS heard
        FROM pg_subscription LEFT JOIN pg_stat_subscription ON subid = pg_subscription.oid
        WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        GROUP BY pg_subscription.oid
    ) AS subscriptions),
    pg_postmaster_start_time()
FROM pg_current_snapshot() AS shown
"""
_WHICH_SERVER = Query("SELECT pg_postmaster_start_time()", ())
_QUERY = Query(_PRIMARY_OR_STANDBY, ((0, len(_PRIMARY_OR_STANDBY), Path("source"), False),))


@dataclass(frozen=True, slots=True)
class _State:
    standby: bool
    clock: datetime
    oldest: int  # transaction that may still write
    next: int  # the first number that no transaction had when this transaction began
    replayed_at: datetime | None  # commit time of what a standby replayed last
    replayed: int | None
    received: int | None
    receiver: int | None  # its process; it is another one after each lost connection
    timeout: float | None  # seconds without a message after which the receiver gives up; 0 is never
    sent_at: datetime | None  # the sender's clock in its last message, where all that it had by then is replayed
    subscribed_until: datetime | None  # the same of the publishers of logical replication; None where there are none
    server: datetime  # when it was started, to the microsecond: which of several it is

    @property
    def seen_until(self) -> datetime:
        """Up to which moment all commits are known to be visible."""
        if not self.standby:
            return self.clock
        return self.replayed_at or datetime.min.replace(tzinfo=UTC)

    def abreast_until(self, idle: float) -> datetime:
        """Up to which moment a standby has all that its sender had, `idle` seconds without news of it.

        That the sender itself has all is not known: it may be a standby that has lost the primary.
        """
        known = [self.sent_at or datetime.min.replace(tzinfo=UTC)]
        if self.receiver and self.timeout and self.received == self.replayed and idle >= self.timeout + _IDLE_MARGIN:
            known.append(self.clock - timedelta(seconds=self.timeout))
        return max(known)


class Moment:
    """Waits, on a connection, until a window may be read from it.

    `warning` is None, or says in words what a file that is read now may lack.

    Args:
        settle: a transaction that began before the window's end has so long to write first. A primary is asked that
            long after the end; a standby must have replayed it, or what there was when it is first asked.
    """

    def __init__(self, window: ExportWindow, writers_seconds: float = 600.0, settle: timedelta = timedelta(0)) -> None:
        self._window = window
        self._settle = settle
        self._writers_seconds = writers_seconds
        self.warning: str | None = None
        self._servers: set[object] = set()

    def require_same_server(self, source: Source) -> None:
        """To be called in the transaction that reads.

        Raises:
            SourceUnavailable: another server was asked for its moment.
        """
        if self._servers and self._servers != {source.value(_WHICH_SERVER)}:
            raise SourceUnavailable(
                "source: one server was asked which moment it shows, and another is to be read: a pooler splits one "
                "connection over several servers, or the server was replaced just now: the task tries again; connect "
                "to one server, or to a pooler that keeps a session on one (docs/deploy.md)"
            )

    def require_same_tables(self, source: Source) -> None:
        """Called last, when all that was read is locked; sets `warning` where tables are foreign.

        Raises:
            SourceUnavailable: a table was rewritten, replaced or renamed before the query had locked it.
        """
        try:
            changed, foreign = source.locked_tables()
        except SourceRejected as error:  # as in `_states`
            self._warn(f"the source does not say whether its tables were replaced while they were read: {error}")
            return
        if changed:
            raise SourceUnavailable(
                f"source: {shortened(changed)}: rewritten, replaced or renamed (by ALTER TABLE, TRUNCATE, VACUUM "
                "FULL or a reload) just when the window began to be read, so rows may be missing: the task tries again"
            )
        if foreign:
            self._warn("read through foreign tables: what their server was still writing or replaying may be missing")

    def reach_end(self, source: Source) -> None:
        """Waits for the window's end; sets `warning` where a standby can only be as far as the server that it follows.

        Raises:
            SourceUnavailable: the source is long before it, by its clock or by what it has replayed.
        """
        self._servers.clear()  # each reading asks anew, and may come to another server behind a balancer
        idle_since, last, due = 0.0, None, None
        for state, waited in self._states(source):
            if due is None:
                due = self._due(state)
            if (state.replayed, state.received, state.receiver) != last:
                idle_since, last = waited, (state.replayed, state.received, state.receiver)
            if state.seen_until >= due and self._has_all_published(state, waited):
                return
            idle = waited - idle_since
            if state.standby and idle >= _ON_THE_WAY and state.abreast_until(idle) >= due:
                if state.seen_until < self._window.end:
                    self._warn(_nothing_since(state))
                return
            ahead = self._window.end - state.clock
            if state.seen_until >= due:
                _say(waited, "what the source is subscribed to")
                continue
            if waited >= _BEHIND_SECONDS and state.standby and state.seen_until >= self._window.end:
                self._warn(
                    f"read from a standby that has replayed up to {_replayed(state)}, soon after the window's end: "
                    "what was begun before the end and written later may be missing"
                )
                return
            if waited >= _BEHIND_SECONDS or ahead > timedelta(seconds=_BEHIND_SECONDS):
                raise SourceUnavailable(self._behind(state))
            _say(waited, "the source to reach the window's end")

    def _due(self, state: _State) -> datetime:
        latest = min(self._window.end + self._settle, state.clock) if state.standby else self._window.end
        return max(latest, self._window.end)

    def _has_all_published(self, state: _State, waited: float) -> bool:
        """Also true, with a warning, past the bound: a subscription may be of other tables, and off for good."""
        if state.subscribed_until is None or state.subscribed_until >= self._window.end:
            return True
        if waited < _BEHIND_SECONDS:
            return False
        self._warn(
            "read from a database that subscribes to another (logical replication) and has heard from it up to "
            f"{state.subscribed_until.astimezone(UTC).isoformat()}, before the window's end: what arrives later is not "
            "in the file; look whether the subscription is enabled and its worker runs"
        )
        return True

    def wait_for_writers(self, source: Source) -> None:
        """Waits until every transaction that was writing has ended; past the bound it sets `warning`."""
        begun = None
        for state, waited in self._states(source):
            begun = state.next if begun is None else begun
            if state.oldest >= begun:
                return
            if waited >= self._writers_seconds:
                self._warn(
                    f"read while a transaction of the source was still writing, {waited / 60:.0f} minutes after "
                    "extract began: what it commits for this window later is not in the file"
                )
                return
            _say(waited, "transactions that write at the source")

    def _states(self, source: Source) -> Iterator[tuple[_State, float]]:
        """The state again and again, with the seconds since the first; none where the source does not know."""
        begun, pause = time.monotonic(), 0.05
        while True:
            try:
                row: Any = source.row(_QUERY)
            except SourceRejected as error:  # a relative of PostgreSQL without these functions
                self._warn(f"the source does not say which moment it shows: {error}")
                return
            state = _State(*row)
            self._servers.add(state.server)
            yield state, time.monotonic() - begun
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _warn(self, text: str) -> None:
        known = self.warning or ""
        if text not in known:  # the window may be read again without the records that cannot be read
            self.warning = f"{known}; {text}" if known else text
        _log.warning("%s: %s", self._window, text)

    def _behind(self, state: _State) -> str:
        end = self._window.end.isoformat()
        if not state.standby:
            return (
                f"source: its clock says {state.clock.astimezone(UTC).isoformat()}, before the window's end {end}: the "
                "task tries again; compare the clocks of the source and of the workers"
            )
        return (
            f"source: the standby has replayed up to {_replayed(state)}, before the window's end {end}: the task tries "
            "again; look whether its replay is paused or its receiver is disconnected; an idle primary is seen if the "
            "source connection's user has pg_read_all_stats"
        )


def _replayed(state: _State) -> str:
    return state.replayed_at.astimezone(UTC).isoformat() if state.replayed_at else "nothing with a time"


def _nothing_since(state: _State) -> str:
    return (
        f"read from a standby that has replayed up to {_replayed(state)}, before the window's end, and has received "
        "nothing since: nothing was committed, or the standby follows another standby that has lost the primary; a "
        "commit every minute at the primary makes it certain"
    )


def _say(waited: float, what: str) -> None:
    if waited and waited % _SAY_EVERY < _LONGEST_PAUSE:
        _log.info("waiting for %s, %.0f seconds so far", what, waited)
