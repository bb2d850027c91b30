//! Tests ordinary clients behind the boundary. The clients are unmodified and not configured for a proxy.
use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::command::{Output, Running};
use crate::require::installed;
use crate::run::{Run, RunOutput};
use crate::world::World;

/// Variable with the directory of the tools that `cargo xtask setup` installs for the tests.
const TOOLS_VARIABLE: &str = "EGRESS_TOOLS";

/// Port of the gRPC server.
pub const GRPC_PORT: u16 = 50051;

/// One client: its name in the table, its task, and the command, which prints `hello`.
#[derive(Debug, Clone, Copy)]
struct Client {
    /// Name of the client in the table.
    name: &'static str,
    /// Task of the client in the table.
    does: &'static str,
    command: &'static str,
}

const fn client(name: &'static str, does: &'static str, command: &'static str) -> Client {
    Client {
        name,
        does,
        command,
    }
}

/// Returns all clients.
const CLIENTS: [Client; 20] = [
    client("curl", "`http://`", "curl -sSf http://allowed.test/"),
    client("curl", "`https://`", "curl -sSf https://allowed.test/"),
    client(
        "wget",
        "`https://`",
        "wget -qO- --ca-certificate=$SSL_CERT_FILE https://allowed.test/",
    ),
    client(
        "git",
        "clone over `https://`, static files",
        "git clone -q https://allowed.test/files/repository.git clone && cat clone/greeting",
    ),
    client(
        "git",
        "clone over `https://`, smart protocol",
        "git clone -q https://allowed.test/git/repository.git smart && cat smart/greeting",
    ),
    client("Python urllib", "`https://`", "python3 urllib_get.py"),
    client("Python requests", "`https://`", "python3 requests_get.py"),
    client("Python httpx", "`https://`", "python3 httpx_get.py"),
    client("Python aiohttp", "`https://`", "python3 aiohttp_get.py"),
    client("Node fetch", "`https://`", "node fetch.cjs"),
    client("Node https", "`https://`", "node https.cjs"),
    client("Node ws", "`ws://`", "node ws.cjs ws://allowed.test/ws"),
    client("Node ws", "`wss://`", "node ws.cjs wss://allowed.test/ws"),
    client(
        "npm",
        "install from a registry",
        "npm install --silent --no-audit --no-fund --no-update-notifier --registry https://allowed.test/files/npm/ hello-egress && node -p 'require(\"hello-egress\")'",
    ),
    client(
        "pip",
        "install from an index",
        "python3 -m pip install -q --no-cache-dir --disable-pip-version-check --target pip --index-url https://allowed.test/files/simple/ hello-egress && PYTHONPATH=pip python3 -c 'import hello_egress'",
    ),
    client(
        "cargo",
        "fetch from a sparse registry",
        "cd crate && CARGO_HOME=$PWD/home cargo fetch -q && cat home/registry/src/*/hello-egress-1.0.0/src/lib.rs",
    ),
    client("Go net/http", "`https://`", "./go_get"),
    client(
        "Java HttpClient",
        "`https://`",
        "java -Djavax.net.ssl.trustStore=trust.p12 -Djavax.net.ssl.trustStorePassword=changeit -cp . Get",
    ),
    client(
        "gRPC (Python)",
        "HTTP/2 in TLS, port 50051",
        "python3 grpc_call.py",
    ),
    client(
        "Chromium, headless",
        "`https://`, with `--no-sandbox`",
        "chromium --headless --no-sandbox --disable-gpu --user-data-dir=$PWD/chromium --dump-dom https://allowed.test/",
    ),
];

