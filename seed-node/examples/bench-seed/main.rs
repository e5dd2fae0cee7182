//! What a seed's connections carry: `cargo xtask bench seed` runs this in release mode.
//!
//! `cargo run --release -p headwater-seed --example bench-seed -- [--seconds N] [--browser] [ROW …]`
//!
//! Rows: loopback, queues, loss, many, copies, first-chunk, idle, cycles; `queues:native` and the like for one kind of viewer.
//!
//! `HEADWATER_STACK=str0m`, with the feature of that name, measures the seed with that stack; native viewers keep the usual one.
//!
//! Prints a line a row, and all rows as JSON at the end.
#![allow(unreachable_pub, reason = "an example has no public API")]

mod kernel;
mod path;
mod rows;
mod run;
mod seed;
mod stream;
mod viewers;

use anyhow::Result;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == "seed") {
        let bind: Result<_, _> = arguments[1..].iter().map(|address| address.parse()).collect();
        return seed::run(bind?).await;
    }
    if let [command, port] = &arguments[..]
        && command == "listen"
    {
        return kernel::listen(port.parse()?);
    }
    let rows = rows::run(&arguments).await?;
    println!("{}", serde_json::to_string(&rows)?);
    Ok(())
}
