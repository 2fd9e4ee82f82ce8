"""SFTP servers, and how they are addressed."""

SFTP_PORT = 22


def server_address(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def sftp_account(username: str, host: str, port: int) -> str:
    """`user@host:port`, without the port where it is the usual one."""
    return f"{username}@{server_address(host, port).removesuffix(f':{SFTP_PORT}')}"


def sftp_uri(server: str, folder: str) -> str:
    """`sftp://<server>/<folder>/`; a folder below the user's own is written as one below the root is."""
    path = folder.strip("/")
    return f"sftp://{server}/{path}/" if path else f"sftp://{server}/"