const FILES: [(&str, &str); 10] = [
    (
        "urllib_get.py",
        "import urllib.request\nprint(urllib.request.urlopen('https://allowed.test/').read().decode())\n",
    ),
    (
        "requests_get.py",
        "import requests\nprint(requests.get('https://allowed.test/').text)\n",
    ),
    (
        "httpx_get.py",
        "import httpx, os, ssl\nprint(httpx.get('https://allowed.test/', verify=ssl.create_default_context()).text)\n",
    ),
    (
        "aiohttp_get.py",
        "import aiohttp, asyncio\nasync def main():\n    async with aiohttp.ClientSession() as session:\n        async with session.get('https://allowed.test/') as answer:\n            print(await answer.text())\nasyncio.run(main())\n",
    ),
    (
        "fetch.cjs",
        "fetch('https://allowed.test/').then(r => r.text()).then(console.log)\n",
    ),
    (
        "https.cjs",
        "require('https').get('https://allowed.test/', r => r.pipe(process.stdout))\n",
    ),
    (
        "ws.cjs",
        "const ws = new (require('ws'))(process.argv[2])\nws.on('open', () => ws.send('hello'))\nws.on('message', m => { console.log(String(m)); ws.close() })\n",
    ),
    (
        "go_get.go",
        "package main\nimport (\"io\"; \"net/http\"; \"os\")\nfunc main() {\n    r, err := http.Get(\"https://allowed.test/\")\n    if err != nil { println(err.Error()); os.Exit(1) }\n    io.Copy(os.Stdout, r.Body)\n}\n",
    ),
    (
        "Get.java",
        "import java.net.URI;\nimport java.net.http.*;\npublic class Get {\n    public static void main(String[] words) throws Exception {\n        System.out.print(HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(\"https://allowed.test/\")).build(), HttpResponse.BodyHandlers.ofString()).body());\n    }\n}\n",
    ),
    (
        "grpc_call.py",
        "import grpc, os\nroots = open(os.environ['SSL_CERT_FILE'], 'rb').read()\nchannel = grpc.secure_channel('allowed.test:50051', grpc.ssl_channel_credentials(roots))\ncall = channel.unary_unary('/test.Echo/Say')\nprint(call(b'hello', timeout=20).decode())\n",
    ),
];

const GRPC_SERVER: &str = "import grpc, sys, concurrent.futures\n\
    class Echo(grpc.GenericRpcHandler):\n\
    \x20   def service(self, call):\n\
    \x20       return grpc.unary_unary_rpc_method_handler(lambda request, context: request)\n\
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))\n\
    server.add_generic_rpc_handlers((Echo(),))\n\
    certificate, key = (open(name, 'rb').read() for name in sys.argv[1:3])\n\
    server.add_secure_port('[::]:50051', grpc.ssl_server_credentials(((key, certificate),)))\n\
    server.start()\n\
    print('serving', flush=True)\n\
    server.wait_for_termination()\n";

/// Script of [`publish_packages`].
const PUBLISH: &str = r#"set -e
mkdir source && cd source && git init -q && echo hello > greeting && git add greeting
git -c user.name=a -c user.email=a@allowed.test commit -qm first && cd ..
git clone -q --bare source "$files/repository.git"
(cd "$files/repository.git" && git update-server-info)
python3 - "$files" <<'E'
import base64, hashlib, io, json, os, sys, tarfile, zipfile
files = sys.argv[1]
def tgz(root, content):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in content.items():
            info = tarfile.TarInfo(f"{root}/{name}")
            info.size, info.mode = len(text), 0o644
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()
def put(path, data):
    path = os.path.join(files, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "wb").write(data if isinstance(data, bytes) else data.encode())
name = "hello-egress"
package = {"name": name, "version": "1.0.0", "main": "index.js", "bin": {name: "bin.js"}}
tarball = tgz("package", {"package.json": json.dumps(package), "index.js": "module.exports = 'hello'\n",
    "bin.js": '#!/usr/bin/env node\nconsole.log(require("."))\n'})
