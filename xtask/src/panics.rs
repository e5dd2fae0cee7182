//! Takes what panics say out of the client.
//!
//! The client's panic handler traps: no browser shows a panic's message. Yet each place that may panic hands its message and
//! its line over, and the functions in between know how to print them: 3 % of the download. They become traps themselves,
//! and wasm-opt removes what was only there for them.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use walrus::{FunctionBuilder, FunctionId, FunctionKind, ModuleConfig};

/// Parts of the mangled names of functions that never return: all of `core::panicking`, and those that only call it.
const DIVERGING: [&str; 8] = [
    "4core9panicking",
    "slice_index_fail",
    "13expect_failed",
    "13unwrap_failed",
    "13assert_failed",
    "17len_mismatch_fail",
    "7raw_vec12handle_error",
    "5alloc18handle_alloc_error",
];

/// The module at `compiled` with traps in place of all that prepares a panic.
pub(crate) fn become_traps(compiled: &Path) -> Result<Vec<u8>> {
    let mut config = ModuleConfig::new();
    config.generate_producers_section(false);
    let mut module = config
        .parse_file(compiled)
        .with_context(|| format!("{} is no WASM that walrus understands", compiled.display()))?;
    let found: Vec<FunctionId> = module
        .funcs
        .iter()
        .filter(|function| matches!(function.kind, FunctionKind::Local(_)))
        .filter(|function| function.name.as_ref().is_some_and(|name| DIVERGING.iter().any(|part| name.contains(part))))
        .map(walrus::Function::id)
        .collect();
    ensure!(
        found.len() > 3,
        "the client's functions have other names than expected: does rustc mangle them in another way?"
    );
    for id in found {
        let signature = module.types.get(module.funcs.get(id).ty());
        let (params, results) = (signature.params().to_vec(), signature.results().to_vec());
        let mut trap = FunctionBuilder::new(&mut module.types, &params, &results);
        trap.func_body().unreachable();
        let arguments = params.iter().map(|param| module.locals.add(*param)).collect();
        module.funcs.get_mut(id).kind = FunctionKind::Local(trap.local_func(arguments));
    }
    Ok(module.emit_wasm())
}
