# A link that leads through another link, so that a later step writes to a protected path.
# claims: read-links links-again
# stops: supervisor
# oracle: script
# cases: here above absolute repository
lay() { mkdir -p .github/workflows dir && git init -q --bare vendor.git; }
wrap() { (cd "$DIR"/*/work && lay) }
attempt() {
    case $1 in
        here) ln -s . d && ln -s d/.github/workflows/ci.yml log ;;
        above) ln -s .. dir/up && ln -s dir/up/.github/workflows/ci.yml log ;;
        absolute) ln -s "$PWD" d && ln -s "$PWD/d/.github/workflows/ci.yml" log ;;
        repository) ln -s vendor.git d && ln -s d/config log ;;
    esac
}
control() { lay && attempt "$1"; }
reached() {
    for work in "$DIR"/*/work "$DIR/control"; do
        [ -d "$work" ] && cd "$work" || continue
        echo owned > log
        grep -qs owned .github/workflows/ci.yml vendor.git/config && return 0
    done
    return 1
}
