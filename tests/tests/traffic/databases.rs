//! `PostgreSQL` and Redis of a user with a closed home, through Unix sockets. `docs/clients.md` has a row for each.
#![expect(
    clippy::expect_used,
    reason = "a test whose servers cannot start has failed"
)]
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use egress_tests::closed_home::{ClosedHome, USER};
use egress_tests::{Output, Running, World, installed};
use nix::sys::signal::Signal;

/// Servers of the user, with their sockets in one directory of the home.
#[derive(Debug)]
struct Servers {
    postgres: Running,
    redis: Running,
    sockets: [PathBuf; 2],
}

impl Servers {
    /// Starts both servers without TCP ports. `password` is the password of the role `app`.
    fn start(home: &ClosedHome<'_>, password: &str) -> Self {
        let dir = home.project("servers", &[("password", password)]);
        let bin = postgres();
        let bin = bin.display();
        let at = dir.display();
        let made = home.shell(
            &dir,
            &format!(
                "set -e
                {bin}/initdb -D data -U app -A scram-sha-256 --pwfile password --no-sync > /dev/null
                printf 'local all app scram-sha-256\nlocal all {USER} peer\n' > data/pg_hba.conf"
            ),
        );
        assert!(made.success(), "{made}");
        let postgres = home.start([
            format!("{bin}/postgres"),
            format!("-D{at}/data"),
            "-clisten_addresses=".to_owned(),
            format!("-cunix_socket_directories={at}"),
            "-cfsync=off".to_owned(),
        ]);
        let redis = installed("redis-server").expect("redis-server is required");
        let redis = home.start([
            redis.display().to_string(),
            "--port".to_owned(),
            "0".to_owned(),
            "--unixsocket".to_owned(),
            format!("{at}/redis.sock"),
            "--dir".to_owned(),
            at.to_string(),
            "--save".to_owned(),
            String::new(),
        ]);
        let ready = home.shell(
            &dir,
            &format!(
                "export PGPASSWORD={password}
                for _ in $(seq 200); do
                    psql -h $PWD -U app -d postgres -qc 'create role \"{USER}\" login' 2> last \\
                        && redis-cli -s redis.sock ping > /dev/null && exit
                    sleep 0.1
                done; cat last >&2; exit 1"
            ),
        );
        assert!(ready.success(), "{ready}");
        Self {
            postgres,
            redis,
            sockets: [".s.PGSQL.5432", "redis.sock"].map(|name| dir.join(name)),
        }
    }

    /// Ends both servers.
    fn end(self) -> [Output; 2] {
        // SIGINT makes PostgreSQL disconnect its clients.
        [self.postgres, self.redis].map(|server| {
            server.signal(Signal::SIGINT);
            server.finish(Duration::from_secs(20))
        })
    }
}

/// Returns the directory of the newest `PostgreSQL` server from Debian's packages.
fn postgres() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("postgresql is required");
    let versions = versions.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let newest = versions.max_by_key(|version| version.parse::<u32>().unwrap_or(0));
    let newest = newest.expect("a version of postgresql");
    Path::new("/usr/lib/postgresql").join(newest).join("bin")
}

/// Returns a script that uses both servers, stores a value, and prints the answers from the servers that it can reach.
fn queries([postgres, redis]: &[PathBuf; 2], password: &str, value: &str) -> String {
    let dir = postgres.parent().expect("a directory").display();
    let redis = redis.display();
    format!(
        "export PGPASSWORD={password}
        psql -h {dir} -U app -d postgres -Atc 'select 6 * 7'
        psql -h {dir} -U {USER} -d postgres -Atc 'select current_user'
        for words in ping 'set name {value}' 'get name'; do redis-cli -s {redis} $words; done
        true"
    )
}

#[test]
fn postgresql_and_redis_answer_through_named_sockets_only() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/clients.md");
    let docs = fs::read_to_string(docs).expect("read docs/clients.md");
    for row in [
        "| psql | query of PostgreSQL | `--allow-unix SOCKET` | nothing |",
        "| redis-cli | commands of Redis | `--allow-unix SOCKET` | The user's server has the stored value. |",
    ] {
        assert!(docs.contains(row), "not in docs/clients.md: {row}");
    }
    let world = World::new();
    let home = ClosedHome::new(&world);
    let password = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("a password");
    let password = password.trim();
    let servers = Servers::start(&home, password);
    let project = home.project("project", &[]);
    let control = queries(&servers.sockets, password, "control");
    let control = home.shell(&project, &control);
    let answers = format!("42\n{USER}\nPONG\nOK\ncontrol\n");
    assert_eq!(control.stdout, answers, "{control}");

    let script = queries(&servers.sockets, password, "behind");
    let run = || home.sudo(&project).allow(&[]);
    let without = run().command(["bash", "-c", &script]).run();
    assert_eq!(without.status, Some(0), "{without}");
    for (socket, process) in servers.sockets.iter().zip(["psql", "redis-cli"]) {
        let socket = socket.to_str().expect("UTF-8");
        without.assert_flow(&[
            ("path", socket),
            ("process", process),
            ("verdict", "unreachable"),
        ]);
    }
    assert_eq!(without.stdout, "", "{without}");
    let with = servers
        .sockets
        .iter()
        .fold(run(), |run, socket| run.arg("--allow-unix").arg(socket));
    let with = with.command(["bash", "-c", &script]).run();
    // PostgreSQL receives the account of the command, which is not the user's.
    assert_eq!(with.stdout, "42\nPONG\nOK\nbehind\n", "{with}");
    assert!(with.stderr.contains("Peer authentication failed"), "{with}");
    for socket in &servers.sockets {
        let socket = socket.to_str().expect("UTF-8");
        with.assert_flow(&[("path", socket), ("verdict", "allowed_unix")]);
    }
    let redis = servers.sockets[1].display();
    let stored = home.shell(&project, &format!("redis-cli -s {redis} get name"));
    assert_eq!(stored.stdout, "behind\n", "{stored}");
    for server in servers.end() {
        assert!(server.success(), "{server}");
    }
}
