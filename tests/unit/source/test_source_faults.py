"""What each fault of the source, and of ours, becomes."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from adbc_driver_manager import AdbcStatusCode, OperationalError

from data_export.errors import DataExportError, SourceRejected, SourceUnavailable, ValueRejected
from data_export.source.errors import translated
from tests.unit.source_kit import ORDER, SourceDatabase, run_extract


def test_refusals_name_the_fix_and_never_the_password(one_order: SourceDatabase, tmp_path: Path) -> None:
    password = urlsplit(one_order.dsn).password
    assert password
    one_order.connection.execute("DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN PASSWORD 'canary-8f2c'")
    port = urlsplit(one_order.dsn).port
    refusals = {
        one_order.dsn.replace(password, "canary-8f2c"): "password authentication failed.*source.conn_id",
        one_order.dsn.replace("/source", "/nowhere"): 'database "nowhere" does not exist',
        f"postgresql://reader:canary-8f2c@127.0.0.1:{port}/source": "permission denied.*grant .* SELECT",
        f"postgresql://reader:canary-8f2c@x@127.0.0.1:{port}/source": "%40",
        f"host=127.0.0.1 port={port} user=nobody password=canary-8f2c dbname=source": "password authentication failed",
        f"postgresql://reader:canary-8f2c@127.0.0.1:{port}/source?no_such=1": "no_such",
        f"host=127.0.0.1 port={port} user=nobody password=canary-8f2c service=absent": "service",
    }
    for dsn, message in refusals.items():
        with pytest.raises(SourceRejected, match=message) as caught:
            run_extract(one_order, tmp_path, dsn=dsn)
        assert "canary" not in str(caught.value)
        assert password not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_short_password_makes_no_refusal_unreadable(one_order: SourceDatabase, tmp_path: Path) -> None:
    with pytest.raises(SourceRejected, match="invalid connection"):
        run_extract(one_order, tmp_path, dsn="host=127.0.0.1 user=reader password=p no_such=1")


def test_a_server_that_is_not_there_is_worth_a_retry(one_order: SourceDatabase, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dsn = f"postgresql://reader:canary-8f2c@127.0.0.1:{closed.getsockname()[1]}/source"
        with pytest.raises(SourceUnavailable, match="Connection refused") as caught:
            run_extract(one_order, tmp_path, dsn=dsn)
    assert "canary" not in str(caught.value)
    with pytest.raises(SourceUnavailable, match="could not translate host name"):
        run_extract(one_order, tmp_path, dsn="postgresql://reader:canary-8f2c@no-such-host.invalid/source")


@pytest.fixture
def slow(sql: Path) -> Path:
    """Queries whose job_conformity takes minutes."""
    path = sql / "job_conformity.sql"
    path.write_text(
        path.read_text()
        + "\nCROSS JOIN LATERAL (SELECT pg_sleep(inputs.work_order_number * 0.1) FROM generate_series(1, 1000)) AS nap"
    )
    return sql


def others(source: SourceDatabase, function: str) -> int:
    """Calls a function on every backend of the service; how many there were."""
    rows = source.connection.execute(
        f"SELECT {function}(pid) FROM pg_stat_activity WHERE application_name = 'data_export' AND state = 'active'"
    )
    return len(rows.fetchall())


@pytest.mark.parametrize("function", ["pg_terminate_backend", "pg_cancel_backend"])
def test_a_session_that_the_server_ends_is_worth_a_retry(
    one_order: SourceDatabase, tmp_path: Path, slow: Path, function: str
) -> None:
    def end() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not asleep(one_order):
            time.sleep(0.05)
        others(one_order, function)

    ender = threading.Thread(target=end)
    ender.start()
    with pytest.raises(SourceUnavailable):
        run_extract(one_order, tmp_path, slow)
    ender.join()


def asleep(source: SourceDatabase) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'data_export' AND wait_event = 'PgSleep'"
    row = source.connection.execute(query).fetchone()
    assert row is not None
    return bool(row[0])


class Stopped(BaseException):
    """What a task that is told to stop raises, from a signal's handler."""


@pytest.fixture
def alarm() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    before = signal.signal(signal.SIGALRM, stop)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
def test_a_stopped_task_ends_its_query_at_once(one_order: SourceDatabase, tmp_path: Path, slow: Path) -> None:
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    began = time.monotonic()
    with pytest.raises(Stopped):
        run_extract(one_order, tmp_path, slow)
    assert time.monotonic() - began < 10  # not the 100 s of the query
    deadline = time.monotonic() + 10
    while asleep(one_order) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not asleep(one_order)


