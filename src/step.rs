//! Steps: the points between which a server may be killed. Tests end it at each of them and look at what is left; in
//! a release build they are nothing.

/// A point that an operation has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A create with an idempotency key is recorded.
    CreateBegun,
    /// Its ports and address are claimed.
    CreateClaimed,
    /// The engine has made the container.
    CreateMade,
    /// The keys are in it.
    CreateKeysPut,
    /// It runs.
    CreateStarted,
    /// It is known here, and written down.
    CreateTakenUp,
    /// An order to stop is written down.
    StopOrdered,
    /// Its processes are halted, so that nothing happens any more while it is looked at for the last time.
    StopHalted,
    /// The engine has carried it out.
    StopDone,
    /// An order to freeze is written down.
    FreezeOrdered,
    /// The engine has carried it out.
    FreezeDone,
    /// The engine lets a frozen container go on.
    ThawDone,
    /// The engine has started a container that was down.
    StartDone,
    /// The engine has started one for a connection.
    WakeStarted,
    /// It accepts the connection.
    WakeReady,
    /// The connection is being carried.
    WakeCarried,
    /// That a container is to be removed is written down.
    RemoveOrdered,
    /// The engine has removed it.
    RemoveDone,
    /// So are the volumes that were to go with it.
    RemoveVolumesDone,
    /// Its record is gone.
    RemoveForgotten,
    /// Its ports and address are free.
    RemoveReleased,
    /// The engine has made the container that is to take another's place.
    ResetMade,
    /// The keys are in it.
    ResetKeysPut,
    /// The old one is down.
    ResetOldStopped,
    /// The new one runs.
    ResetStarted,
    /// It is known here, and written down.
    ResetTakenUp,
    /// The old one is removed.
    ResetOldRemoved,
    /// The new one has its name.
    ResetRenamed,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 28] = [
        Self::CreateBegun,
        Self::CreateClaimed,
        Self::CreateMade,
        Self::CreateKeysPut,
        Self::CreateStarted,
        Self::CreateTakenUp,
        Self::StopOrdered,
        Self::StopHalted,
        Self::StopDone,
        Self::FreezeOrdered,
        Self::FreezeDone,
        Self::ThawDone,
        Self::StartDone,
        Self::WakeStarted,
        Self::WakeReady,
        Self::WakeCarried,
        Self::RemoveOrdered,
        Self::RemoveDone,
        Self::RemoveVolumesDone,
        Self::RemoveForgotten,
        Self::RemoveReleased,
        Self::ResetMade,
        Self::ResetKeysPut,
        Self::ResetOldStopped,
        Self::ResetStarted,
        Self::ResetTakenUp,
        Self::ResetOldRemoved,
        Self::ResetRenamed,
    ];

    /// Its name, for `FAILPOINTS`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateBegun => "create-begun",
            Self::CreateClaimed => "create-claimed",
            Self::CreateMade => "create-made",
            Self::CreateKeysPut => "create-keys-put",
            Self::CreateStarted => "create-started",
            Self::CreateTakenUp => "create-taken-up",
            Self::StopOrdered => "stop-ordered",
            Self::StopHalted => "stop-halted",
            Self::StopDone => "stop-done",
            Self::FreezeOrdered => "freeze-ordered",
            Self::FreezeDone => "freeze-done",
            Self::ThawDone => "thaw-done",
            Self::StartDone => "start-done",
            Self::WakeStarted => "wake-started",
            Self::WakeReady => "wake-ready",
            Self::WakeCarried => "wake-carried",
            Self::RemoveOrdered => "remove-ordered",
            Self::RemoveDone => "remove-done",
            Self::RemoveVolumesDone => "remove-volumes-done",
            Self::RemoveForgotten => "remove-forgotten",
            Self::RemoveReleased => "remove-released",
            Self::ResetMade => "reset-made",
            Self::ResetKeysPut => "reset-keys-put",
            Self::ResetOldStopped => "reset-old-stopped",
            Self::ResetStarted => "reset-started",
            Self::ResetTakenUp => "reset-taken-up",
            Self::ResetOldRemoved => "reset-old-removed",
            Self::ResetRenamed => "reset-renamed",
        }
    }
}

/// Notes that `step` is done. With `FAILPOINTS=<step>=return` the server ends here as `kill -9` would end it: nothing
/// is tidied up, nothing is written.
pub(crate) fn passed(step: Step) {
    // Without the feature the macro is empty.
    let _ = step;
    fail::fail_point!(step.as_str(), |_| std::process::abort());
}
