# A protocol other than HTTP, on its own port.
# claims: tcp
# stops: ebpf netns
# seen: hook=connect4 port=CASE
# oracle: wire
# cases: 21 22 25 587 2375 5432 6379 9418 50000
attempt() { exec 3<>"/dev/tcp/198.51.100.20/$1"; echo hello >&3; }
