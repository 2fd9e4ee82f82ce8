"""What the errors of the source mean."""

import re
from urllib.parse import unquote, urlsplit

from data_export.errors import DataExportError, SourceRejected, SourceUnavailable, ValueRejected
from data_export.source.queries import Query
from data_export.source.snapshot import OURS
from data_export.wording import harmless

_TOO_MUCH_ON_DISK, _DAMAGED, _DAMAGED_INDEX = "53400", "XX001", "XX002"
#: SQLSTATE classes of code that is no language of PostgreSQL's own: what it says may pass, as a service that it asks.
OF_OTHERS = ("38", "39")
#: And those of code at the source that may refuse a row: a subquery with two rows for it, a domain's rule, a function.
OF_CODE = ("21", "23", "2F", "P0", *OF_OTHERS)
# Of the classes of what a retry cannot help, those that a row can cause: by its values, their limits, or such code.
_OF_VALUES = ("0A", "22", "54", _DAMAGED, *OF_CODE)
# And the others: login, catalogue, syntax, rights.
_PERMANENT = (*_OF_VALUES, "25", "28", "34", "3D", "3F", "42", _TOO_MUCH_ON_DISK, _DAMAGED_INDEX)
# What replaying ends on a standby.
_CONFLICTS = ("40001", "40P01")
# And the server's time limits for a transaction, or for one that waits.
_TIME_LIMITS = ("25P03", "25P04")
# What libpq says, without SQLSTATE, where trying again is of no use.
_REFUSED = re.compile(
    "authentication failed|no password supplied|pg_hba.conf|does not exist|permission denied|certificate verify failed"
    "|does not support SSL|does not match host name|invalid URI|invalid connection option|invalid port"
    r"|invalid integer value|invalid \w+ value|missing \"=\"|unterminated quoted string|could not match \d+"
    "|weak sslmode|could not (read|load|open) .*(certificate|private key)|private key file|not compiled in"
    "|definition of service .* not found|service file .* not found|syntax error in service file"
    "|is not permitted to log in|authentication method requirement|channel binding|GSSAPI encryption"
    "|valid client certificate|alert ((no |bad |unsupported )?certificate|unknown ca|protocol version|access denied)"
    "|alert (handshake failure|insufficient security|no application protocol)|unsupported protocol"
    # What poolers say: of PgBouncer, Supavisor.
    "|unsupported startup parameter|in statement pooling mode|no such (database|user)|SSL (connection is )?required"
    "|Tenant or user not found"
    # What a server says that speaks another language (lc_messages): of login and password, of what does not exist, of
    # who may not log in, and of the right to connect, which most spell as it is.
    "|uthentifizierung für|tificación .*falló|tification .*échouée|utenticazione .*fallita|autenticação .*falhou"
    "|認証に失敗|ავთენტიფიკაცია|인증을 실패|проверку подлинности|utentisering misslyckades|автентифікацію|认证.*失败"
    "|existiert nicht|no existe (el rol|la base)|n'existe pas|non esiste(?!nte)|não existe|は存在しません|არ არსებობს"
    r"|(롤\(role\)|데이터베이스) 없음|не существует|(?<!katalogen )(finns|existerar) inte|не існує|不存在"
    "|Berechtigung zum Einloggen|no se le permite conectarse|autorisé à se connecter|consentito effettuare il login"
    "|ログインが許可されません|შესვლის უფლება არ|롤은 접속을 허용하지|вход запрещён|inte logga in|вхід не дозволений"
    r"|不允许角色|\bCONNECT\b|[は有]CONNECT|permiso denegado a la base"
)
# Our own words, which PostgreSQL quotes as a value that it cannot read, in whatever quotation marks.
_OURS = re.compile(OURS + r"(.*? allows)")
_LONGEST = 600
_DENIED = re.compile(
    r"permission denied for (?:(?:foreign |materialized )?(table|view|schema|function)) (.+?)(?: \(|$)"
)
_SECRETS = ("password", "sslpassword", "oauth_client_secret")
_PAIR = re.compile(r"(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s\\]|\\.)*))", re.DOTALL)
_CONNECTION = "check the source's connection (source.conn_id in platform.yaml)"


def is_uri(dsn: str) -> bool:
    """Whether libpq takes the text for a URI, else for `key=value` pairs."""
    return dsn.startswith(("postgresql://", "postgres://"))


