//! A time stamp authority: OpenSSL, with keys and certificates that each test creates.
#![expect(
    clippy::disallowed_methods,
    reason = "test tools may start programs directly"
)]
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Required extensions of a time stamp authority's certificate.
pub const TIME_STAMPING: &str =
    "keyUsage=critical,digitalSignature\nextendedKeyUsage=critical,timeStamping";
/// Required extensions of a root certificate.
pub const ROOT: &str = "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign";

/// Reads an HTTP request to an authority. Returns the head of the request in lower case, and the body, which is the
/// query.
///
/// # Errors
/// Fails if the client closes the connection.
pub fn request(stream: &mut impl Read) -> io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut query = vec![0; length.and_then(|text| text.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut query)?;
    Ok((head, query))
}

/// A directory with the keys and certificates of an authority and its signers.
#[derive(Debug)]
pub struct Authority(PathBuf);

impl Authority {
    /// Creates the certificate `root` of the authority and the certificate `signer`, both with P-256 keys.
    pub fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let authority = Self(dir.to_owned());
        authority.certificate("root", "P-256", ROOT, None);
        authority.certificate("signer", "P-256", TIME_STAMPING, Some("root"));
        authority
    }

    /// Returns the path of the PEM file with the certificate `name`.
    pub fn pem(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.pem"))
    }

    fn key(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.key"))
    }

    /// Generates a key (`P-256`, `P-384` or `RSA`) and its certificate, which is valid for ten days.
    pub fn certificate(&self, name: &str, kind: &str, extensions: &str, issuer: Option<&str>) {
        self.certificate_for("10", name, kind, extensions, issuer);
    }

    /// Generates a key and its certificate, which is valid for `days` days.
    pub fn certificate_for(
        &self,
        days: &str,
        name: &str,
        kind: &str,
        extensions: &str,
        issuer: Option<&str>,
    ) {
        let key = self.key(name);
        let mut generate = openssl(&["genpkey", "-quiet", "-out"]);
        generate.arg(&key);
        match kind {
            "RSA" => generate.args(["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
            curve => generate
                .args(["-algorithm", "EC", "-pkeyopt"])
                .arg(format!("ec_paramgen_curve:{curve}")),
        };
        done(&mut generate);
        let config = self.0.join(format!("{name}.cnf"));
        let text = format!(
            "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nO=Test\nCN={name}\n[ext]\nsubjectKeyIdentifier=hash\n{extensions}\n"
        );
        fs::write(&config, text).unwrap();
        let mut request = openssl(&["req", "-new", "-x509", "-days", days, "-extensions", "ext"]);
        request
            .arg("-config")
            .arg(&config)
            .arg("-key")
            .arg(&key)
            .arg("-out")
            .arg(self.pem(name));
        if let Some(issuer) = issuer {
            request
                .arg("-CA")
                .arg(self.pem(issuer))
                .arg("-CAkey")
                .arg(self.key(issuer));
        }
        done(&mut request);
    }

    /// Answers a request with `openssl ts`. `settings` are lines for the configuration of OpenSSL.
    pub fn answer(&self, query: &[u8], signer: &str, digest: &str, settings: &str) -> Vec<u8> {
        let [request, reply, config] =
            ["query.tsq", "reply.tsr", "ts.cnf"].map(|name| self.0.join(name));
        let serial = self.0.join("serial");
        fs::write(&serial, "2A\n").unwrap();
        let serial = serial.display();
        let text = format!(
            "[tsa]\nserial={serial}\ndefault_policy=1.2.3.4\ndigests=sha256\naccuracy=secs:1,millisecs:5\n{settings}\n"
        );
        fs::write(&config, text).unwrap();
        fs::write(&request, query).unwrap();
        let mut command = openssl(&["ts", "-reply", "-section", "tsa"]);
        command.arg(format!("-{digest}"));
        command
            .arg("-config")
            .arg(&config)
            .arg("-queryfile")
            .arg(&request)
            .arg("-out")
            .arg(&reply);
        command
            .arg("-signer")
            .arg(self.pem(signer))
            .arg("-inkey")
            .arg(self.key(signer));
        command.arg("-chain").arg(self.pem("root"));
        done(&mut command);
        fs::read(reply).unwrap()
    }

    /// Returns a reply with `token`, signed with the certificate of `signer`, whatever the purpose of this certificate
    /// is. `options` are passed to `openssl cms`.
    pub fn sign(&self, token: &[u8], signer: &str, options: &[&str]) -> Vec<u8> {
        let [content, signed] = ["content", "signed"].map(|name| self.0.join(name));
        fs::write(&content, token).unwrap();
        let mut command = openssl(&[
            "cms",
            "-sign",
            "-binary",
            "-nodetach",
            "-outform",
            "DER",
            "-nosmimecap",
        ]);
        command
            .args(["-econtent_type", "1.2.840.113549.1.9.16.1.4"])
            .args(options);
        command.arg("-in").arg(&content).arg("-out").arg(&signed);
        command
            .arg("-signer")
            .arg(self.pem(signer))
            .arg("-inkey")
            .arg(self.key(signer));
        done(&mut command);
        granted(&fs::read(signed).unwrap())
    }

    /// Returns whether OpenSSL accepts a reply over the file `data`.
    pub fn openssl_accepts(&self, data: &Path, reply: &Path, root: &str) -> bool {
        let mut command = openssl(&["ts", "-verify", "-data"]);
        command
            .arg(data)
            .arg("-in")
            .arg(reply)
            .arg("-CAfile")
            .arg(self.pem(root));
        command.output().unwrap().status.success()
    }
}

/// Returns one DER value with this tag, made of `parts`.
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let length = match body.len() {
        0..0x80 => length[3..].to_vec(),
        0x80..0x100 => [&[0x81], &length[3..]].concat(),
        0x100..0x1_0000 => [&[0x82], &length[2..]].concat(),
        _ => [&[0x83], &length[1..]].concat(),
    };
    [&[tag], length.as_slice(), body.as_slice()].concat()
}

/// Returns a reply that grants `token`, which is a `ContentInfo`.
pub fn granted(token: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&tlv(0x30, &[&[2, 1, 0]]), token])
}

/// Returns a `TSTInfo` over a SHA-256 digest, with a time in the form `YYYYMMDDhhmmssZ`.
pub fn token(digest: &[u8], time: &str, nonce: &[u8]) -> Vec<u8> {
    let sha256: &[u8] = &[0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0];
    let imprint = tlv(0x30, &[sha256, &tlv(4, &[digest])]);
    let parts: [&[u8]; 6] = [
        &[2, 1, 1],
        &[6, 3, 0x2a, 3, 4],
        &imprint,
        &[2, 1, 7],
        &tlv(0x18, &[time.as_bytes()]),
        &tlv(2, &[nonce]),
    ];
    tlv(0x30, &parts)
}

fn openssl(arguments: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(arguments);
    command
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
}
