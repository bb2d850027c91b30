# The signing key, the policy, the evidence and the packet: read and written.
# stops: private-run privileges
# oracle: script
# options: --signer-private-key $PLACE/key --boundary-key $PLACE/boundary
# cases: key policy state packet
stage() {
    "$EGRESS" keygen --out "$PLACE/key" && "$EGRESS" keygen --out "$PLACE/boundary"
}
attempt() {
    case $1 in
        key) set -- "$PLACE/key" "$PLACE/boundary" ;;
        policy) set -- "$DIR"/*/*.yaml ;;
        state) set -- /run/egress/* /run/egress/*/* ;;
        packet) set -- "$DIR"/*/packet "$DIR"/*/packet/* "$DIR"/*/.packet*/* ;;
    esac
    for one; do
        [ -d "$one" ] && ls "$one" && echo "listed $one"
        [ -f "$one" ] && cat "$one" && echo "read $one"
        (: >> "$one") 2> /dev/null && echo "wrote $one"
    done
    true
}
reached() { grep -qE "^(listed|read|wrote) /" "$DIR/said"; }
