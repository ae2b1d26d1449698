//! What connections are like: one that woke its container and so is carried, one to the same container that came later,
//! and one to a container of the engine's alone.

use crate::{
    door::{PAUSE, Pair, Place, WAKES},
    outside::Order,
    support::server::run,
    table::{Aim, Row, median},
};

const TURNS: usize = 12;
/// How much is taken, and how often one byte is asked for, in one turn.
const BYTES: u64 = 256 << 20;
const ASKED: usize = 1_000;
/// The same over a line.
const TURNS_OF_LINE: usize = 6;
const BYTES_OF_LINE: u64 = 32 << 20;
/// In the order in which their figures are kept.
const CONNECTIONS: [&str; 3] = ["ours", "later", "theirs"];

/// Each comes after each other equally often, for what was before is felt: the processor still knows it.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// What the turns over one connection took, in nanoseconds.
#[derive(Default)]
struct Turns {
    bytes: Vec<u64>,
    byte: Vec<u64>,
}

/// `pair` serves the echo.
pub async fn measure(place: &mut Place, pair: &Pair) -> Vec<Row> {
    place.asleep(pair).await;
    place.wake_ours(pair, WAKES + 1).await;
    place.wake_theirs(pair, WAKES + 1).await;
    settle(pair);
    // The kernel has been told by then that the port is not asleep any more.
    tokio::time::sleep(PAUSE).await;
    place.outside.connect("later", WAKES + 1, pair.port, pair.hello).await;
    let [carried, plain, theirs] = turns(place, TURNS, BYTES).await;
    place.outside.narrow();
    let [carried_on_line, _, theirs_on_line] = turns(place, TURNS_OF_LINE, BYTES_OF_LINE).await;
    let rate = |what, ours: &Turns, theirs: &Turns, bytes, aim| {
        let (ours, theirs) = (rate(ours, bytes), rate(theirs, bytes));
        Row::ratio(what, format!("{ours:.0} MiB/s"), format!("{theirs:.0} MiB/s"), ours / theirs, aim)
    };
    let byte = |what, ours: &Turns, theirs: &Turns, aim| {
        let (ours, theirs) = (median(&ours.byte) as f64 / 1e3, median(&theirs.byte) as f64 / 1e3);
        Row::ratio(what, format!("{ours:.1} us"), format!("{theirs:.1} us"), ours / theirs, aim)
    };
    vec![
        rate("published by us, bytes : by the engine alone", &plain, &theirs, BYTES, Aim::AtLeast(0.97)),
        byte("published by us, one byte and back : by the engine alone", &plain, &theirs, Aim::AtMost(1.03)),
        rate("carried, bytes : published by the engine alone", &carried, &theirs, BYTES, Aim::AtLeast(0.9)),
        byte("carried, one byte and back : published by the engine alone", &carried, &theirs, Aim::None),
        rate(
            "carried, bytes, 1 Gbit/s : published by the engine alone",
            &carried_on_line,
            &theirs_on_line,
            BYTES_OF_LINE,
            Aim::AtLeast(0.9),
        ),
    ]
}

/// Gives both applications a processor other than the client's. Left to itself the scheduler puts two that talk now on
/// one and now on two, and that makes more of a difference than anything between them.
fn settle(pair: &Pair) {
    if std::thread::available_parallelism().unwrap().get() > 1 {
        run("docker", &["update", "--cpuset-cpus", "1", &pair.id, &pair.their_id.to_string()]);
    }
}

/// Takes turns over all connections. The first turn warms up.
async fn turns(place: &mut Place, times: usize, bytes: u64) -> [Turns; 3] {
    let mut all: [Turns; 3] = Default::default();
    for number in 0..=times {
        for which in ORDERS[number % ORDERS.len()] {
            tokio::time::sleep(PAUSE / 5).await;
            let name = || CONNECTIONS[which].to_owned();
            let took = place.outside.tell(&Order::Take { name: name(), bytes }).await;
            let asked = place.outside.tell(&Order::Ask { name: name(), times: ASKED }).await;
            if number > 0 {
                all[which].bytes.push(took);
                all[which].byte.push(asked);
            }
        }
    }
    all
}

/// MiB a second.
fn rate(turns: &Turns, bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64 / (median(&turns.bytes) as f64 / 1e9)
}
