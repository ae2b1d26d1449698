//! The promises, tested over a simulated engine and a clock that goes as fast as it is told to.

mod create;
mod disk;
mod door;
mod event;
mod idle;
mod image;
mod ladder;
mod probe;
mod promise;
mod recovery;
mod reset;
mod scale;
mod servers;
mod week;
