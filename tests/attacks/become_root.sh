# Another user's rights, through a set-user-id program of the machine or the capabilities of a file.
# claims: setuid not-root
# stops: privileges
# oracle: call
# cases: setuid capability
# as: nobody
stage() {
    cp /usr/bin/id "$PLACE/id" && chmod 4755 "$PLACE/id"
    cp "$(command -v python3)" "$PLACE/python" && setcap cap_net_raw+ep "$PLACE/python"
}
attempt() {
    case $1 in
        setuid) [ "$("$PLACE/id" -u)" = 0 ] ;;
        capability) "$PLACE/python" -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)' ;;
    esac
}
