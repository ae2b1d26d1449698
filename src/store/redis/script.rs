//! The scripts: what has to happen in one step happens inside Redis. Each says in its own file what it takes.

use redis::Script;

/// All of them, with their digests computed.
pub(super) struct Scripts {
    pub(super) put: Script,
    pub(super) remove: Script,
    pub(super) merge: Script,
    pub(super) claim: Script,
    pub(super) release: Script,
    pub(super) replace: Script,
    pub(super) forget: Script,
    pub(super) export: Script,
    pub(super) import: Script,
    pub(super) take_out: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            put: Script::new(include_str!("put.lua")),
            remove: Script::new(include_str!("remove.lua")),
            merge: Script::new(include_str!("merge.lua")),
            claim: Script::new(include_str!("claim.lua")),
            release: Script::new(include_str!("release.lua")),
            replace: Script::new(include_str!("replace.lua")),
            forget: Script::new(include_str!("forget.lua")),
            export: Script::new(include_str!("export.lua")),
            import: Script::new(include_str!("import.lua")),
            take_out: Script::new(include_str!("take_out.lua")),
        }
    }
}
