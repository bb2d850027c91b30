# More processes than the run may have.
# claims: limit-processes
# stops: supervisor
# oracle: canary
# options: --max-processes 100 --timeout 20
serve() {
    touch "$DIR/ready"
    while sleep 0.05; do
        count=$(grep -las "^$PLACE-bomb" /proc/[0-9]*/cmdline | wc -l)
        [ "$count" -gt 150 ] && echo "$count" >> "$WITNESS"
    done
}
attempt() {
    python <<EOP
for _ in range(250):
    if os.fork() == 0: os.execvp('sleep', ['$PLACE-bomb', '5'])
time.sleep(3)
EOP
}
