//! Catching what a subject does: an error or a panic is an answer, too.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::error::Result;

thread_local! {
    /// Whether this thread asks a subject, so that its panic is an answer and not a message.
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

/// The answer, or why there is none: the error's text, or the panic's.
pub fn ask<T>(question: impl FnOnce() -> Result<T>) -> std::result::Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !ASKING.get() {
                before(panic);
            }
        }));
    });
    let asking = ASKING.replace(true);
    // A subject that has panicked is asked again, with other rows: it keeps nothing between calls that could be torn.
    let answer = catch_unwind(AssertUnwindSafe(question));
    ASKING.set(asking);
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("error: {}", error.to_string().lines().next().unwrap_or_default())),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Err(format!("panic: {}", text.lines().next().unwrap_or_default()))
        }
    }
}
