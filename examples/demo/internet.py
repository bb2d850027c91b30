"""The internet of the demo: a name server for allowed.test and denied.test, and a web server and an SSH server for each.

Usage: internet.py ALLOWED DENIED, which are the IPv4 addresses of the two names. The program writes a line when it has
started, waits for a line on its standard input, starts the servers, and writes a second line.
"""
import http.server
import socket
import socketserver
import sys
import threading

ADDRESSES = dict(zip(("allowed.test", "denied.test"), sys.argv[1:3]))


class Names(socketserver.BaseRequestHandler):
    """Answers one DNS query. Only queries of type A have answers."""

    def handle(self):
        query, server = self.request
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        question = query[12 : at + 5]
        address = ADDRESSES.get(".".join(labels).lower())
        known = address is not None
        answers = known and question[-4:] == b"\0\1\0\1"
        # The flags are those of an answer with recursion, and NXDOMAIN (3) for other names.
        flags = b"\x81\x80" if known else b"\x81\x83"
        header = query[:2] + flags + b"\0\1" + (b"\0\1" if answers else b"\0\0") + bytes(4)
        answer = b"\xc0\x0c\0\1\0\1" + bytes(3) + b"\x3c\0\4" + socket.inet_aton(address) if answers else b""
        server.sendto(header + question + answer, self.client_address)


class Page(http.server.BaseHTTPRequestHandler):
    """Answers each GET with the requested host name."""

    def do_GET(self):
        body = f"hello from {self.headers['Host']}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        """Writes nothing, because the output of the demo is about egress."""


class Banner(socketserver.BaseRequestHandler):
    """Sends the first line of an SSH server."""

    def handle(self):
        self.request.sendall(b"SSH-2.0-demo\r\n")


print("started", flush=True)
sys.stdin.readline()
servers = [socketserver.ThreadingUDPServer(("0.0.0.0", 53), Names)]
for address in ADDRESSES.values():
    servers += [http.server.ThreadingHTTPServer((address, 80), Page), socketserver.ThreadingTCPServer((address, 22), Banner)]
for server in servers:
    threading.Thread(target=server.serve_forever, daemon=True).start()
print("serving", flush=True)
sys.stdin.read()
