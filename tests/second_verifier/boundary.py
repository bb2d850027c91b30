"""`boundary.json`: form, probes, programs, and the hash of the kernel programs (format/boundary.md, checks.md)."""

from __future__ import annotations

from typing import Any

import crypto
import schema
import strictjson
from errors import Findings, FormError
from schema import array, boolean, nullable, obj, port, string, unsigned, unsigned32

REQUIRED_PROBES = frozenset("""
    raw_socket_ipv4 raw_socket_ipv6 packet_socket vsock_socket alg_socket xdp_socket other_families
    netlink_beyond_route network_change mptcp_socket sctp_socket dccp_socket udplite_socket icmp_socket
    udp_sendto udp_sendmsg udp_connected udp_ipv6 dns_udp dns_tcp dns_tls direct_tcp_ipv4 direct_tcp_ipv6
    direct_tcp_mapped direct_tcp_fast_open direct_tcp_ssh metadata_ipv4 metadata_ipv6
    interface_other_than_lo route io_uring bpf perf_event_open userfaultfd keyctl syscall_32bit
    syscall_x32 user_namespace enter_namespace mount_file_system become_root setuid_file file_capability
    sudo ptrace_init memory_init ptrace_supervisor memory_supervisor ptrace_mediator memory_mediator
    ptrace_relay memory_relay leave_cgroup inherited_descriptors docker_socket podman_socket
    containerd_socket buildkit_socket dbus_socket systemd_socket resolved_socket journal_socket
    nscd_socket snapd_socket ssh_agent_socket gpg_agent_socket host_path_sockets host_fifo abstract_socket
    sysv_shared_memory posix_shared_memory signing_key_read signing_key_write config_read config_write
    evidence_read evidence_write packet_read packet_write runner_command_files runner_tokens sys_write
    proc_sys_write cgroupfs tracefs dmesg device_nodes terminal_input
""".split())

REQUIRED_PROGRAMS = frozenset("""
    agent_connect4 agent_connect6 agent_getpeername4 agent_getpeername6 agent_sendmsg4 agent_sendmsg6
    agent_skb_egress agent_sock_create agent_sockops mediator_connect4 mediator_connect6 mediator_sendmsg4
    mediator_sendmsg6 mediator_skb_egress mediator_skb_ingress mediator_sock_create mediator_sockops
    relay_connect4 relay_connect6 relay_sendmsg4 relay_sendmsg6 relay_sock_create relay_sockops
""".split())

_COUNTS = schema.mapping(unsigned)
_TEXTS = array(string)


def _open(**members: schema.Check) -> schema.Check:
    """Accept an object whose members have these types. Each may be absent, and others are ignored."""
    return obj({f"{name}?": check for name, check in members.items()}, is_open=True)


def _all(**members: schema.Check) -> schema.Check:
    """Accept an object that has at least these members."""
    return obj(members, is_open=True)


_ATTEMPTS = array(_all(
    count=unsigned,
    attempt=_all(destination=string, port=port, protocol=string, reason=string, process=string),
))
_THROUGH = _open(
    requests=unsigned, bytes_up=unsigned, bytes_down=unsigned, target_bytes=unsigned, head_bytes=unsigned,
)
_LIMIT = _open(most=unsigned, reached=nullable(_open(held_by=string, times=nullable(unsigned))))
_PIPELOCK = _open(
    given=string, binary_sha256=nullable(string), version=nullable(string), roots_sha256=nullable(string),
    posture=nullable(string), raised=_TEXTS, redact=boolean, left_out=_TEXTS,
    notices=array(_open(key=string, effect=string)), allowed=array(unsigned), killed=boolean, notes=_TEXTS,
)
_MEDIATORS = {
    "builtin": obj({"kind": string, "posture?": string}, is_open=True),
    "pipelock": obj({"kind": string, "plain_http?": string, "pipelock?": _PIPELOCK}, is_open=True),
}


def _mediator(value: object, where: str) -> None:
    """Accept a mediator: the members depend on its kind."""
    _all(kind=string)(value, where)
    assert isinstance(value, dict)
    _MEDIATORS.get(value["kind"], schema.anything)(value, where)


