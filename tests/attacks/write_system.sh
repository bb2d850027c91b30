# A file in a place that only root may write to: programs, settings, and scheduled jobs.
# stops: privileges private-run
# oracle: script
# cases: /etc /etc/cron.d /var/spool /usr/bin /usr/local/bin
stage() {
    # The runner writes to its own overlay, so the machine is not changed.
    mkdir -p "$DIR/layer" && mount -t tmpfs none "$DIR/layer" && mkdir "$DIR/layer/upper" "$DIR/layer/work" &&
        mount -t overlay -o "lowerdir=$1,upperdir=$DIR/layer/upper,workdir=$DIR/layer/work" none "$1"
}
attempt() { echo x > "$1/made-by-attack"; }
reached() { [ -e "$1/made-by-attack" ]; }
