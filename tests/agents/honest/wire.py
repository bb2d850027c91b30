"""The common functions of all kinds of requests: connections, heads, answers, and frames."""

import base64
import os
import random
import socket
import ssl
import struct
import sys
import threading

SEED, COUNT, SIZE = (int(word) for word in sys.argv[1:4])
ONLY = sys.argv[4] if len(sys.argv) > 4 else None
PROXY = os.environ.get("EXPLICIT")
HOSTS = ["allowed.test", "two.allowed.test"]
RAW = 8081  # Port of the server whose answers no HTTP library writes.
NOBODY = 8082  # Port that the policy allows and at which nothing listens.
LARGE = 2 << 20
EARLY = SIZE * 8
TRUST = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
chosen = threading.local()
KINDS = []
LEFT = []


def kind(request):
    """A kind of request that is made while the command runs."""
    KINDS.append(request)
    return request


def left(request):
    """A kind of request that is open when the command ends."""
    LEFT.append(request)
    return request


def host():
    return chosen.random.choice(HOSTS)


def size():
    return chosen.random.randint(1, SIZE)


def connect(name, port=80, timeout=20):
    stream = socket.create_connection((name, port), timeout)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def proxy():
    address, port = PROXY.split("//")[1].rstrip("/").rsplit(":", 1)
    return connect(address, int(port))


def tls(name, port=443):
    return TRUST.wrap_socket(connect(name, port), server_hostname=name)


def head(method, target, name, *fields):
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {name}", *fields, "", ""]).encode()


def read_head(stream):
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        byte = stream.recv(1)
        if not byte:
            raise EOFError(data)
        data += byte
    lines = data.decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    return lines[0].split()[1], fields


def read_exactly(stream, count):
    data = b""
    while len(data) < count:
        part = stream.recv(min(count - len(data), 1 << 16))
        if not part:
            raise EOFError
        data += part
    return data


def answer(stream, method="GET"):
    """Returns the status of one whole answer."""
    status, fields = read_head(stream)
    while status.startswith("1") and status != "101":
        status, fields = read_head(stream)
    if method == "HEAD" or status in ("101", "204", "304"):
        return status
    if "content-length" in fields:
        read_exactly(stream, int(fields["content-length"]))
    elif "chunked" in fields.get("transfer-encoding", ""):
        while True:
            line = b""
            while not line.endswith(b"\r\n"):
                line += read_exactly(stream, 1)
            count = int(line, 16)
            read_exactly(stream, count + 2)
            if count == 0:
                break
    else:
        while stream.recv(1 << 16):
            pass
    return status


def ask(target, method="GET", name=None, fields=(), body=b"", port=80, open_by=connect):
    name = name or host()
    with open_by(name, port) as stream:
        shown = name if port in (80, 443) else f"{name}:{port}"
        stream.sendall(head(method, target, shown, "Connection: close", *fields) + body)
        return answer(stream, method)


def upload(target, body, **more):
    fields = ["Content-Type: text/plain", f"Content-Length: {len(body)}"]
    return ask(target, "POST", fields=fields, body=body, **more)


def text(count):
    return (b"The quick brown fox jumps over the lazy dog. " * (count // 40 + 1))[:count]


def chunked(body, piece):
    pieces = [body[at:at + piece] for at in range(0, len(body), piece)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in pieces) + b"0\r\n\r\n"


def reset(stream):
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


def frame(first, payload):
    mask = os.urandom(4)
    count = len(payload)
    length = bytes([0x80 | count]) if count < 126 else bytes([0xFE]) + struct.pack(">H", count)
    return bytes([first]) + length + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


def handshake(stream, name, path="/ws"):
    key = base64.b64encode(os.urandom(16)).decode()
    fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
    stream.sendall(head("GET", path, name, *fields))
    return read_head(stream)[0]
