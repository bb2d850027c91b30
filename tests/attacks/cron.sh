# A file that makes a service of the machine start a program later.
# stops: private-run
# oracle: script
# cases: /var/spool/cron/crontabs /etc/cron.d /var/spool/at /etc/systemd/system
# as: nobody
stage() {
    # The runner has its own mounts, so the machine is not changed.
    case $1 in
        /var/spool/*) mount -t tmpfs none /var/spool ;;
        *) mount -t tmpfs none "$1" ;;
    esac && mkdir -p -m 777 "$1" && chmod 777 "$1"
}
attempt() { echo '* * * * * root id' > "$1/owned"; }
reached() { [ -e "$1/owned" ]; }
