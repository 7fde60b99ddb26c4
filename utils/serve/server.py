"""From an address to a running server."""

import ipaddress
import socket
from collections.abc import Sequence

from utils.errors import UserError
from utils.serve.gate import LOOPBACK_NAMES, Application

GRACE_SECONDS = 5  # for what runs when the server is told to stop
IDLE_SECONDS = 5  # until a connection without requests is closed


def bind(host: str, port: int) -> socket.socket:
    """Return a socket at that address, on which nothing is accepted yet.

    Raises:
        UserError: the address is taken, forbidden or not of this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise UserError(f"--host '{host}' is no address of this machine; use 127.0.0.1 or 0.0.0.0") from None
    listener = socket.socket(family, kind)
    if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where SO_REUSEADDR would let two servers share it
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _not_free(host, port, error) from error
    return listener


def listen(listener: socket.socket) -> None:
    """Let clients connect, who wait until ``serve`` runs.

    Raises:
        UserError: another program, which has the same address, was faster.
    """
    try:
        listener.listen()
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _not_free(host, port, error) from error


def _not_free(host: str, port: int, error: OSError) -> UserError:
    return UserError(
        f"cannot listen on {host}, port {port}: {(error.strerror or str(error)).lower()}; "
        "stop the program that does, or name others with --host and --port (0 takes any free port)"
    )


def is_loopback(listener: socket.socket) -> bool:
    """Tell whether only this machine can reach a socket."""
    return ipaddress.ip_address(listener.getsockname()[0].split("%")[0]).is_loopback


def known_names(listener: socket.socket, host: str, allowed: Sequence[str]) -> list[str] | None:
    """Return the names by which clients may call the server; None for any, where other machines may call at all."""
    return [*LOOPBACK_NAMES, host, *allowed] if allowed or is_loopback(listener) else None


def address_of(listener: socket.socket) -> str:
    """Return the URL of the page."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def serve(application: Application, listener: socket.socket) -> None:
    """Answer until Ctrl-C, or a signal to end; requests that run are finished, a second Ctrl-C drops them."""
    import uvicorn

    config = uvicorn.Config(
        application,  # type: ignore[arg-type]  # its types are stricter than ASGI
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # which uvicorn raises again when all is done
        pass
    finally:
        listener.close()
