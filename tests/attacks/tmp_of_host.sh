# A file that the host keeps where everyone writes.
# stops: private-run
# oracle: canary
# cases: /run /var/tmp /dev/shm
# as: nobody
stage() {
    # Mounts of the runner's own: nothing of the machine is touched.
    if [ "$1" = /run ]; then
        mkdir "$DIR/keep" && mount --bind /run/egress "$DIR/keep" && mount -t tmpfs -o mode=755 none /run &&
            mkdir /run/egress && mount --bind "$DIR/keep" /run/egress
    else
        mount -t tmpfs -o mode=755 none "$1"
    fi && echo "$CANARY" > "$1/secret"
}
attempt() { cat "$1/secret"; }
