printf '[%s]\n' "$#" "$@"
