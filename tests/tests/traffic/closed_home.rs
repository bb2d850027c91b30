//! Clients of a user whose home has mode 0750 and who starts egress with `sudo`. Each client works without the
//! boundary, and then behind it as `docs/clients.md` states.
#![expect(
    clippy::expect_used,
    reason = "a test whose files cannot be made has failed"
)]
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use egress_tests::clients::{CRATE, SETTINGS, publish_packages, trust_browser};
use egress_tests::closed_home::{ClosedHome, UID};
use egress_tests::{Run, RunOutput, World, installed};

/// A client, its task, and the expected result.
#[derive(Debug)]
struct Client<'a> {
    /// Row of the client in `docs/clients.md`.
    row: &'a str,
    files: &'a [(&'a str, &'a str)],
    script: &'a str,
    prints: &'a str,
    /// Script of the user in the same directory, after the client has ended. The script prints the same text.
    after: &'a str,
}

impl Client<'_> {
    /// Runs the client without the boundary, and then behind it. After each, the user uses the result. Returns the run
    /// and its directory.
    fn check<'a>(
        &self,
        home: &ClosedHome<'a>,
        options: impl FnOnce(Run<'a>) -> Run<'a>,
    ) -> (RunOutput, PathBuf) {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/clients.md");
        let docs = fs::read_to_string(docs).expect("read docs/clients.md");
        assert!(
            docs.contains(self.row),
            "not in docs/clients.md: {}",
            self.row
        );
        let script = format!("set -e\n{SETTINGS}\n{}", self.script);
        let control = home.project("control", self.files);
        let without = home.shell(&control, &script);
        assert!(without.success(), "without a boundary: {without}");
        assert_eq!(without.stdout, self.prints, "without a boundary: {without}");

        let project = home.project("project", self.files);
        let run = options(home.sudo(&project));
        let run = run.command(["bash", "-c", &script]).run();
        assert_eq!(run.status, Some(0), "{run}");
        assert_eq!(run.stdout, self.prints, "{run}");
        run.assert_flow(&[
            ("source", "relay"),
            ("host", "allowed.test"),
            ("verdict", "forwarded"),
        ]);
        for directory in [&control, &project] {
            let after = home.shell(directory, &format!("set -e\n{}", self.after));
            assert_eq!(
                after.stdout,
                self.prints,
                "{}: {after}",
                directory.display()
            );
        }
        (run, project)
    }
}

/// Allows the world's package server.
fn packages(run: Run<'_>) -> Run<'_> {
    run.allow(&["allowed.test"])
}

#[test]
fn git_clones_by_the_smart_protocol() {
    let world = World::new();
    publish_packages(&world);
    let home = ClosedHome::new(&world);
    let secret = home
        .project("private", &[("secret", "canary")])
        .join("secret");
    let (_, project) = Client {
        row: "| git | clone over `https://`, smart protocol | none | The user owns the clone and pulls into it. |",
        files: &[],
        script: "git clone -q https://allowed.test/git/repository.git clone && cat clone/greeting",
        prints: "hello\n",
        after: "git -C clone pull -q && git -C clone status --porcelain && cat clone/greeting",
    }
    .check(&home, packages);
    let packs = world.requests();
    let packs = packs.iter().filter(|request| {
        request.method == "POST" && request.target == "/git/repository.git/git-upload-pack"
    });
    assert!(packs.count() >= 2, "{:?}", world.requests());
    let clone = project
        .join("clone/.git/config")
        .metadata()
        .expect("the clone");
    assert_eq!(clone.uid(), UID);

    // The home is closed to the command.
    let read = format!("cat {}", secret.display());
    assert_eq!(home.shell(&project, &read).stdout, "canary");
    let run = packages(home.sudo(&project));
    let run = run.command(["bash", "-c", &read]).run();
    assert_eq!(run.stdout, "", "{run}");
    assert_ne!(run.status, Some(0), "{run}");
}

#[test]
fn pip_installs_into_a_venv_that_the_user_keeps() {
    let world = World::new();
    publish_packages(&world);
    let home = ClosedHome::new(&world);
    let (_, project) = Client {
        row: "| pip | install into a venv | none | The user's Python in the venv imports the package. |",
        files: &[],
        script: "python3 -m venv venv
            venv/bin/pip install -q --disable-pip-version-check \\
                --index-url https://allowed.test/files/simple/ hello-egress
            venv/bin/python -c 'import hello_egress'",
        prints: "hello\n",
        after: "venv/bin/python -c 'import hello_egress'",
    }
    .check(&home, packages);
    let python = project
        .join("venv/bin/python3")
        .symlink_metadata()
        .expect("the venv");
    assert!(python.is_symlink());
    assert_eq!(python.uid(), UID);
}

const NPM: Client<'_> = Client {
    row: "| npm | install from a registry | `--cache DIR`, for a second run without downloads | The user starts the installed program. |",
    files: &[(
        "package.json",
        r#"{ "name": "user", "version": "1.0.0", "dependencies": { "hello-egress": "^1" } }"#,
    )],
    script: "npm install --silent --no-audit --no-fund --no-update-notifier \\
                --registry https://allowed.test/files/npm/
            node_modules/.bin/hello-egress",
    prints: "hello\n",
    after: "node_modules/.bin/hello-egress",
};

