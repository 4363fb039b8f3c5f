"""A TCP proxy in front of one address, which can hold back what the server says, or turn chosen processes away."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from pathlib import Path

CHUNK = 256 * 1024


class Proxy:
    """Works until `close`. It decrypts nothing: whoever connects speaks TLS with the server.

    `hold()` stops forwarding from the server to the clients, and only that way: connections stay, what clients say
    still arrives, so the server goes on learning what its clients had got. `release()` forwards what was held back.
    `shut_out(pid)` breaks a process's connections and refuses its new ones until `let_in(pid)`.
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
        self._shut_out: set[int] = set()
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

    def shut_out(self, pid: int) -> None:
        with self._lock:
            self._shut_out.add(pid)
            for client, server in self._connections:
                if _belongs_to(client, pid):
                    _break(client, server)

    def let_in(self, pid: int) -> None:
        with self._lock:
            self._shut_out.discard(pid)

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
                welcome = not any(_belongs_to(client, pid) for pid in self._shut_out)
            try:
                server = socket.create_connection(self._server) if welcome else None
            except OSError:
                server = None
            if server is None:
                client.close()
                continue
            with self._lock:
                self._connections.append((client, server))
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
    """Whether the other end of a connection on this machine is the process's: by the socket's inode in /proc."""
    try:
        host, port = client.getpeername()
    except OSError:
        return False
    local = f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}:{port:04X}"
    inodes = {
        fields[9]
        for line in Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        if (fields := line.split())[1] == local
    }
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if entry.readlink().name.removeprefix("socket:[").removesuffix("]") in inodes:
                return True
    return False
