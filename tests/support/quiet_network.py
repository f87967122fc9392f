"""A network that stands still, for a browser: Chromium breaks off what it loads when a network of its machine comes or goes, as those of a lab do."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CLONE_NEWNET = 0x40000000
PORT = 1080  # of the proxy, in a namespace where nobody else listens
SOCKS = [f"--proxy-server=socks5://127.0.0.1:{PORT}", "--proxy-bypass-list=<-loopback>"]  # Chromium's arguments; loopback too goes through the proxy
IPV4, NAME = 1, 3  # kinds of an address in SOCKS 5 (RFC 1928)


@contextmanager
def quiet_network() -> Iterator[QuietNetwork]:
    """A network namespace that has loopback alone, and in it a SOCKS proxy that connects from outside. It is gone with the block and its processes."""
    network = QuietNetwork()
    serving = threading.Thread(target=network.serve, daemon=True)
    serving.start()
    try:
        yield network
    finally:
        network.end()
        serving.join(10)


@contextmanager
def apart() -> Iterator[None]:
    """Within the block this thread and all that it starts, servers as well as browsers, are in such a network; who is not root has no lab to be kept from."""
    if os.geteuid() != 0:
        yield
        return
    with quiet_network() as network, network.entered():
        yield


class QuietNetwork:
    """The namespace and its proxy."""

    def __init__(self) -> None:
        self._outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _call("unshare", CLONE_NEWNET)
        try:
            self._inside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            self._listener = socket.create_server(("127.0.0.1", PORT))
        finally:
            _call("setns", self._outside, CLONE_NEWNET)
        self._loop = asyncio.new_event_loop()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Processes that this thread starts within the block are in the namespace, with all that they start."""
        _call("setns", self._inside, CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", self._outside, CLONE_NEWNET)

    def serve(self) -> None:
        self._loop.run_until_complete(asyncio.start_server(_proxied, sock=self._listener))
        self._loop.run_forever()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        for each in (self._inside, self._outside):
            os.close(each)
        self._listener.close()


def _call(name: str, *arguments: int) -> None:
    """A call of the kernel's that Python has from 3.12 on."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)


async def _proxied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection of the browser's: a SOCKS greeting and request, then bytes both ways until both have ended."""
    with suppress(OSError, asyncio.IncompleteReadError):
        await reader.readexactly((await reader.readexactly(2))[1])  # ways to sign in; none is needed
        writer.write(b"\x05\x00")
        _, _, _, kind = await reader.readexactly(4)
        assert kind in (IPV4, NAME), kind
        size = 4 if kind == IPV4 else (await reader.readexactly(1))[0]
        address = await reader.readexactly(size)
        (port,) = struct.unpack(">H", await reader.readexactly(2))
        try:
            other, onward = await asyncio.open_connection(socket.inet_ntoa(address) if kind == IPV4 else address.decode(), port)
        except OSError:
            writer.write(b"\x05\x05\x00\x01" + bytes(6))  # connection refused
        else:
            writer.write(b"\x05\x00\x00\x01" + bytes(6))
            await asyncio.gather(_pumped(reader, onward), _pumped(other, writer))
            onward.close()
    writer.close()


async def _pumped(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
        target.write_eof()