def translated(error: Exception, dsn: str, query: Query | None) -> DataExportError:
    """One line: what the source said, where, and what to change; never the password."""
    details = {str(key, "ascii"): str(text, "utf-8", "replace") for key, text in getattr(error, "details", ())}
    state = getattr(error, "sqlstate", None)
    said = details.get("PG_DIAG_MESSAGE_PRIMARY") or " ".join(str(error).removeprefix("IO: [libpq] ").split())
    if detail := details.get("PG_DIAG_MESSAGE_DETAIL"):
        said += f" ({' '.join(detail.split())})"
    refused = query is None and _REFUSED.search(said)  # before a short password takes letters out of the words
    said = shortened(_without_secrets(said, dsn))
    if state is None:
        return SourceRejected(f"source: {said}: {_CONNECTION}") if refused else SourceUnavailable(f"source: {said}")
    if state in _TIME_LIMITS or not state.startswith(_PERMANENT):
        return SourceUnavailable(f"source: {said} (SQLSTATE {state}){_advice(state)}")
    position = details.get("PG_DIAG_STATEMENT_POSITION")
    where = query.where(int(position) if position else None) if query else "source"
    message = f"{where}: {said} (SQLSTATE {state}): {_fix(state, said)}"
    if not state.startswith(_OF_VALUES):
        return SourceRejected(message)
    ours = _OURS.search(said)
    return ValueRejected(message, ours[1] if ours else f"cannot be read: {said} (SQLSTATE {state})", state)


def shortened(text: str) -> str:
    """A source's words as they may be shown anywhere: on one line, printable, and not endless."""
    return harmless(text if len(text) <= _LONGEST else text[: _LONGEST - 200] + " ... " + text[-190:], 2 * _LONGEST)


def _advice(state: str) -> str:
    if state in _CONFLICTS:  # in whatever language: a transaction that only reads has no other
        return (
            ": the source is a standby that ended the query to go on replaying: set hot_standby_feedback = on there, "
            "or raise its max_standby_streaming_delay"
        )
    if state == "55000":
        return ": if it is a materialized view, run REFRESH MATERIALIZED VIEW at the source"
    if state in _TIME_LIMITS:
        return ": the source ends long transactions: lift the limit for the login that exports use"
    return ""


def _fix(state: str, said: str) -> str:
    policies = (
        "row-level security would leave rows out without a word: give the source connection's user BYPASSRLS, or, if "
        "its policies show it all that is to be exported, set source.row_security: apply in platform.yaml"
    )
    grant = "grant the source connection's user SELECT on it"
    if state == "42501":
        if "row-level security" in said:
            return policies
        if denied := _DENIED.search(said):
            right = {"schema": "USAGE ON SCHEMA", "function": "EXECUTE ON FUNCTION"}.get(denied[1], "SELECT ON")
            return f"grant it to the source connection's user: GRANT {right} {denied[2]} TO ..."
        # A server that speaks another language: its words do not say which of the two it is.
        return grant if "permission denied" in said else f"{grant}; or, where the table has policies: {policies}"
    if state == _TOO_MUCH_ON_DISK:
        return "raise temp_file_limit for the source connection's user, which only a superuser may"
    if state == _DAMAGED:
        return "what the source has stored there is damaged: restore it from a backup of the source"
    if state == _DAMAGED_INDEX:
        return "the index is damaged: REINDEX it at the source"
    if state == "42702":
        return "name each column of the table in place of `.*`: the table has a column of the same name"
    if state.startswith("28") or state == "3D000":
        return _CONNECTION
    return "fix the query; the comment at its top says which columns it must return"


def _without_secrets(text: str, dsn: str) -> str:
    secrets: list[str | None] = []
    if is_uri(dsn):
        parts = dsn.partition("?")[2].split("&")
        secrets += [part.partition("=")[2] for part in parts if part.partition("=")[0] in _SECRETS]
        secrets.append(urlsplit(dsn).password)
    else:
        pairs = [(name, quoted or bare) for name, quoted, bare in _PAIR.findall(dsn)]
        secrets += [re.sub(r"\\(.)", r"\1", value) for name, value in pairs if name in _SECRETS]
    for secret in secrets:
        for spelling in {secret, unquote(secret or "")} - {"", None}:
            text = text.replace(str(spelling), "***")
    return text
