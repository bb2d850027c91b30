# Attempts that the boundary must deny, and one request to an allowed destination. The tests check where the network
# packets went, and for attempts that send no network packet, the output of this script.
attempt() {
  local name=$1
  shift
  if timeout 5 "$@" > /dev/null 2>&1; then echo "$name succeeded"; else echo "$name failed"; fi
}
plain=(env -u HTTP_PROXY -u HTTPS_PROXY -u ALL_PROXY -u http_proxy -u https_proxy -u all_proxy)
ask='
import socket
question = b"\x124\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07allowed\x04test\x00\x00\x01\x00\x01"
asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asked.settimeout(3)
asked.sendto(question, ("198.51.100.53", 53))
assert asked.recv(512)
'
tcp='
import socket
socket.create_connection(("198.51.100.20", 9999), 3).sendall(b"x")
'
capability='
import re
status = open("/proc/self/status").read()
assert any(int(value, 16) for value in re.findall(r"Cap(?:Prm|Bnd):\s*(\w+)", status))
'
attempt direct-http "${plain[@]}" curl -fsS --noproxy '*' http://denied.test/
attempt upstream-dns python3 -c "$ask"
attempt raw-tcp python3 -c "$tcp"
attempt udp bash -c 'echo x > /dev/udp/198.51.100.20/4000'
attempt sudo sudo -n true
attempt docker-socket curl -fsS --unix-socket /var/run/docker.sock http://localhost/_ping
attempt capabilities python3 -c "$capability"
attempt runner-user test "$(id -un)" = runner
attempt allowed curl -fsS http://allowed.test/
