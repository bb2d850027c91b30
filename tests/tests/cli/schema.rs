//! The output of each subcommand with `--json` matches `docs/schema/output.schema.json`.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test whose output cannot be read has failed"
)]

use std::fs;
use std::path::Path;

use egress_tests::{Output, World};
use jsonschema::Validator;
use serde_json::Value;

fn schema() -> Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/output.schema.json");
    let schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

/// Parses the last line of standard output, and fails unless it matches the schema and has this version.
#[track_caller]
fn checked(schema: &Validator, version: &str, output: &Output) -> Value {
    let line = output.stdout.lines().last().unwrap_or_default();
    let value: Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {output}"));
    let variant: Vec<String> = schema
        .iter_errors(&value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(variant.is_empty(), "{variant:#?}: {output}");
    assert_eq!(value["schema_version"], version, "{output}");
    value
}

#[test]
fn output_of_each_subcommand_fits_the_schema() {
    let (world, schema) = (World::new(), schema());
    let key = world.dir().join("key");
    let key = key.to_str().unwrap();
    let made = world.tool(["keygen", "--json", "--out", key]);
    checked(&schema, "egress.keygen.v1", &made);

    let run = world
        .egress()
        .allow(&["allowed.test"])
        .signed_with(key.as_ref())
        .arg("--json")
        .script("curl -s http://allowed.test/; curl -s http://denied.test/; echo 1 >AGENTS.md; echo 2 >file")
        .run();
    let value = checked(&schema, "egress.run.v1", &run);
    assert_eq!(
        (
            &value["workspace"]["applied"],
            &value["workspace"]["refused"]
        ),
        (&1.into(), &1.into())
    );
    let missing = world
        .egress()
        .allow(&[])
        .arg("--json")
        .command(["/nowhere/agent"])
        .run();
    let value = checked(&schema, "egress.run.v1", &missing);
    assert!(value["error"].is_string(), "{missing}");
    let direct = world
        .egress()
        .arg("--json")
        .arg("--mode")
        .arg("audit")
        .arg("--workspace")
        .arg("direct")
        .script("curl -s http://allowed.test/; exit 3")
        .run();
    let value = checked(&schema, "egress.run.v1", &direct);
    assert_eq!(value["workspace"]["applied"], Value::Null, "{direct}");

    let packet = run.packet.to_str().unwrap();
    let suggested = world.tool(["policy", "suggest", "--json", packet]);
    checked(&schema, "egress.policy-suggest.v1", &suggested);
    let policy = world.dir().join("policy.yaml");
    fs::write(
        &policy,
        "mode: strict\napi_allowlist: [\"*.com\", localhost]\n",
    )
    .unwrap();
    let check = world.tool(["policy", "check", "--json", policy.to_str().unwrap()]);
    checked(&schema, "egress.policy-check.v1", &check);
    let workdir = run.workdir.to_str().unwrap();
    let doctor = world.tool(["doctor", "--json", "--workdir", workdir]);
    let value = checked(&schema, "egress.doctor.v1", &doctor);
    assert!(!value["probes"].as_array().unwrap().is_empty(), "{doctor}");

    for (status, args) in [
        (64, vec!["run", "--json", "--config", "/nowhere", "true"]),
        (64, vec!["keygen", "--json", "--out", key]),
        (2, vec!["keygen", "--json", "--out", "/nowhere/key"]),
        (64, vec!["doctor", "--json", "--workdir", "/nowhere"]),
        (2, vec!["policy", "suggest", "--json", "/nowhere"]),
    ] {
        let output = world.tool(&args);
        let value = checked(&schema, "egress.failure.v1", &output);
        assert_eq!(value["exit"], status, "{output}");
    }
    // The control: the schema rejects an unknown member, and a missing one.
    let mut value = checked(&schema, "egress.keygen.v1", &made);
    value["other"] = 1.into();
    assert!(!schema.is_valid(&value));
    let mut value = checked(&schema, "egress.run.v1", &run);
    value.as_object_mut().unwrap().remove("verdict");
    assert!(!schema.is_valid(&value));
}
