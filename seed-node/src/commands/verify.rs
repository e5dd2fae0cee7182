//! `headwater-seed verify`: a stream against the catalogue beside it.

use headwater_seed::http::Http;
use headwater_seed::key::{KeyError, parse_public};
use headwater_seed::progress::Progress;
use headwater_seed::sign::check::check;
use headwater_wire::SwarmName;

use super::snippet::public_text;
use super::{CommandError, say};
use crate::VerifyArgs;

pub(crate) async fn verify(args: VerifyArgs) -> Result<(), CommandError> {
    let texts = args.key.iter().map(|key| public_text(key)).collect::<Result<Vec<_>, _>>()?;
    let keys = texts.iter().map(|text| parse_public(text)).collect::<Result<Vec<_>, KeyError>>()?;
    let swarm = match args.swarm {
        Some(name) => SwarmName::new(name)?,
        None => SwarmName::derive(args.url.as_str(), texts.first().map(String::as_str))?,
    };
    let progress = Progress::new("segments");
    let checked = check(&Http::new()?, &args.url, &keys, &swarm, &progress).await?;
    drop(progress);
    for fault in &checked.faults {
        eprintln!("headwater-seed: {fault}");
    }
    say(&format!("{}: {} segments are as they were signed", args.url, checked.good))?;
    match checked.faults.len() {
        0 => Ok(()),
        count => Err(CommandError::Faults(count)),
    }
}
