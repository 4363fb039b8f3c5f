"""A TCP proxy in front of one address, which can hold back what the server says, or turn chosen processes away."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Collection
from pathlib import Path

CHUNK = 256 * 1024


class Proxy:
    """Works until `close`. It decrypts nothing: whoever connects speaks TLS with the server.

    `hold()` stops forwarding from the server to the clients, and only that way: connections stay, what clients say
    still arrives, so the server goes on learning what its clients had got. `release()` forwards what was held back.
    `admit_only(pids)` breaks the connections of all other processes and refuses their new ones until `admit_all()`.
    """

    def __init__(self, server: str) -> None:
        host, _, port = server.rpartition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._connections: list[tuple[socket.socket, socket.socket]] = []
        self._admitted: frozenset[int] | None = None
        self._threads: list[threading.Thread] = []
        self._closed = False

        self._run(self._accept)

    def close(self) -> None:
        self._closed = True
        self._flowing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for pair in self._connections:
                _break(*pair)
        for thread in self._threads:
            thread.join()
        for pair in self._connections:
            for each in pair:
                each.close()

    def hold(self) -> None:
        self._flowing.clear()

    def release(self) -> None:
        self._flowing.set()

    def admit_only(self, pids: Collection[int]) -> None:
        with self._lock:
            self._admitted = frozenset(pids)
            for client, server in self._connections:
                if not self._welcome(client):
                    _break(client, server)

    def admit_all(self) -> None:
        with self._lock:
            self._admitted = None

    def _welcome(self, client: socket.socket) -> bool:
        return self._admitted is None or any(_belongs_to(client, pid) for pid in self._admitted)

    # --- threads -----------------------------------------------------------------------------------------------

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True, name=f"proxy-{self.address}")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                welcome = self._welcome(client)
            try:
                server = socket.create_connection(self._server) if welcome else None
            except OSError:
                server = None
            if server is None:
                client.close()
                continue
            with self._lock:
                self._connections.append((client, server))
                if self._closed:
                    _break(client, server)
            self._run(self._forward, client, server, False)
            self._run(self._forward, server, client, True)

    def _forward(self, source: socket.socket, sink: socket.socket, holdable: bool) -> None:
        with contextlib.suppress(OSError, ValueError), selectors.DefaultSelector() as readable:
            readable.register(source, selectors.EVENT_READ)
            while True:
                readable.select()
                if holdable:
                    self._flowing.wait()
                data = source.recv(CHUNK)
                if not data:
                    break
                if holdable:
                    self._flowing.wait()  # it may have been held while we read
                sink.sendall(data)
        with self._lock:
            _break(source, sink)


def _break(*sockets: socket.socket) -> None:
    """Both directions end at once for everybody who waits; closing alone would leave them waiting."""
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def _belongs_to(client: socket.socket, pid: int) -> bool:
    """Whether the other end of a connection on this machine is the process's: by the socket's inode in /proc. A process
    that is gone has none."""
    with contextlib.suppress(OSError):
        ports = f":{client.getpeername()[1]:04X}", f":{client.getsockname()[1]:04X}"
        inodes = set()
        for table in ("tcp", "tcp6"):  # gRPC reaches IPv4 addresses through sockets of either kind
            for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if (fields[1][-5:], fields[2][-5:]) == ports:
                    inodes.add(f"socket:[{fields[9]}]")
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(entry.readlink()) in inodes:
                    return True
    return False
