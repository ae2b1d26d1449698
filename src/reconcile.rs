//! What runs on a timer and on a signal, takes no input and may run at any time: it looks at how things are and brings
//! them to how they should be. Calls only the service.

pub mod disk;
pub mod drift;
pub mod firewall;
pub mod idle;
pub mod sight;
pub mod touch;
