//! The sample file, made of the settings' own documentation.

use super::{ALL, Shown, kebab};

/// A file with every setting, its meaning and its default; those without a default are commented out, with an example.
#[must_use]
pub fn sample() -> String {
    let mut text = String::from(
        "# Settings of headwater-signal, read with --config FILE. Each can also be given on the command line (--listen) and in\n\
         # the environment (HEADWATER_SIGNAL_LISTEN), lists there separated by commas. The command line wins over the\n\
         # environment, and that over this file. What is set below is the default; what is commented out has none.\n",
    );
    for (name, doc, shown) in ALL {
        text.push('\n');
        for line in *doc {
            text.push_str(&format!("#{line}\n"));
        }
        let name = kebab(name);
        text.push_str(&match shown {
            Shown::Default(value) => format!("{name} = {value}\n"),
            Shown::Example(value) => format!("# {name} = {value}\n"),
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Args as _;

    use super::*;
    use crate::settings::Settings;

    const FILE: &str = include_str!("../../headwater-signal.toml");

    #[test]
    fn the_sample_file_is_what_the_program_says() {
        assert_eq!(FILE, sample(), "write it anew: headwater-signal --sample > signaling-server/headwater-signal.toml");
    }

    #[test]
    fn the_sample_file_sets_the_defaults_and_its_examples_are_read() {
        assert_eq!(Settings::parse(Path::new("sample"), FILE).unwrap(), Settings::defaults().unwrap());
        let names: Vec<String> = ALL.iter().map(|(name, ..)| kebab(name)).collect();
        let all = FILE.lines().map(|line| {
            let uncommented = line.strip_prefix("# ").unwrap_or(line);
            let is_setting =
                uncommented.split_once(" = ").is_some_and(|(name, _)| names.iter().any(|known| known == name));
            format!("{}\n", if is_setting { uncommented } else { line })
        });
        let all = Settings::parse(Path::new("sample"), &all.collect::<String>()).unwrap();
        let all = format!("{all:?}");
        for (name, ..) in ALL {
            assert!(!all.contains(&format!(" {name}: None")), "{name} is not in the sample");
        }
    }

    #[test]
    fn names_are_the_same_on_the_command_line_and_in_the_environment() {
        let command = Settings::augment_args(clap::Command::new("test"));
        let arguments: Vec<_> = command.get_arguments().collect();
        assert_eq!(arguments.len(), ALL.len());
        for ((name, ..), argument) in ALL.iter().zip(arguments) {
            assert_eq!(argument.get_long().unwrap(), kebab(name));
            // What stands there may be a secret, or a URL with one.
            assert!(argument.is_hide_env_values_set(), "{name}");
            assert_eq!(
                argument.get_env().unwrap().to_str().unwrap(),
                format!("HEADWATER_SIGNAL_{}", name.to_uppercase())
            );
        }
    }

    #[test]
    fn unknown_names_and_wrong_values_are_refused_with_their_place() {
        let parse = |text: &str| Settings::parse(Path::new("a.toml"), text).unwrap_err().to_string();
        for (text, said) in [
            ("lisen = \"127.0.0.1:1\"", "lisen"),
            ("listen = \"nowhere\"", "listen"),
            ("stun = [\"http://x\"]", "stun:HOST"),
            ("tracker = 1", "tracker"),
            ("max-swarms = -1", "max-swarms"),
        ] {
            let error = parse(text);
            assert!(error.contains("a.toml") && error.contains(said), "{error}");
        }
    }
}
