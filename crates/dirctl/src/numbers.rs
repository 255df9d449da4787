//! Numbers of flags: what is none is told together with what may be written. Flags that take them also set
//! `allow_negative_numbers`, or a minus would be taken for a flag of its own.

/// From 0 to 2³²-1.
pub(crate) fn short(text: &str) -> Result<u32, String> {
    whole(text, u32::MAX.into())
}

/// From 0 to 2⁶⁴-1.
pub(crate) fn long(text: &str) -> Result<u64, String> {
    whole(text, u64::MAX)
}

fn whole<T: TryFrom<u64>>(text: &str, max: u64) -> Result<T, String> {
    let number = text.parse::<u64>().ok().and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("write a whole number from 0 to {max}"))
}

#[cfg(test)]
mod tests {
    use crate::cli::Cli;
    use clap::{Arg, Command, CommandFactory};
    use std::any::TypeId;
    use std::ffi::OsStr;

    /// What clap says to a value of this flag, if the flag is of a number.
    fn told(command: &Command, arg: &Arg, value: &str) -> Option<String> {
        let parser = arg.get_value_parser();
        let numbers = [TypeId::of::<u32>(), TypeId::of::<u64>(), TypeId::of::<usize>(), TypeId::of::<i64>()];
        if !numbers.iter().any(|number| parser.type_id() == *number) {
            return None;
        }
        let one = Command::new("one").arg(arg.clone());
        let flag = format!("--{}", arg.get_long().expect("numbers are given by flags"));
        let refused = one.try_get_matches_from([OsStr::new("one"), flag.as_ref(), value.as_ref()]);
        Some(refused.err().map_or_else(|| format!("{}: taken", command.get_name()), |e| e.to_string()))
    }

    fn all(command: &Command, seen: &mut usize) {
        for arg in command.get_arguments() {
            for value in ["-1", "abc", "1.5", "99999999999999999999"] {
                let Some(told) = told(command, arg, value) else { continue };
                let expected = format!("invalid value '{value}' for '--");
                assert!(told.contains(&expected) && told.contains("whole number from 0 to"), "{told}");
                *seen += 1;
            }
        }
        command.get_subcommands().for_each(|below| all(below, seen));
    }

    #[test]
    fn every_number_says_what_it_may_be() {
        let mut seen = 0;
        all(&Cli::command(), &mut seen);
        assert!(seen >= 3 * 4, "limit, offset and since at least");
        assert_eq!((super::short("4294967295"), super::long("0")), (Ok(u32::MAX), Ok(0)));
    }
}