_FORM = obj({
    "programs": obj({
        "attached": array(_all(name=string, id=unsigned32, tag=string, attach_type=unsigned32)),
        "links": array(obj(
            {"id": unsigned32, "program_id": unsigned32, "attach_type?": unsigned32, "cgroup_id?": unsigned},
            is_open=True,
        )),
        "object_sha256?": string,
        "unavailable?": array(_open(name=string, why=string)),
    }, is_open=True),
    "seccomp": obj({"agent_sha256": string, "relay_sha256?": string}, is_open=True),
    "probes": obj({
        "results": array(obj({
            "name": string, "outcome": string, "detail": string, "control?": _open(succeeded=boolean, detail=string),
        }, is_open=True)),
        "counts?": _all(denied=unsigned, reachable=unsigned, not_applicable=unsigned, control_failed=unsigned),
        "accepted_risks?": _TEXTS,
        "seen_by_hooks?": unsigned,
    }, is_open=True),
    "flows": obj({
        "sha256": string, "head": string, "rows": unsigned, "by_relay_verdict?": _COUNTS,
        "by_verdict?": _COUNTS, "names?": unsigned,
    }, is_open=True),
    "incomplete": _TEXTS,
    "schema_version?": string,
    "run_id?": string,
    "mode?": string,
    "egress?": _open(version=string, binary_sha256=string),
    "kernel?": _open(release=string, version=string, machine=string),
    "agent?": _open(user=string, uid=unsigned, enforced=_open(
        uid=unsigned, capabilities=unsigned, no_new_privs=boolean, seccomp_mode=unsigned, seccomp_filters=unsigned,
    )),
    "users?": obj({f"pipelock-{name}?": unsigned for name in ("agent", "host", "relay")}, is_open=True),
    "namespaces?": _TEXTS,
    "ipv6?": boolean,
    "dns?": string,
    "allowed_ports?": array(port),
    "workspace?": _open(
        mode=string, path=string, protected=_TEXTS, protected_by_default=_TEXTS, allowed_changes=_TEXTS,
        changes=nullable(_all(applied=unsigned, refused=unsigned, conflicts=unsigned, discarded=unsigned)),
        recovered=array(_open(
            workspace=string, completed=boolean, applied=unsigned, refused=unsigned, kept=nullable(string),
        )),
    ),
    "allowed_unix?": array(_open(path=string, as_owner=boolean)),
    "view?": _open(
        left_out=array(_open(path=string, why=string)), masked=_TEXTS, home_tools=_TEXTS, cache=nullable(string),
    ),
    "environment?": _open(passed=_TEXTS, dropped=_TEXTS, set=_TEXTS),
    "tls_interception?": nullable(_open(certificate_sha256=string, files=_TEXTS)),
    "limits?": _open(
        processes=_LIMIT, memory=_LIMIT, open_files=_open(most=unsigned, held_by=string),
        scratch=_open(most=unsigned, full_at_the_end=_TEXTS), evidence=_open(most=unsigned),
        shares=_open(files=unsigned, sockets=unsigned, tcp_bytes=unsigned, processes=unsigned),
        seconds=_open(most=nullable(unsigned), reached=boolean),
    ),
    "credentials?": _open(
        hidden=array(_open(path=string, keys=_TEXTS)), shown=_TEXTS, searched_whole_workspace=boolean,
    ),
    "command_files?": array(_open(name=string, bytes=unsigned, sha256=nullable(string), keys=_TEXTS)),
    "output?": _open(guarded=boolean, stop_commands=boolean, bytes=unsigned, defused=unsigned),
    "inherited_descriptors?": _TEXTS,
    "policy?": _open(config=nullable(string), sha256=string, overridden=_TEXTS),
    "mediator?": _mediator,
    "counters?": _open(
        ring_full=unsigned, internal=unsigned, skb_dropped=unsigned, relay_denied=unsigned, caller_refused=unsigned,
        mediator_denied=unsigned, slots_written=unsigned, closes_expected=unsigned, closes_seen=unsigned,
    ),
    "residual_channels?": _open(
        allowed_hosts=schema.mapping(_THROUGH), other_hosts=_THROUGH, blocked=_THROUGH, names=unsigned,
        name_bytes=unsigned,
    ),
    "attestation?": _open(key=string, pinned=boolean),
    "allowed?": array(_all(host=string, port=port, count=unsigned)),
    "allowed_left_out?": unsigned,
    "answered?": _ATTEMPTS,
    "answered_left_out?": unsigned,
    "denied?": _ATTEMPTS,
    "denied_left_out?": unsigned,
    "notices?": _TEXTS,
    "packet_directory?": string,
    "timeline?": array(_open(step=string, at_us=unsigned)),
}, is_open=True)


