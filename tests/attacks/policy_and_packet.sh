# Reading and writing the policy and the packet.
# claims: run-files
# stops: private-run
# oracle: script
# cases: policy packet
attempt() {
    case $1 in
        policy) set -- "$DIR"/*/*.yaml ;;
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
