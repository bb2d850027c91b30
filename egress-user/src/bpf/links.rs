//! Reads the kernel's information about the links that this process has open.
use std::io;

use serde::Serialize;

/// A program's link to a cgroup, as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Link {
    /// Id of the link.
    pub id: u32,
    /// Id of the program.
    pub program_id: u32,
    /// Number of the hook (`enum bpf_attach_type`).
    pub attach_type: u32,
    /// Id of the cgroup; 0 if the link was detached (`bpf_cgroup_link_show_fdinfo` in kernel/bpf/cgroup.c).
    pub cgroup_id: u64,
}

/// Returns the links to cgroups among this process's descriptors.
///
/// # Errors
/// Fails if the descriptors cannot be listed.
pub(super) fn held() -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fdinfo")? {
        // The list also contains the descriptor of the directory itself, which may be closed by the time its entry is
        // read.
        let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        links.extend(parse(&text));
    }
    links.sort_unstable();
    links.dedup();
    Ok(links)
}

fn parse(text: &str) -> Option<Link> {
    let field = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.trim())
    };
    Some(Link {
        id: field("link_id")?.parse().ok()?,
        program_id: field("prog_id")?.parse().ok()?,
        attach_type: field("attach_type")?.parse().ok()?,
        cgroup_id: field("cgroup_id")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_is_read_and_other_descriptors_are_not() {
        let text = "pos:\t0\nflags:\t02000000\nlink_type:\tcgroup\nlink_id:\t7\nprog_tag:\t0011223344556677\n\
                    prog_id:\t21\ncgroup_id:\t301\nattach_type:\t10\n";
        let link = Link {
            id: 7,
            program_id: 21,
            attach_type: 10,
            cgroup_id: 301,
        };
        assert_eq!(parse(text), Some(link));
        assert_eq!(parse("pos:\t0\nprog_type:\t9\nprog_id:\t21\n"), None);
    }
}