_OF_IPV6 = {"udp_ipv6", "direct_tcp_ipv6", "metadata_ipv6"}


def _program_order(program: dict[str, Any]) -> tuple[bytes, int, bytes]:
    return program["name"].encode("utf-8"), program["attach_type"], program["tag"].encode("utf-8")


class Boundary:
    """A boundary document that has the required form."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.results: list[dict[str, Any]] = document["probes"]["results"]
        self.programs: list[dict[str, Any]] = document["programs"]["attached"]
        self.links = {link["id"] for link in document["programs"]["links"]}
        self.incomplete: list[str] = document["incomplete"]

    def section(self, name: str) -> dict[str, Any]:
        """Return an object of the document, empty if it is absent."""
        return self.document.get(name) or {}

    @property
    def is_audit(self) -> bool:
        """Whether nothing was enforced."""
        return self.document.get("mode") == "audit"

    @property
    def uid(self) -> int:
        """User id of the command."""
        return self.section("agent").get("uid", 0)

    @property
    def mediator_kind(self) -> str:
        """The kind of the mediator."""
        return self.section("mediator").get("kind", "")

    def holds(self, *names: str) -> bool:
        """Whether each of these probes was denied and its control succeeded."""
        denied = {
            result["name"] for result in self.results
            if result["outcome"] == "denied" and result.get("control", {}).get("succeeded") is True
        }
        return denied.issuperset(names)

    def rule_hash(self) -> str:
        """Return the hash of the kernel programs."""
        programs = [
            {name: program[name] for name in ("attach_type", "name", "tag")}
            for program in sorted(self.programs, key=_program_order)
        ]
        rules = {"programs": programs, "seccomp_sha256": self.document["seccomp"]["agent_sha256"], "version": 1}
        return crypto.sha256(strictjson.canonical(rules))


def read_boundary(data: bytes, findings: Findings) -> Boundary | None:
    """Parse the document; return it if it has the required form."""
    try:
        document = strictjson.parse_bytes(data)
        _FORM(document, "boundary.json")
    except FormError as error:
        findings.error("boundary.form", str(error))
        return None
    return Boundary(document)


def _is_open(result: dict[str, Any]) -> bool:
    """Whether a probe fails to show that its way out of the boundary is closed."""
    is_control_ok = result.get("control", {}).get("succeeded") is True
    if result["outcome"] == "denied":
        return not is_control_ok
    return result["outcome"] != "not_applicable" or not result["detail"] or is_control_ok


def observed_caps(boundary: Boundary) -> list[str]:
    """Return the conditions K4 to K10 that cap the grade."""
    caps = [f"the probe {r['name'][:80]!r} is open" for r in boundary.results if _is_open(r)]
    missing_probes = REQUIRED_PROBES - {result["name"] for result in boundary.results}
    if missing_probes:
        caps.append(f"{len(missing_probes)} required probes are missing")
    if any(result["name"] not in REQUIRED_PROBES for result in boundary.results):
        caps.append("a probe does not exist")
    applicable = {"bpf"} | (_OF_IPV6 if boundary.document.get("ipv6", False) else set())
    if any(result["name"] in applicable and result["outcome"] == "not_applicable" for result in boundary.results):
        caps.append("a probe is stated as not applicable, and applies")
    if boundary.document["probes"].get("accepted_risks"):
        caps.append("the caller accepted risks")
    if REQUIRED_PROGRAMS - {program["name"] for program in boundary.programs}:
        caps.append("a required kernel program is missing")
    enforced = boundary.section("agent").get("enforced") or {}
    is_enforced = (
        enforced.get("uid", 0) != 0
        and enforced.get("capabilities", 0) == 0
        and enforced.get("no_new_privs", False)
        and enforced.get("seccomp_mode", 0) == 2
        and enforced.get("seccomp_filters", 0) >= 1
    )
    if not is_enforced:
        caps.append("the command's first process lacked a restriction")
    counters = boundary.section("counters")
    if counters.get("internal", 0) or counters.get("skb_dropped", 0):
        caps.append("the kernel programs failed or dropped network packets")
    if boundary.incomplete:
        caps.append("the record is not complete")
    return caps
