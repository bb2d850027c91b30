# shellcheck shell=bash
# Runs one step: finds the binaries, checks their checksums, and starts `egress action`. action.yml sources this file.
# verify/action.yml sources it with the argument `verify`. The shell is `bash --noprofile --norc -euo pipefail`.

task=${1:-run}
project=$(dirname -- "${BASH_SOURCE[0]}")/..

fail() {
  local text=${1//'%'/'%25'}
  text=${text//$'\r'/'%0D'}
  printf '::error title=egress::%s\n' "${text//$'\n'/'%0A'}"
  exit 1
}

# have_sha256 FILE SHA256: succeeds if FILE has this checksum.
have_sha256() {
  [[ "$(sha256sum < "$1")" == "$2  -" ]]
}

# row TABLE VERSION: prints "sha256 url" for this architecture, or nothing if there is no row.
row() {
  awk -v version="$2" -v machine="$machine" \
    '$1 == version && $2 == machine { print $3, $4; exit }' "$project/dist/$1.sha256"
}

# have_table NAME: fails the step unless the table of the binary is in the action.
have_table() {
  [[ -r "$project/dist/$1.sha256" ]] ||
    fail "dist/$1.sha256 is missing, so no downloaded $1 can be checked, and nothing was run; use the action from its whole repository at a commit"
}

# release NAME VERSION: fetches the released binary, checks it, and sets `found` to its path. Sets `found` to nothing
# if the table has no row for this version.
release() {
  local name=$1 version=$2 listed sha256 url directory
  found=''
  have_table "$name"
  listed=$(row "$name" "$version")
  [[ -n "$listed" ]] || return 0
  read -r sha256 url <<< "$listed"
  directory="${RUNNER_TOOL_CACHE:-${RUNNER_TEMP:-/tmp}}/egress-$name/$version/$machine"
  found="$directory/$name"
  if [[ ! -e "$found" ]]; then
    mkdir -p -- "$directory"
    curl -fsSL --proto '=https,file' --retry 3 --output "$found.part.$$" -- "$url" ||
      fail "cannot fetch $name $version from $url"
    if [[ "$url" == *.tar.gz ]]; then
      tar -xzOf "$found.part.$$" -- "$name" > "$found.unpacked.$$" ||
        { rm -f -- "$found.part.$$" "$found.unpacked.$$"; fail "the archive from $url does not contain $name"; }
      mv -f -- "$found.unpacked.$$" "$found.part.$$"
    fi
    chmod 0755 -- "$found.part.$$"
    if ! have_sha256 "$found.part.$$" "$sha256"; then
      rm -f -- "$found.part.$$"
      fail "the file from $url does not have the sha256 that dist/$name.sha256 lists for $name $version ($machine); nothing was run"
    fi
    mv -f -- "$found.part.$$" "$found"
  fi
  have_sha256 "$found" "$sha256" ||
    fail "$found does not have the sha256 that dist/$name.sha256 lists for $name $version ($machine); nothing was run; remove it to fetch it again"
}

[[ "$(uname -s)" == Linux ]] ||
  fail "egress needs a Linux runner, and this one is $(uname -s); use runs-on: ubuntu-latest, or your own Linux runner"
machine=$(uname -m)
case "$machine" in
  x86_64 | aarch64) ;;
  *) fail "egress runs on x86_64 and aarch64, and this runner is $machine" ;;
esac
[[ "$task" == verify || -e /sys/fs/cgroup/cgroup.controllers || -e /sys/fs/cgroup/unified/cgroup.controllers ]] || grep -q ' cgroup2 ' /proc/mounts ||
  fail "egress needs a cgroup v2 tree, and none is mounted on this runner; in a container job, mount /sys/fs/cgroup and run it privileged"

if [[ -n "$INPUT_EGRESS_BIN" ]]; then
  egress=$INPUT_EGRESS_BIN
  [[ -f "$egress" && -x "$egress" ]] || fail "egress-bin $egress is not an executable file"
else
  version=$(awk -F'"' '/^version = / { print $2; exit }' "$project/Cargo.toml")
  release egress "$version"
  egress=$found
  if [[ -z "$egress" ]]; then
    command -v cargo > /dev/null ||
      fail "no release of egress $version for $machine is listed in dist/egress.sha256, and there is no cargo to build it; name a binary with egress-bin"
    echo "egress: no release $version for $machine is listed in dist/egress.sha256, so the step builds egress from source; this takes minutes"
    echo '::group::egress: building from source'
    (cd "$project" && cargo xtask build --release) > "${RUNNER_TEMP:-/tmp}/egress-build.$$" ||
      { echo '::endgroup::'; fail "no release of egress $version for $machine is listed in dist/egress.sha256, and it cannot be built from source; name a binary with egress-bin"; }
    echo '::endgroup::'
    egress=$(tail -n 1 "${RUNNER_TEMP:-/tmp}/egress-build.$$")
  fi
fi

if [[ "$task" == run && "$INPUT_MEDIATOR" == pipelock && "${INPUT_MODE:-}" != audit ]]; then
  if [[ -n "$INPUT_PIPELOCK_VERSION" ]]; then
    have_table pipelock
    listed=$(row pipelock "$INPUT_PIPELOCK_VERSION")
    [[ -n "$listed" ]] ||
      fail "no sha256 of Pipelock $INPUT_PIPELOCK_VERSION for $machine is listed in dist/pipelock.sha256; name a binary with pipelock-bin, and leave pipelock-version out"
    if [[ -n "$INPUT_PIPELOCK_BIN" ]]; then
      [[ -f "$INPUT_PIPELOCK_BIN" ]] || fail "pipelock-bin $INPUT_PIPELOCK_BIN is not a file"
      have_sha256 "$INPUT_PIPELOCK_BIN" "${listed%% *}" ||
        fail "pipelock-bin $INPUT_PIPELOCK_BIN is not Pipelock $INPUT_PIPELOCK_VERSION: its sha256 is not the one that dist/pipelock.sha256 lists; nothing was run"
    else
      release pipelock "$INPUT_PIPELOCK_VERSION"
      INPUT_PIPELOCK_BIN=$found
    fi
  elif [[ -z "$INPUT_PIPELOCK_BIN" ]]; then
    INPUT_PIPELOCK_BIN=$(command -v pipelock) ||
      fail "there is no pipelock on PATH; name one with pipelock-bin or pipelock-version, or set mediator: builtin"
  fi
  export INPUT_PIPELOCK_BIN
fi
exec "$egress" action "$task"
