"""How the tests sign in to their SFTP servers."""

from data_export.delivery.sftp.destination import SftpLogin
from demo.servers.foreign import ForeignServer
from demo.servers.openssh import OpensshServer
from demo.servers.sftp import SftpServer

Server = SftpServer | OpensshServer | ForeignServer


def login_as_dict(server: Server) -> dict[str, object]:
    """The arguments of `SftpLogin`, which another process can be given."""
    return {
        "host": server.host,
        "port": server.port,
        "username": server.username,
        "private_key_path": str(server.private_key_path),
        "passphrase": server.passphrase,
        "host_key": server.host_key,
    }


def login_of(server: Server, **changes: object) -> SftpLogin:
    return SftpLogin(**(login_as_dict(server) | changes))  # type: ignore[arg-type]
