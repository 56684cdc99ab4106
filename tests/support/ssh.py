"""A real SSH server (asyncssh's) on the loopback, which shows a folder by SFTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh


@dataclass
class Server:
    """Its port, its connections, and the line by which ssh knows it."""

    loop: asyncio.AbstractEventLoop
    port: int = 0
    known_host: str = ""
    connections: list[Any] = field(default_factory=list)

    def url(self, folder: Path) -> str:
        return f"sftp://somebody@127.0.0.1:{self.port}{folder.as_posix()}"

    def drop(self) -> None:
        """End every connection without a word."""
        for one in self.connections:
            self.loop.call_soon_threadsafe(one.abort)
        self.connections.clear()


@contextmanager
def server() -> Iterator[Server]:
    """The server, which lets everybody in; it is gone after the block."""
    its = Server(asyncio.new_event_loop())
    key = asyncssh.generate_private_key("ssh-ed25519")

    class Open(asyncssh.SSHServer):
        def connection_made(self, conn: Any) -> None:
            its.connections.append(conn)

        def begin_auth(self, username: str) -> bool:
            return False

    async def listen() -> Any:
        return await asyncssh.listen(
            "127.0.0.1", 0, server_factory=Open, server_host_keys=[key], sftp_factory=True
        )

    async def end(listening: Any) -> None:
        listening.close()
        await listening.wait_closed()
        await asyncio.sleep(0.1)  # the ends of what was dropped

    thread = threading.Thread(target=its.loop.run_forever, daemon=True)
    thread.start()
    listening = asyncio.run_coroutine_threadsafe(listen(), its.loop).result(30)
    try:
        its.port = listening.get_port()
        public = key.export_public_key().decode()
        its.known_host = f"[127.0.0.1]:{its.port} {public}"
        yield its
    finally:
        its.drop()
        asyncio.run_coroutine_threadsafe(end(listening), its.loop).result(30)
        its.loop.call_soon_threadsafe(its.loop.stop)
        thread.join(30)
        its.loop.close()
