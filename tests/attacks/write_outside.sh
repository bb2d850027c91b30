# A file outside the workspace, in a place that unprivileged users may write to.
# stops: private-run
# oracle: script
# cases: write mkdir append
# as: nobody
stage() { mkdir -m 777 "$PLACE/open" && install -m 666 /dev/null "$PLACE/open/file"; }
attempt() {
    case $1 in
        write) echo x > "$PLACE/open/made" ;;
        mkdir) mkdir "$PLACE/open/dir" ;;
        append) echo x >> "$PLACE/open/file" ;;
    esac
}
reached() { [ -e "$PLACE/open/made" ] || [ -e "$PLACE/open/dir" ] || [ -s "$PLACE/open/file" ]; }
