//! Options of the command line that are settings of the library: one for each of its table.

use std::ffi::OsString;

use clap::error::Error as ClapError;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use tensorlift::settings::{SWITCHES, Settings, Switch};

use crate::failure::Failure;

/// The settings that a command takes: those of loads, or with `PLANS` those of plans alone.
pub(crate) struct SettingArgs<const PLANS: bool> {
    /// Those that were given: the switch and the value.
    given: Vec<(&'static Switch, String)>,
}

impl<const PLANS: bool> SettingArgs<PLANS> {
    /// The settings of the environment under those that were given.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        let environment = Settings::from_environment().map_err(Failure::Usage)?;
        for (name, near) in std::env::vars_os().filter_map(|(name, _)| misspelt(name)) {
            eprintln!("note: {name} is no setting and does nothing; {near} is one");
        }
        let options: Vec<String> = (self.given.iter())
            .map(|(switch, _)| format!("--{}", switch.name))
            .collect();
        let given = self.given.iter().zip(&options);
        let given = given.map(|((switch, value), option)| (switch.name, &**value, &**option));
        environment.with(given).map_err(Failure::Usage)
    }
}

/// A variable that is nearly the one of a setting, and that one.
fn misspelt(name: OsString) -> Option<(String, String)> {
    let name = name.into_string().ok()?;
    let mut variables = SWITCHES.iter().map(Switch::variable);
    if !name.starts_with("TENSORLIFT_") || variables.clone().any(|variable| variable == name) {
        return None;
    }
    let near = variables.find(|variable| strsim::damerau_levenshtein(variable, &name) <= 2)?;
    Some((name, near))
}

fn switches(plans_alone: bool) -> impl Iterator<Item = &'static Switch> {
    SWITCHES.iter().filter(move |it| it.plans || !plans_alone)
}

/// The option of a setting.
fn option(switch: &'static Switch) -> Arg {
    let help = format!("{} [env: {}]", switch.about, switch.variable());
    let option = Arg::new(switch.name)
        .long(switch.name)
        .value_name(switch.values)
        // So that they are refused as values, not as unknown options.
        .allow_negative_numbers(true)
        .help(help);
    match switch.values {
        // The value may be left out, and then does not take the argument after it.
        "true|false" => option
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        _ => option,
    }
}

impl<const PLANS: bool> Args for SettingArgs<PLANS> {
    fn augment_args(command: Command) -> Command {
        command.args(switches(PLANS).map(option))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const PLANS: bool> FromArgMatches for SettingArgs<PLANS> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, ClapError> {
        let given = switches(PLANS).filter_map(|switch| {
            let value = matches.get_one::<String>(switch.name)?;
            Some((switch, value.clone()))
        });
        Ok(Self {
            given: given.collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), ClapError> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_variable_is_told_from_others() {
        let near = |name: &str| misspelt(name.into()).map(|(_, near)| near);
        assert_eq!(near("TENSORLIFT_THREAD").unwrap(), "TENSORLIFT_THREADS");
        assert_eq!(near("TENSORLIFT_READRE").unwrap(), "TENSORLIFT_READER");
        for other in [
            "TENSORLIFT_THREADS",
            "TENSORLIFT_LOG",
            "TENSORLIFT_MEMORY",
            "TENSORLIFT_MMAP",
            "TENSORLIFT_PATCH",
            "THREADS",
        ] {
            assert_eq!(near(other), None, "{other}");
        }
    }
}