def test_a_fault_of_ours_ends_the_query_at_once(one_order: SourceDatabase, tmp_path: Path, slow: Path) -> None:
    path = slow / "work_item.sql"
    path.write_text(path.read_text().replace("work_orders.work_order_number,", "NULL::int AS work_order_number,"))
    # The rows before the slow ones fill a batch of their own, so that they arrive while the source still works.
    many = [{"id": UUID(int=100 + k), "work_order_id": ORDER, "name": "x" * 1000} for k in range(4_000)]
    one_order.insert("work_item", many)
    began = time.monotonic()
    with pytest.raises(SourceRejected, match="work_order_number is NULL"):
        run_extract(one_order, tmp_path, slow)
    assert time.monotonic() - began < 10
    assert not asleep(one_order)


def test_connecting_reads_no_catalogue(one_order: SourceDatabase, tmp_path: Path) -> None:
    """The driver would read every type and every table's columns, which takes seconds of a large database."""

    def read() -> int:
        row = one_order.connection.execute(
            "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_sys_tables "
            "WHERE relname IN ('pg_attribute', 'pg_type', 'pg_class')"
        ).fetchone()
        assert row is not None
        return int(row[0])

    one_order.connection.execute("CREATE SCHEMA many")
    tables = (f"CREATE TABLE many.t{k} (a int, b text, c jsonb, d uuid)" for k in range(400))
    one_order.connection.execute(";".join(tables))
    try:
        run_extract(one_order, tmp_path)
        one_order.connection.execute("SELECT pg_stat_force_next_flush()")
        time.sleep(1)
        before = read()
        run_extract(one_order, tmp_path)
        time.sleep(1)
        assert read() - before < 4000  # 400 tables have 5,200 columns with those of the system
    finally:
        one_order.connection.execute("DROP SCHEMA many CASCADE")


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        ("FATAL: unsupported startup parameter: options", SourceRejected),
        ("FATAL: transaction blocks not allowed in statement pooling mode", SourceRejected),
        ("FATAL: no such database: source", SourceRejected),
        ("FATAL: SSL required", SourceRejected),
        ("FATAL: Tenant or user not found", SourceRejected),
        ("FATAL: query_wait_timeout", SourceUnavailable),
        ("FATAL: no more connections allowed (max_client_conn)", SourceUnavailable),
        ("FATAL: server login has been failing, try again later (server_login_retry)", SourceUnavailable),
    ],
)
def test_what_poolers_refuse_for_good_is_not_tried_again(said: str, becomes: type[DataExportError]) -> None:
    """They say it without an SQLSTATE that the driver passes on."""
    error = OperationalError(f"IO: [libpq] {said}", status_code=AdbcStatusCode.IO)
    assert type(translated(error, "postgresql://pooler/source", None)) is becomes


@pytest.mark.parametrize(
    ("state", "becomes", "fix"),
    [
        ("XX001", ValueRejected, "what the source has stored there is damaged: restore it from a backup"),
        ("XX002", SourceRejected, "the index is damaged: REINDEX it at the source"),
        ("XX000", SourceUnavailable, ""),
    ],
)
def test_damage_at_the_source_is_not_tried_again(state: str, becomes: type[DataExportError], fix: str) -> None:
    error = OperationalError("invalid page in block 0", status_code=AdbcStatusCode.IO, sqlstate=state)
    found = translated(error, "postgresql://source", None)
    assert type(found) is becomes
    assert fix in str(found)


