# A file written where only root may: programs, settings, and what is started by the clock.
# stops: privileges private-run
# oracle: script
# cases: /etc /etc/cron.d /var/spool /usr/bin /usr/local/bin
stage() {
    # A layer of the runner's own: nothing of the machine is touched.
    mkdir -p "$DIR/layer" && mount -t tmpfs none "$DIR/layer" && mkdir "$DIR/layer/upper" "$DIR/layer/work" &&
        mount -t overlay -o "lowerdir=$1,upperdir=$DIR/layer/upper,workdir=$DIR/layer/work" none "$1"
}
attempt() { echo x > "$1/made-by-attack"; }
reached() { [ -e "$1/made-by-attack" ]; }
