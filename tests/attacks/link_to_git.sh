# A link in the workspace through which a later step writes into the git directory.
# claims: read-links
# stops: supervisor
# oracle: script
# cases: relative absolute above
wrap() { (cd "$DIR"/*/work && git init -q . && mkdir dist) }
attempt() {
    rmdir dist
    case $1 in
        relative) ln -s .git/hooks dist ;;
        absolute) ln -s "$PWD/.git/hooks" dist ;;
        above) ln -s .git dist ;;
    esac
}
control() { git init -q . && mkdir dist && attempt "$1"; }
reached() {
    for work in "$DIR"/*/work "$DIR/control"; do
        [ -d "$work" ] && cd "$work" || continue
        mkdir -p dist/hooks
        cp /bin/true dist/post-checkout; cp /bin/true dist/hooks/post-checkout
        [ -e .git/hooks/post-checkout ] && return 0
    done
    return 1
}