package["dist"] = {"tarball": f"https://allowed.test/files/npm-files/{name}-1.0.0.tgz",
    "integrity": "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()}
put(f"npm-files/{name}-1.0.0.tgz", tarball)
put(f"npm/{name}", json.dumps({"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": package}}))
wheel = io.BytesIO()
info = "hello_egress-1.0.0.dist-info"
with zipfile.ZipFile(wheel, "w") as z:
    z.writestr("hello_egress.py", "print('hello')\n")
    z.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: hello-egress\nVersion: 1.0.0\n")
    z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    z.writestr(f"{info}/RECORD", f"hello_egress.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
file = "hello_egress-1.0.0-py3-none-any.whl"
put(f"simple/{name}/{file}", wheel.getvalue())
put(f"simple/{name}/index.html", f"<!DOCTYPE html><html><body><a href='{file}'>{file}</a></body></html>")
manifest = f"[package]\nname = '{name}'\nversion = '1.0.0'\nedition = '2021'\n"
crate = tgz(f"{name}-1.0.0", {"Cargo.toml": manifest, "src/lib.rs": "pub fn hello() -> &'static str { \"hello\" }\n"})
put(f"cargo/crates/{name}/1.0.0/download", crate)
put("cargo/config.json", json.dumps({"dl": "https://allowed.test/files/cargo/crates"}))
put(f"cargo/he/ll/{name}", json.dumps({"name": name, "vers": "1.0.0", "deps": [], "features": {},
    "cksum": hashlib.sha256(crate).hexdigest(), "yanked": False}) + "\n")
E
"#;

/// A cargo package that depends on a package of the world's registry.
pub const CRATE: [(&str, &str); 3] = [
    (
        "Cargo.toml",
        "[package]\nname = \"user\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\nhello-egress = { version = \"1\", registry = \"world\" }\n\n[workspace]\n",
    ),
    ("src/lib.rs", ""),
    (
        ".cargo/config.toml",
        "[registries.world]\nindex = \"sparse+https://allowed.test/files/cargo/\"\n",
    ),
];

/// Writes the servers' files: a repository, and packages for npm, pip, and cargo.
///
/// # Panics
/// Panics if a file cannot be written.
pub fn publish_packages(world: &World) {
    let made = world.shell(&format!("files={}\n{PUBLISH}", world.files().display()));
    assert!(made.success(), "{made}");
}

/// Puts the files for the clients on the servers. The gRPC server runs as long as the returned value exists.
///
/// # Panics
/// Panics if a file cannot be written, or the server cannot start.
fn publish(world: &World) -> Running {
    publish_packages(world);
    fs::write(world.dir().join("grpc_server.py"), GRPC_SERVER).expect("write the gRPC server");
    let [certificate, key] = world.certificate("allowed.test");
    let path = format!("PYTHONPATH={}", tools().join("python").display());
    let words: [&OsStr; 6] = [
        "env".as_ref(),
        path.as_ref(),
        "python3".as_ref(),
        "grpc_server.py".as_ref(),
        certificate.as_os_str(),
        key.as_os_str(),
    ];
    world.peer(words)
}

/// Copies the clients into a directory.
///
/// # Panics
/// Panics if a client cannot be built there.
fn install(world: &World, directory: &Path) {
    for (name, text) in FILES {
        fs::write(directory.join(name), text).expect("write a client");
    }
    for (name, text) in CRATE {
        let path = directory.join("crate").join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("make a crate");
        fs::write(path, text).expect("write a crate");
    }
    let built = patiently(world, &format!(
        "cd {} && cp -r {tools}/python {tools}/node/node_modules . && cp {} authority.pem &&
         GOCACHE={}/go-cache GOFLAGS=-mod=mod GOPROXY=off GOTOOLCHAIN=local CGO_ENABLED=0 {go} build go_get.go &&
         javac Get.java && keytool -importcert -noprompt -alias world -file authority.pem -keystore trust.p12 -storepass changeit",
        directory.display(),
        world.authority().display(),
        tools().display(),
        tools = tools().display(),
        go = installed("go").expect("go is required").display(),
    ));
    assert!(built.success(), "{built}");
}

/// Returns a script that runs every client and prints for each whether it succeeded.
fn script() -> String {
    let mut text = [SETTINGS, TRY].concat();
    for client in CLIENTS {
        let command = client.command.replace('\'', "'\\''");
        writeln!(text, "try '{command}'").expect("write to memory");
    }
    text
}

/// Makes the clients trust the certificate `authority.pem` of the working directory.
pub const SETTINGS: &str = r"
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy
export SSL_CERT_FILE=$PWD/authority.pem CURL_CA_BUNDLE=$PWD/authority.pem PIP_CERT=$PWD/authority.pem
export NODE_EXTRA_CA_CERTS=$PWD/authority.pem GIT_SSL_CAINFO=$PWD/authority.pem
export REQUESTS_CA_BUNDLE=$PWD/authority.pem CARGO_HTTP_CAINFO=$PWD/authority.pem PYTHONPATH=$PWD/python
";

const TRY: &str = r#"
try() {
    if timeout 60 bash -c "$1" > said 2> error < /dev/null && grep -q hello said; then
        echo works
    else
        echo refused
        echo "$1" >&2
        tail -n 8 error >&2
    fi
}
"#;

/// Runs a script on the runner with a long time limit.
fn patiently(world: &World, script: &str) -> Output {
    let words = ["bash", "-c", script];
    world.background(words).finish(Duration::from_mins(4))
}

/// A column of the table in `docs/clients.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The column of the built-in mediator.
    Builtin,
    /// The column of a real Pipelock.
    Pipelock,
}

