#!/usr/bin/env bash
# Runs an example agent behind the boundary, verifies its packet, and shows that `egress verify` rejects a changed copy.
# Usage, as root: demo.sh EGRESS DIRECTORY
#
# No packet leaves the machine, because the demo runs in two network namespaces. One is the runner, and the other
# contains the servers of internet.py. Both end with this script.
set -euo pipefail

if [ $# -ne 2 ]; then
  echo "usage: demo.sh EGRESS DIRECTORY" >&2
  exit 64
fi
here=$(dirname "$(realpath "$0")")
egress=$(realpath "$1")
mkdir -p "$2"
directory=$(realpath "$2")

if [ -z "${EGRESS_DEMO_RUNNER:-}" ]; then
  exec unshare --net --mount env EGRESS_DEMO_RUNNER=1 "$here/demo.sh" "$egress" "$directory"
fi

heading() {
  printf '\n== %s\n' "$1"
}

# The runner has one interface, which leads to the servers, and a file with their name server.
coproc internet { exec unshare --net --kill-child python3 "$here/internet.py" 198.51.100.10 198.51.100.20; }
servers=$internet_PID
# The user who started this script with sudo can remove the files.
trap 'chown -hR "${SUDO_UID:-0}:${SUDO_GID:-0}" "$directory"; kill "$servers"' EXIT
read -r -u "${internet[0]}" _started
ip link add eth0 type veth peer name eth0 netns "$servers"
ip -batch - <<'IP'
link set lo up
addr add 203.0.113.2/24 dev eth0
link set eth0 up
route add default via 203.0.113.1
IP
nsenter --target "$servers" --net ip -batch - <<'IP'
link set lo up
addr add 203.0.113.1/24 dev eth0
link set eth0 up
route add local 198.51.100.0/24 dev lo
IP
echo ready >&"${internet[1]}"
read -r -u "${internet[0]}" _serving
resolver=$directory/resolv.conf
echo "nameserver 203.0.113.1" >"$resolver"
mount --bind "$resolver" "$(realpath /etc/resolv.conf)"

work=$directory/work
mkdir -p "$work"
cp "$here/agent.sh" "$work"
cat >"$directory/policy.yaml" <<'POLICY'
mode: strict
api_allowlist:
  - allowed.test
POLICY
for key in signer boundary; do
  # The directory may be in a git work tree, where `egress keygen` writes a private key only with --in-workspace.
  "$egress" keygen --force --in-workspace --out "$directory/$key.key" >"$directory/keygen.log"
done

heading "the agent, without a boundary"
(cd "$work" && bash agent.sh)

heading "the policy"
cat "$directory/policy.yaml"
heading "the agent, behind the boundary"
cd "$work"
"$egress" run --config "$directory/policy.yaml" --packet-dir "$directory/packet" \
  --signer-private-key "$directory/signer.key" --boundary-key "$directory/boundary.key" \
  --script agent.sh 2>"$directory/run.log"
heading "egress run reports"
cat "$directory/run.log"

verify() {
  "$egress" verify "$1" --key "$directory/signer.key.pub" --boundary-key "$directory/boundary.key.pub" \
    --require-grade kernel_enforced
}
heading "egress verify, with both public keys"
verify "$directory/packet"

heading "egress verify, on a copy in which evidence.jsonl names benign.test instead of denied.test"
changed=$directory/changed
rm -rf "$changed"
cp -r "$directory/packet" "$changed"
sed -i 's/denied\.test/benign.test/g' "$changed/evidence.jsonl"
if cmp --silent "$directory/packet/evidence.jsonl" "$changed/evidence.jsonl"; then
  echo "evidence.jsonl does not name the denied destination" >&2
  exit 1
fi
status=0
verify "$changed" >"$directory/changed.log" || status=$?
grep -E '^(verdict|error):' "$directory/changed.log" | uniq
if [ "$status" -ne 1 ]; then
  echo "egress verify exited with $status instead of 1, so it did not reject the changed packet" >&2
  exit 1
fi
echo "(exit status 1)"

cat <<END

packet:      $directory/packet
report:      $directory/packet/report.html
public keys: $directory/signer.key.pub (receipts)
             $directory/boundary.key.pub (boundary)
END
