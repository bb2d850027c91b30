"""Sends uploads, each to its own host name, and ends while uploads without an answer are still open.

    client.py WAY:FATE:SIZE...

Each line of the output has the way, the fate, and the status of the answer.
"""

import base64
import os
import socket
import ssl
import sys
import time

PROXY = os.environ.get("EXPLICIT")
PLAIN, TLS = 8100, 8101
PIECE = 1 << 15
TRUST = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])


def connect(host, port):
    stream = socket.create_connection((host, port), 60)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def proxy():
    address, port = PROXY.split("//")[1].rstrip("/").rsplit(":", 1)
    return connect(address, int(port))


def read_head(stream):
    """Returns the status of the next answer, without its body."""
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        byte = stream.recv(1)
        if not byte:
            return "none"
        answer += byte
    return answer.split()[1].decode()


def tunnel(host):
    return TRUST.wrap_socket(connect(host, TLS), server_hostname=host)


def explicit_tunnel(host):
    if not PROXY:
        return tunnel(host)
    stream = proxy()
    stream.sendall(f"CONNECT {host}:{TLS} HTTP/1.1\r\nHost: {host}:{TLS}\r\n\r\n".encode())
    status = read_head(stream)
    if status != "200":
        raise ConnectionError(status)
    return TRUST.wrap_socket(stream, server_hostname=host)


def post(stream, target, host, fields, body=b""):
    head = [f"POST {target} HTTP/1.1", f"Host: {host}", "Content-Type: text/plain", *fields, "", ""]
    stream.sendall("\r\n".join(head).encode() + body)


def send(stream, piece, count, end):
    """Sends a body until its end. Stops early if the connection closes because the answer has ended."""
    try:
        for _ in range(count):
            stream.sendall(piece)
        stream.sendall(end)
    except OSError:
        pass


def request(way, fate, size):
    """Sends one request with its body, and returns the stream."""
    host = f"{fate}-{way}.more.test"
    port = TLS if "tunnel" in way else PLAIN
    shown, target = f"{host}:{port}", f"/{fate}/{size}"
    if way in ("tunnel", "explicit-tunnel"):
        stream = tunnel(host) if way == "tunnel" else explicit_tunnel(host)
    elif way == "proxy" and PROXY:
        stream, target = proxy(), f"http://{shown}{target}"
    else:
        stream = connect(host, PLAIN)
    if way == "kept":
        post(stream, "/warm/100", shown, ["Content-Length: 100"], b"x" * 100)
        if read_head(stream) != "200" or stream.recv(2) != b"ok":
            raise ConnectionError("the first request failed")
    is_chunked = way == "chunked" or fate == "bad"
    post(stream, target, shown, ["Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {size}"])
    piece = b"x" * min(size, PIECE)
    if is_chunked:
        end = b"no chunk\r\n" if fate == "bad" else b"0\r\n\r\n"
        send(stream, b"%x\r\n%s\r\n" % (len(piece), piece), size // len(piece), end)
    else:
        send(stream, piece, size // len(piece), b"")
    return stream


def websocket(fate, size):
    """Opens a WebSocket and sends text frames. With the fate `forged`, the client does not wait for the answer to the upgrade."""
    host = f"{fate}-websocket.more.test"
    stream = connect(host, PLAIN)
    key = base64.b64encode(os.urandom(16)).decode()
    head = [f"GET /{fate}/{size} HTTP/1.1", f"Host: {host}:{PLAIN}", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", "", ""]
    stream.sendall("\r\n".join(head).encode())
    status = read_head(stream) if fate != "forged" else None
    payload = b"x" * min(size, PIECE)
    # A mask of zeros leaves the payload as it is.
    frame = b"\x81\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload
    # The opcode of this frame is reserved.
    end = b"\x83\x81" + bytes(4) + b"x" if fate == "bad" else b""
    send(stream, frame, size // len(payload), end)
    return stream, status


def upload(way, fate, size):
    """Makes one upload. Returns the status of the answer, and the stream if there is no answer."""
    stream = status = None
    try:
        if way == "websocket":
            stream, status = websocket(fate, size)
        else:
            stream = request(way, fate, size)
        if fate != "late":
            stream.settimeout(20)
            status = status or read_head(stream)
    except OSError as error:
        status = status or type(error).__name__
    return status or "sent", stream if fate == "late" else None


held = []
for words in sys.argv[1:]:
    way, fate, size = words.split(":")
    status, stream = upload(way, fate, int(size))
    held.append(stream)
    print(way, fate, status, flush=True)
# The pause gives the sent data time to arrive.
time.sleep(2)
os._exit(0)
