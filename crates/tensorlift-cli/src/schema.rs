//! The forms of what commands print for programs: JSON schemas, committed in `schemas/`.
//!
//! They are made from the types that are printed, by the test below; a form that has changed fails
//! it until `cargo xtask schemas --bless` writes the files again.

use std::io::{self, Write};

use clap::Args;

use crate::failure::Failure;

/// The version of the forms. Fields may be added within one; for all else it is raised, and the
/// schemas' identifiers with it.
const VERSION: u32 = 1;

/// A form that is printed.
struct Form {
    name: &'static str,
    /// What prints it.
    printed_by: &'static str,
    /// The committed schema.
    schema: &'static str,
}

macro_rules! form {
    ($name:literal, $printed_by:literal) => {
        Form {
            name: $name,
            printed_by: $printed_by,
            schema: include_str!(concat!("../schemas/", $name, ".json")),
        }
    };
}

/// All forms but the one of `inspect --state --json`, which is the file's own.
const FORMS: [Form; 14] = [
    form!("inspect", "inspect --json: a line for each tensor"),
    form!("inspect-summary", "inspect --summary --json"),
    form!("load", "load --json: the report"),
    form!(
        "load-explain",
        "load --explain --json: a line before the report"
    ),
    form!("plan", "plan --json"),
    form!("plan-device-map", "plan --device-map auto --json"),
    form!("convert", "convert --json"),
    form!("verify", "verify --json: a line for each file"),
    form!("manifest", "manifest"),
    form!("diff", "diff --json"),
    form!("bench", "bench --json: each line"),
    form!("doctor", "doctor --json: a line for each finding"),
    form!(
        "error",
        "every command with --json that fails: the last line"
    ),
    form!("status", "every command: its exit status"),
];

#[derive(Args)]
pub(crate) struct ShowSchema {
    /// Which; without a name, all are listed
    #[arg(value_parser = FORMS.map(|form| form.name))]
    name: Option<String>,
}

impl ShowSchema {
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        let named = |form: &&Form| Some(form.name) == self.name.as_deref();
        match FORMS.iter().find(named) {
            Some(form) => Ok(out.write_all(form.schema.as_bytes())?),
            None => Ok(list(out)?),
        }
    }
}

fn list(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "version {VERSION}; `tensorlift schema NAME` prints one"
    )?;
    let mut forms = FORMS.iter();
    forms.try_for_each(|form| writeln!(out, "{:<16} {}", form.name, form.printed_by))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use schemars::generate::SchemaSettings;
    use schemars::{JsonSchema, Schema, json_schema};
    use tensorlift::trust::{CheckedFile, Manifest};
    use tensorlift::{DeviceMap, LoadReport, Plan};

    use super::*;
    use crate::failure::STATUSES;
    use crate::{bench, convert, diff, doctor, failure, inspect, load};

    /// If this variable is set, the schemas are written in place of compared.
    const BLESS: &str = "TENSORLIFT_BLESS";

    fn of<T: JsonSchema>() -> Schema {
        let settings = SchemaSettings::draft2020_12().for_serialize();
        settings.into_generator().into_root_schema_for::<T>()
    }

    fn of_status() -> Schema {
        let statuses = STATUSES
            .map(|(code, means)| serde_json::json!({ "const": code, "description": means }));
        json_schema!({ "oneOf": statuses })
    }

    fn made() -> BTreeMap<&'static str, Schema> {
        BTreeMap::from([
            ("inspect", of::<inspect::Line<'_>>()),
            ("inspect-summary", of::<inspect::Summary<'_>>()),
            ("load", of::<LoadReport>()),
            ("load-explain", of::<load::Explanation>()),
            ("plan", of::<Plan>()),
            ("plan-device-map", of::<DeviceMap>()),
            ("convert", of::<convert::Written<'_>>()),
            ("verify", of::<CheckedFile>()),
            ("manifest", of::<Manifest>()),
            ("diff", of::<diff::Difference>()),
            ("bench", of::<bench::Line<'_>>()),
            ("doctor", of::<doctor::Finding>()),
            ("error", of::<failure::Failed<'_>>()),
            ("status", of_status()),
        ])
    }

    #[test]
    fn the_committed_schemas_are_those_of_what_is_printed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        let mut made = made();
        let mut differing = Vec::new();
        for form in &FORMS {
            let mut schema = made.remove(form.name).expect(form.name);
            schema.insert(
                "$id".into(),
                format!("urn:tensorlift:{}:{VERSION}", form.name).into(),
            );
            schema.insert(
                "title".into(),
                format!("tensorlift {}", form.printed_by).into(),
            );
            let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
            if std::env::var_os(BLESS).is_some() {
                std::fs::write(folder.join(form.name).with_extension("json"), &text).unwrap();
            } else if text != form.schema {
                differing.push(form.name);
            }
        }
        assert!(made.is_empty(), "not listed: {:?}", made.keys());
        assert!(
            differing.is_empty(),
            "printed in another form than schemas/ says: {differing:?}; fields may be added, and \
             `cargo xtask schemas --bless` writes the schemas again; for all else, raise VERSION"
        );
    }

    #[test]
    fn every_schema_file_belongs_to_a_form() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        for file in std::fs::read_dir(folder).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            let is_its_own = |form: &Form| format!("{}.json", form.name) == name;
            assert!(FORMS.iter().any(is_its_own), "{name}");
        }
    }
}