#[test]
fn npm_installs_programs_and_uses_its_cache() {
    let world = World::new();
    publish_packages(&world);
    let home = ClosedHome::new(&world);
    let downloads = || {
        let requests = world.requests();
        let package = "/files/npm-files/hello-egress-1.0.0.tgz";
        requests
            .iter()
            .filter(|request| request.target == package)
            .count()
    };
    let (_, project) = NPM.check(&home, packages);
    assert_eq!(downloads(), 2);
    let again = |cache: bool| {
        let removed = home.shell(&project, "rm -r node_modules package-lock.json");
        assert!(removed.success(), "{removed}");
        let mut run = packages(home.sudo(&project));
        if cache {
            run = run.arg("--cache").arg(home.path().join("cache"));
        }
        let run = run.command(["bash", "-c", &format!("{SETTINGS}\n{}", NPM.script)]);
        let run = run.run();
        assert_eq!(run.stdout, NPM.prints, "{run}");
        downloads()
    };
    // Without a cache, each run downloads the package.
    assert_eq!(again(false), 3);
    assert_eq!(again(true), 4);
    assert_eq!(again(true), 4);
    let files = home.path().join("cache/files/npm/_cacache");
    assert_eq!(files.metadata().expect("the cache").uid(), UID);
}

#[test]
fn cargo_builds_with_the_toolchain_of_the_home() {
    let world = World::new();
    publish_packages(&world);
    let home = ClosedHome::new(&world);
    for name in ["cargo", "rustc"] {
        let program = installed(name).expect("cargo is required");
        let toolchain = format!(".rustup/toolchains/stable/bin/{name}");
        home.link(&toolchain, &program);
        home.link(&format!(".cargo/bin/{name}"), &home.path().join(toolchain));
    }
    let bin = home.path().join(".cargo/bin");
    let mut files = CRATE.to_vec();
    files.push((
        "src/main.rs",
        "fn main() { println!(\"{}\", hello_egress::hello()); }\n",
    ));
    let script = format!(
        "export PATH={bin}:$PATH
        test $(command -v cargo) = {bin}/cargo
        test $(command -v rustc) = {bin}/rustc
        cargo run -q",
        bin = bin.display()
    );
    let (run, _) = Client {
        row: "| cargo | build with a dependency from a sparse registry | none | The user starts the built program. |",
        files: &files,
        script: &script,
        prints: "hello\n",
        after: "target/debug/user",
    }
    .check(&home, packages);
    let shown = run.json("boundary.json")["view"]["home_tools"].clone();
    let shown: Vec<PathBuf> = serde_json::from_value(shown).expect("the list of directories");
    assert_eq!(shown, [bin, home.path().join(".rustup")]);
}

/// Creates a module and the files of a proxy (`go help goproxy`).
const MODULE: &str = r#"
import json, os, sys, zipfile
at = os.path.join(sys.argv[1], "goproxy/hello.test/greet/@v")
os.makedirs(at)
module = "module hello.test/greet\n\ngo 1.18\n"
open(f"{at}/list", "w").write("v1.0.0\n")
open(f"{at}/v1.0.0.mod", "w").write(module)
open(f"{at}/v1.0.0.info", "w").write(json.dumps({"Version": "v1.0.0", "Time": "2026-01-01T00:00:00Z"}))
with zipfile.ZipFile(f"{at}/v1.0.0.zip", "w") as z:
    z.writestr("hello.test/greet@v1.0.0/go.mod", module)
    z.writestr("hello.test/greet@v1.0.0/greet.go", "package greet\n\nconst Hello = \"hello\"\n")
"#;

#[test]
fn go_fetches_a_module_from_a_proxy() {
    let world = World::new();
    let files = world.files();
    let made = world.runner([
        "python3".as_ref(),
        "-c".as_ref(),
        MODULE.as_ref(),
        files.as_os_str(),
    ]);
    assert!(made.success(), "{made}");
    let home = ClosedHome::new(&world);
    let script = format!(
        "export GOPROXY=https://allowed.test/files/goproxy GOSUMDB=off GOTOOLCHAIN=local GOFLAGS=-mod=mod CGO_ENABLED=0
        {go} build && ./user 2>&1",
        go = installed("go").expect("go is required").display()
    );
    Client {
        row: "| Go | build with a module from a proxy | none | The user starts the built program. |",
        files: &[
            ("go.mod", "module user\n\ngo 1.18\n\nrequire hello.test/greet v1.0.0\n"),
            (
                "main.go",
                "package main\n\nimport \"hello.test/greet\"\n\nfunc main() { println(greet.Hello) }\n",
            ),
        ],
        script: &script,
        prints: "hello\n",
        after: "./user 2>&1",
    }
    .check(&home, packages);
}