# What PostgreSQL's own translations say: five refusals for good, and two that pass.
ABROAD = {
    "de": (
        "Passwort-Authentifizierung für Benutzer »x« fehlgeschlagen",
        "Rolle »x« existiert nicht",
        "Datenbank »x« existiert nicht",
        "Rolle »x« hat keine Berechtigung zum Einloggen",
        "Benutzer hat das CONNECT-Privileg nicht.",
        "tut mir leid, schon zu viele Verbindungen",
        "das Datenbanksystem startet",
    ),
    "es": (
        "la autentificación password falló para el usuario «x»",
        "no existe el rol «x»",
        "no existe la base de datos «x»",
        "al rol «x» no se le permite conectarse",
        "permiso denegado a la base de datos «x» (Usuario no tiene privilegios de conexión.)",
        "lo siento, ya tenemos demasiados clientes",
        "el sistema de base de datos está iniciándose",
    ),
    "fr": (
        "authentification par mot de passe échouée pour l'utilisateur  « x »",
        "le rôle « x » n'existe pas",
        "la base de données « x » n'existe pas",
        "le rôle « x » n'est pas autorisé à se connecter",
        "L'utilisateur n'a pas le droit CONNECT.",
        "désolé, trop de clients sont déjà connectés",
        "le système de bases de données se lance",
    ),
    "it": (
        'autenticazione con password fallita per l\'utente "x"',
        'il ruolo "x" non esiste',
        'il database "x" non esiste',
        'al ruolo "x" non è consentito effettuare il login',
        "L'utente non ha il privilegio CONNECT.",
        "spiacente, troppi client già connessi",
        "il database si sta avviando",
    ),
    "ja": (
        'ユーザー"x"のパスワード認証に失敗しました',
        'ロール"x"は存在しません',
        'データベース"x"は存在しません',
        'ロール"x"はログインが許可されません',
        "ユーザーはCONNECT権限を持ちません。",
        "現在クライアント数が多すぎます",
        "データベースシステムは起動処理中です",
    ),
    "ka": (
        'პაროლით ავთენტიფიკაცია მომხმარებლისთვის "x" ვერ მოხერხდა',
        'როლი არ არსებობს: "x"',
        'მონაცემთა ბაზა "x" არ არსებობს',
        "როლს შესვლის უფლება არ აქვს: x",
        "მომხმარებელს CONNECT პრივილეგია არ გააჩნია.",
        "უკაცრავად, უკვე მეტისმეტად ბევრი კლიენტია",
        "მიმდინარეობს მონაცემთა ბაზის სისტემის გაშვება",
    ),
    "ko": (
        '사용자 "x"의 password 인증을 실패했습니다',
        '"x" 롤(role) 없음',
        '"x" 데이터베이스 없음',
        '"x" 롤은 접속을 허용하지 않음',
        "사용자에게 CONNECT 권한이 없습니다.",
        "최대 동시 접속자 수를 초과했습니다.",
        "데이터베이스 시스템이 새로 가동 중입니다.",
    ),
    "ru": (
        'пользователь "x" не прошёл проверку подлинности (по паролю)',
        'роль "x" не существует',
        'база данных "x" не существует',
        'для роли "x" вход запрещён',
        "Пользователь не имеет привилегии CONNECT.",
        "извините, уже слишком много клиентов",
        "система баз данных запускается",
    ),
    "sv": (
        'Lösenordsautentisering misslyckades för användare "x"',
        'rollen "x" finns inte',
        'databasen "x" existerar inte',
        'roll "x" tillåts inte logga in',
        "Användaren har inte rättigheten CONNECT.",
        "ledsen, för många klienter",
        "databassystemet startar upp",
    ),
    "uk": (
        'користувач "x" не пройшов автентифікацію за допомогою пароля',
        'роль "x" не існує',
        'бази даних "x" не існує',
        'для ролі "x" вхід не дозволений',
        "Користувач не має права CONNECT.",
        "вибачте, вже забагато клієнтів",
        "система бази даних запускається",
    ),
    "zh_CN": (
        '用户 "x" Password 认证失败',
        '角色 "x" 不存在',
        '数据库 "x" 不存在',
        '不允许角色"x" 进行登录',
        "用户没有CONNECT权限.",
        "对不起, 已经有太多的客户",
        "数据库系统启动中",
    ),
}


@pytest.mark.parametrize("language", ABROAD)
def test_a_login_refused_in_another_language_is_refused(language: str) -> None:
    *refusals, busy, starting = ABROAD[language]
    for words in refusals:
        assert type(connecting(f"FATAL:  {words}")) is SourceRejected, words
    for words in (busy, starting):
        assert type(connecting(f"FATAL:  {words}")) is SourceUnavailable, words


@pytest.mark.parametrize("words", ["File o directory non esistente", "Filen eller katalogen finns inte"])
def test_a_file_that_the_server_does_not_find_yet_is_waited_for(words: str) -> None:
    """As English "No such file or directory": of a volume that is being mounted, say."""
    assert type(connecting(f'FATAL:  could not open file "global/pg_filenode.map": {words}')) is SourceUnavailable


def connecting(said: str) -> DataExportError:
    words = f'IO: [libpq] connection to server at "db" (10.0.0.1), port 5432 failed: {said}'
    return translated(OperationalError(words, status_code=AdbcStatusCode.IO), "postgresql://source", None)


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        ("SSL error: sslv3 alert certificate expired", SourceRejected),
        ("SSL error: ssl/tls alert certificate revoked", SourceRejected),
        ("SSL error: ssl/tls alert unsupported certificate", SourceRejected),
        ("SSL error: tlsv13 alert certificate required", SourceRejected),
        ("SSL error: sslv3 alert handshake failure", SourceRejected),
        ("SSL error: tlsv1 alert unknown ca", SourceRejected),
        ("SSL error: tlsv1 alert internal error", SourceUnavailable),
        ("SSL error: unexpected eof while reading", SourceUnavailable),
    ],
)
def test_what_tls_refuses_for_good_is_not_tried_again(said: str, becomes: type[DataExportError]) -> None:
    assert type(connecting(said)) is becomes
