//! Options of the command line that are settings of the library: one for each of its table.

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
        let options: Vec<String> = (self.given.iter())
            .map(|(switch, _)| format!("--{}", switch.name))
            .collect();
        let given = self.given.iter().zip(&options);
        let given = given.map(|((switch, value), option)| (switch.name, &**value, &**option));
        environment.with(given).map_err(Failure::Usage)
    }
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
