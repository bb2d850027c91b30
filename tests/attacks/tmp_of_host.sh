# A file of the host in a directory that every user may write to.
# stops: private-run
# oracle: canary
# cases: /run /var/tmp /dev/shm
# as: nobody
stage() {
    # The runner has its own mounts, so the machine is not changed.
    if [ "$1" = /run ]; then
        mkdir "$DIR/keep" && mount --bind /run/egress "$DIR/keep" && mount -t tmpfs -o mode=755 none /run &&
            mkdir /run/egress && mount --bind "$DIR/keep" /run/egress
    else
        mount -t tmpfs -o mode=755 none "$1"
    fi && echo "$CANARY" > "$1/secret"
}
attempt() { cat "$1/secret"; }