/// Runs all clients, first without the boundary, where each of them must succeed, and then with it. The results with
/// the boundary form the column of the table in `docs/clients.md`.
///
/// # Panics
/// Panics if the table differs. A new table is then written to the directory of the clients.
pub fn check(world: &World, run: Run<'_>, column: Column) -> RunOutput {
    let server = publish(world);
    trust_browser(world);
    let control = world.dir().join("control");
    fs::create_dir(&control).expect("make a directory");
    install(world, &control);
    let started = world.dir().join("script");
    fs::write(&started, script()).expect("write the script");
    let control = patiently(
        world,
        &format!("cd {} && bash {}", control.display(), started.display()),
    );
    assert_eq!(
        control.stdout,
        "works\n".repeat(CLIENTS.len()),
        "without a boundary: {control}"
    );
    install(world, &run.directory());
    let output = run.script(&script()).run();
    server.signal(Signal::SIGKILL);
    server.finish(Duration::from_secs(10));

    let words: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(words.len(), CLIENTS.len(), "{output}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/clients.md");
    let text = fs::read_to_string(&path).expect("read docs/clients.md");
    let mut told = Vec::new();
    let mut rows = String::new();
    for (client, word) in CLIENTS.iter().zip(words) {
        let start = format!("| {} | {} |", client.name, client.does);
        let row = text.lines().find_map(|line| line.strip_prefix(&start));
        let cells: Vec<&str> = row.unwrap_or("?|?").split('|').map(str::trim).collect();
        let [builtin, pipelock] = [0, 1].map(|at| cells.get(at).copied().unwrap_or("?"));
        let (before, new) = match column {
            Column::Builtin => (builtin, [word, pipelock]),
            Column::Pipelock => (pipelock, [builtin, word]),
        };
        if before != word {
            told.push(format!("{start} {before} -> {word}"));
        }
        writeln!(rows, "{start} {} | {} |", new[0], new[1]).expect("write to memory");
    }
    let fresh = tools().join("clients.md");
    if !told.is_empty() {
        fs::write(&fresh, rows).expect("write the table");
    }
    assert!(
        told.is_empty(),
        "docs/clients.md is wrong; {} has the right table: {told:#?}\n{output}",
        fresh.display()
    );
    output
}

/// Installs a policy on the runner that makes Chromium trust the world's authority. Chromium does not read
/// certificate bundles.
///
/// # Panics
/// Panics if the policy cannot be installed.
pub fn trust_browser(world: &World) {
    let made = world.shell(&format!(
        "mount -t tmpfs tmpfs /etc/chromium && mkdir -p /etc/chromium/policies/managed &&
         der=$(openssl x509 -in {} -outform der | base64 -w0) &&
         echo \"{{\\\"CACertificates\\\": [\\\"$der\\\"]}}\" > /etc/chromium/policies/managed/world.json",
        world.authority().display()
    ));
    assert!(made.success(), "{made}");
}

fn tools() -> PathBuf {
    let tools = env::var_os(TOOLS_VARIABLE)
        .unwrap_or_else(|| panic!("{TOOLS_VARIABLE} is not set: use cargo xtask test"));
    PathBuf::from(tools).join("clients")
}
