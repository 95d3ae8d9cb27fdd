"""All-gather between the fake's ranks over TCP: rank 0 collects the arrays and sends them to all.

An exchange is identified by the name of its operation in the graph and a counter of its runs. Ranks whose graphs differ
therefore wait for each other, as with the real adapter, until `TIMEOUT` is over.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
import threading
import time

TIMEOUT = 60.0  # seconds


def size():
    """Number of ranks, determined as in newer adapters."""
    if "CM_WORKER_SIZE" in os.environ and "RANK_SIZE" in os.environ:
        raise ValueError("RANK_SIZE and CM_WORKER_SIZE cannot be configured at the same time")
    if "NPU_STAND_IN_OLD" in os.environ:  # an older adapter, which ignores CM_*
        return int(os.environ.get("RANK_SIZE", "1"))
    return int(os.environ.get("RANK_SIZE") or os.environ.get("CM_WORKER_SIZE", "1"))


def rank():
    """Rank of this process. HCCL numbers the devices of one machine in order."""
    return int(os.environ["RANK_ID"] if "RANK_TABLE_FILE" in os.environ else os.environ["ASCEND_DEVICE_ID"])


def exchange(name, number, value):
    """The values of all ranks for this name and number, ordered by rank. Blocks until all have sent theirs."""
    if not os.environ.get("JOB_ID"):
        raise AttributeError("'NoneType' object has no attribute '_rank_size'")  # the real adapter's error
    _serve_once()
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            with socket.create_connection(_address(), timeout=TIMEOUT) as connection:
                _send(connection, (name, number, rank(), value))
                return _receive(connection)
        except (ConnectionRefusedError, FileNotFoundError, ValueError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)  # rank 0 does not listen yet


# -- rank 0 --------------------------------------------------------------------------------------------------

_start = threading.Lock()
_server = []
_condition = threading.Condition()
_values = {}  # by (name, number), then by rank


def _serve_once():
    with _start:
        if rank() == 0 and not _server:
            _server.append(_listen())
            threading.Thread(target=_accept, args=(_server[0],), daemon=True).start()


def _listen():
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    table = os.environ.get("RANK_TABLE_FILE")
    server.bind(("127.0.0.1", 0) if table else _address())
    server.listen(64)
    if table:
        with open(table + ".port.new", "w") as file:
            file.write(str(server.getsockname()[1]))
        os.replace(table + ".port.new", table + ".port")
    return server


def _address():
    table = os.environ.get("RANK_TABLE_FILE")
    if table:
        with open(table + ".port") as file:
            return "127.0.0.1", int(file.read())
    return os.environ["CM_CHIEF_IP"], int(os.environ["CM_CHIEF_PORT"])


def _accept(server):
    while True:
        connection, _ = server.accept()
        threading.Thread(target=_handle, args=(connection,), daemon=True).start()


def _handle(connection):
    with connection:
        name, number, sender, value = _receive(connection)
        with _condition:
            values = _values.setdefault((name, number), {})
            values[sender] = value
            _condition.notify_all()
            _condition.wait_for(lambda: len(values) == size(), timeout=TIMEOUT)
            _values.pop((name, number), None)
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
            raise ConnectionError("another rank has closed the connection")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
