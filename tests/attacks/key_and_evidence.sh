# Reading and writing the signing keys and the evidence.
# claims: run-files who-writes boundary-key
# stops: private-run privileges
# oracle: script
# options: --signer-private-key $PLACE/key --boundary-key $PLACE/boundary
# cases: key state
stage() {
    "$EGRESS" keygen --out "$PLACE/key" && "$EGRESS" keygen --out "$PLACE/boundary"
}
attempt() {
    case $1 in
        key) set -- "$PLACE/key" "$PLACE/boundary" ;;
        state) set -- /run/egress/* /run/egress/*/* ;;
    esac
    for one; do
        [ -d "$one" ] && ls "$one" && echo "listed $one"
        [ -f "$one" ] && cat "$one" && echo "read $one"
        (: >> "$one") 2> /dev/null && echo "wrote $one"
    done
    true
}
reached() { grep -qE "^(listed|read|wrote) /" "$DIR/said"; }
