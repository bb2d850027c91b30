# A directory in the workspace that looks like the store of a killed run. A supervisor that trusts the name of the
# directory opens the lock in it.
# claims: read-stores
# stops: supervisor
# oracle: script
# options: --workspace direct
# cases: link fifo
attempt() {
    mkdir -m 700 .egress-aa
    case $1 in
        link) ln -s "$DIR/followed" .egress-aa/lock ;;
        fifo) mkfifo .egress-aa/lock ;;
    esac
}
control() {
    attempt "$1"
    timeout 2 bash -c ': >> .egress-aa/lock' || echo waited
}
reached() {
    for work in "$DIR"/*/work; do
        timeout -s KILL 20 "$EGRESS" run --workdir "$work" --packet-dir "$DIR/next" -- true
        [ $? -ge 124 ] && return 0
    done
    [ -e "$DIR/followed" ] || grep -q waited "$DIR/said"
}