#[test]
fn chromium_runs_the_script_of_a_page() {
    let world = World::new();
    trust_browser(&world);
    let page = world.files().join("page");
    fs::create_dir(&page).expect("make a directory");
    let text = "<!DOCTYPE html><html><body><script>fetch('/').then(answer => answer.text())
        .then(text => { document.body.textContent = text.toUpperCase() })</script></body></html>";
    fs::write(page.join("index.html"), text).expect("write a page");
    let home = ClosedHome::new(&world);
    installed("chromium").expect("chromium is required");
    Client {
        row: "| Chromium, headless | page with a script, with `--no-sandbox` | none | The user has the saved page. |",
        files: &[],
        script: "chromium --headless --no-sandbox --disable-gpu --user-data-dir=$(mktemp -d) \\
                --virtual-time-budget=10000 --dump-dom https://allowed.test/files/page/ > page.html
            grep -o 'HELLO FROM ALLOWED.TEST' page.html",
        prints: "HELLO FROM ALLOWED.TEST\n",
        after: "grep -o 'HELLO FROM ALLOWED.TEST' page.html",
    }
    .check(&home, packages);
}

/// Creates a repository with a dependency and a plugin. The plugin copies the file in the dependency, which Maven has
/// to resolve first. Maven 3.8 adds the named library of the Plexus project to every plugin.
const REPOSITORY: &str = r#"set -e
publish() {
    at=$files/maven/$(echo "$1" | tr . /)/$2/$3 && mkdir -p "$at" && cp "$5" "$at/$2-$3.jar"
    echo "<project><modelVersion>4.0.0</modelVersion><groupId>$1</groupId><artifactId>$2</artifactId>
        <version>$3</version><packaging>$4</packaging></project>" > "$at/$2-$3.pom"
    for file in "$at"/*.jar "$at"/*.pom; do sha1sum "$file" | cut -c-40 > "$file.sha1"; done
}
mkdir -p build/META-INF/maven build/hello && cd build
echo hello > greeting && jar -c -f ../greet.jar greeting && rm greeting
cat > hello/Say.java << 'E'
package hello;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.jar.JarFile;
public class Say extends org.apache.maven.plugin.AbstractMojo {
    private org.apache.maven.project.MavenProject project;
    public void execute() throws org.apache.maven.plugin.MojoExecutionException {
        try {
            JarFile jar = new JarFile(project.getArtifacts().iterator().next().getFile());
            Files.write(Path.of("greeting"), jar.getInputStream(jar.getEntry("greeting")).readAllBytes());
        } catch (java.io.IOException error) {
            throw new org.apache.maven.plugin.MojoExecutionException(error.toString());
        }
    }
}
E
cat > META-INF/maven/plugin.xml << 'E'
<plugin><groupId>test.hello</groupId><artifactId>say-maven-plugin</artifactId><version>1.0</version>
<goalPrefix>say</goalPrefix><mojos><mojo><goal>say</goal><implementation>hello.Say</implementation><language>java</language>
<instantiationStrategy>per-lookup</instantiationStrategy>
<requiresDependencyResolution>compile</requiresDependencyResolution><requiresProject>true</requiresProject>
<parameters><parameter><name>project</name><type>org.apache.maven.project.MavenProject</type></parameter></parameters>
<configuration><project implementation="org.apache.maven.project.MavenProject" default-value="${project}"/></configuration>
</mojo></mojos></plugin>
E
lib=$(dirname "$(readlink -f "$(command -v mvn)")")/../lib
javac --release 11 -cp "$lib/*" hello/Say.java && jar -c -f ../say.jar hello/Say.class META-INF
cd .. && publish test.hello greet 1.0 jar greet.jar && publish test.hello say-maven-plugin 1.0 maven-plugin say.jar
publish org.codehaus.plexus plexus-utils 1.1 jar greet.jar
"#;

#[test]
fn maven_resolves_a_plugin_and_a_dependency() {
    installed("mvn").expect("mvn is required");
    let world = World::new();
    let made = world.shell(&format!("files={}\n{REPOSITORY}", world.files().display()));
    assert!(made.success(), "{made}");
    let home = ClosedHome::new(&world);
    Client {
        row: "| Maven | build with a plugin and a dependency from a repository | none | The user has the file that the build wrote. |",
        files: &[
            (
                "pom.xml",
                "<project><modelVersion>4.0.0</modelVersion><groupId>user</groupId><artifactId>user</artifactId>
                <version>1</version><packaging>pom</packaging><dependencies><dependency><groupId>test.hello</groupId>
                <artifactId>greet</artifactId><version>1.0</version></dependency></dependencies></project>",
            ),
            (
                "settings.xml",
                "<settings><mirrors><mirror><id>world</id><mirrorOf>*</mirrorOf>
                <url>https://allowed.test/files/maven</url></mirror></mirrors></settings>",
            ),
        ],
        script: "keytool -importcert -noprompt -alias world -file authority.pem -keystore trust.p12 -storepass changeit 2> log
            export MAVEN_OPTS=\"-Djavax.net.ssl.trustStore=$PWD/trust.p12 -Djavax.net.ssl.trustStorePassword=changeit\"
            mvn -q -B -s settings.xml test.hello:say-maven-plugin:1.0:say >&2
            cat greeting",
        prints: "hello\n",
        after: "cat greeting",
    }
    .check(&home, packages);
}
