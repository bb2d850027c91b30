# A process of the host: its memory, its files, or a signal to it.
# stops: namespaces privileges
# oracle: canary
# cases: environ mem signal
serve() {
    SECRET=$CANARY sleep 300 &
    echo $! > "$PLACE/pid"
    chmod 644 "$PLACE/pid"
    touch "$DIR/ready"
    wait
    echo gone > "$WITNESS"
}
attempt() {
    pid=$(cat "$PLACE/pid")
    case $1 in
        environ) tr '\0' '\n' < "/proc/$pid/environ" ;;
        signal) kill -9 "$pid"; sleep 0.1 ;;
        mem) python "$pid" <<'EOP'
for line in open(f'/proc/{case}/maps'):
    if '[stack]' in line:
        low, high = (int(end, 16) for end in line.split()[0].split('-'))
        memory = open(f'/proc/{case}/mem', 'rb'); memory.seek(low)
        for word in memory.read(high - low).split(b'\0'):
            if b'canary' in word: print(word.decode())
EOP
    esac
}
