"""How the stand-in's ranks reach one another: arrays over TCP, gathered by rank 0 and given back to all.

Every exchange has a name, which is the operation's in the graph, and a number, counted up each time that it runs. Ranks
whose graphs differ therefore wait for each other, as real ones would, until `SECONDS` are over.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
import threading
import time

SECONDS = 60.0


def size():
    """How many ranks there are, as the newer adapters find it."""
    if "CM_WORKER_SIZE" in os.environ and "RANK_SIZE" in os.environ:
        raise ValueError("RANK_SIZE and CM_WORKER_SIZE cannot be configured at the same time")
    if "NPU_STAND_IN_OLD" in os.environ:  # an adapter from before CM_* counted
        return int(os.environ.get("RANK_SIZE", "1"))
    return int(os.environ.get("RANK_SIZE") or os.environ.get("CM_WORKER_SIZE", "1"))


def rank():
    """Which of them this process is. HCCL numbers the devices of one machine in their order."""
    return int(os.environ["RANK_ID"] if "RANK_TABLE_FILE" in os.environ else os.environ["ASCEND_DEVICE_ID"])


def exchange(name, number, value):
    """What all ranks have given for this name and number, in their order. Blocks until all have."""
    if not os.environ.get("JOB_ID"):
        raise AttributeError("'NoneType' object has no attribute '_rank_size'")  # what the real one says
    _serve_once()
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with socket.create_connection(_meeting(), timeout=SECONDS) as connection:
                _send(connection, (name, number, rank(), value))
                return _receive(connection)
        except (ConnectionRefusedError, FileNotFoundError, ValueError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)  # rank 0 is not yet here


# -- rank 0 --------------------------------------------------------------------------------------------------

_start = threading.Lock()
_server = []
_arrived = threading.Condition()
_given = {}  # values by rank, by name and number


def _serve_once():
    with _start:
        if rank() == 0 and not _server:
            _server.append(_listening())
            threading.Thread(target=_accept, args=(_server[0],), daemon=True).start()


def _listening():
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    table = os.environ.get("RANK_TABLE_FILE")
    server.bind(("127.0.0.1", 0) if table else _meeting())
    server.listen(64)
    if table:
        with open(table + ".port.new", "w") as file:
            file.write(str(server.getsockname()[1]))
        os.replace(table + ".port.new", table + ".port")
    return server


def _meeting():
    table = os.environ.get("RANK_TABLE_FILE")
    if table:
        with open(table + ".port") as file:
            return "127.0.0.1", int(file.read())
    return os.environ["CM_CHIEF_IP"], int(os.environ["CM_CHIEF_PORT"])


def _accept(server):
    while True:
        connection, _ = server.accept()
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection):
    with connection:
        name, number, sender, value = _receive(connection)
        with _arrived:
            values = _given.setdefault((name, number), {})
            values[sender] = value
            _arrived.notify_all()
            _arrived.wait_for(lambda: len(values) == size(), timeout=SECONDS)
            _given.pop((name, number), None)
        if len(values) == size():
            _send(connection, [values[other] for other in range(size())])


# -- bytes ---------------------------------------------------------------------------------------------------


def _send(connection, value):
    content = pickle.dumps(value, protocol=4)
    connection.sendall(struct.pack("<Q", len(content)) + content)


def _receive(connection):
    (length,) = struct.unpack("<Q", _exactly(connection, 8))
    return pickle.loads(_exactly(connection, length))


def _exactly(connection, length):
    parts = []
    while length:
        part = connection.recv(min(length, 1 << 20))
        if not part:
            raise ConnectionError("another rank has gone")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
